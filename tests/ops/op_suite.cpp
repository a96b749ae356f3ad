#include "tests/ops/op_suite.h"

#include <cmath>
#include <cstring>
#include <set>

#include "autograd/noise.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/views.h"
#include "tests/device.h"

namespace tandem::testing {

Samples samples_of(const OpInfo& op, DType dtype, uint64_t seed) {
  SampleMaker make(seed, dtype, device());
  return op.samples(make);
}

std::string registration_defects(const OpInfo& op) {
  const Samples samples = samples_of(op);
  if (samples.empty()) return op.name + ": has no samples";
  if (op.errors().empty() && op.no_errors.empty()) return op.name + ": has no error samples";
  if (!op.errors().empty() && !op.no_errors.empty()) return op.name + ": has error samples after all";
  std::set<std::string> labels;
  for (const Sample& sample : samples) {
    if (!labels.insert(sample.label).second) return op.name + ": has two samples '" + sample.label + "'";
  }
  return "";
}

Tensor strided_copy(const Tensor& x) {
  Shape wide = x.shape();
  wide.push_back(2);
  return empty(wide, {x.dtype(), x.device()}, x.passes()).select(-1, 1).copy_(x.detach());
}

Tensor several_passes(const Tensor& x, int m, uint64_t seed) {
  Tensors passes;
  for (int i = 0; i < m; ++i) {
    const Tensor shift = empty(x.shape(), {DType::f64});
    fill_uniform(noise_key(seed, i, 0, 0, Purpose::init), -1e-3, 1e-3, shift.data<double>(), x.numel());
    passes.push_back(x.detach().clone().add_(shift.to(x.device())));
  }
  return stack_passes(passes);
}

}  // namespace tandem::testing
