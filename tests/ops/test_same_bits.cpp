// Our own kernels give the same bits for any number of threads: every sample of every op, enlarged by passes
// until kernels divide the work.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "tests/device.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr int64_t kElements = 100'000;   // of an input: a few times what one thread would take alone
constexpr int64_t kMostPasses = 16'384;  // some ops take one at a time

bool is_float(const Tensor& x) { return x.defined() && is_floating(x.dtype()); }

// x in m passes, each a little different.
Tensor enlarged(const Tensor& x, int m) {
  const Tensor y = empty(x.shape(), {x.dtype()}, m).copy_(x.detach());
  dispatch_floating("enlarged", x.dtype(), [&]<class T>() {
    T* const data = y.data<T>();
    for (int64_t i = 0; i < y.numel() * m; ++i)
      data[i] = data[i] + static_cast<T>(static_cast<uint32_t>(i) * 2654435761u >> 16) / T(1 << 26);
  });
  return y;
}

// Where an op means the same in every pass, all inputs but one have many, so that the gradient of that one is
// a sum over them.
Tensors enlarged(const OpInfo& op, const Tensors& inputs, size_t shared) {
  int64_t most = 1;
  for (const Tensor& x : inputs)
    if (is_float(x)) most = std::max(most, x.numel());
  Tensors result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool enlarge = is_float(inputs[i]) && inputs[i].passes() == 1 && i != shared &&
                         !op.crosses_passes && !op.draws_noise;
    const int64_t m = std::min(kElements / most, kMostPasses);
    result.push_back(enlarge ? enlarged(inputs[i], static_cast<int>(m)) : inputs[i]);
  }
  return result;
}

size_t hash(const Tensor& x) {
  const Tensor flat = dense(x.detach());
  const auto bytes = static_cast<size_t>(flat.numel() * flat.passes() * size_of(flat.dtype()));
  return std::hash<std::string_view>()({static_cast<const char*>(flat.raw()), bytes});
}

// The output, and the gradients of the inputs.
Tensors results(const OpInfo& op, const Function& function, const Tensors& inputs) {
  Tensors leaves;
  for (const Tensor& x : inputs)
    leaves.push_back(is_float(x) && op.differentiable ? x.detach().requires_grad_() : x);
  const Tensor y = function(leaves);
  Tensors all{y.detach()};
  if (!y.requires_grad()) return all;
  y.backward(is_float(y) && y.numel() > 0 ? y.detach() : ones_like(y));
  for (const Tensor& x : leaves)
    if (x.defined() && x.requires_grad() && x.grad().defined()) all.push_back(x.grad());
  return all;
}

// Products of f32 are oneDNN's, which divides its sums by the threads it has; those of f64 are ours.
bool is_product(const OpInfo& op) {
  static const std::set<std::string> names{
      "conv2d", "cosine_similarity",          "einsum", "feed_forward", "interpolate",
      "linear", "linear_rdrop_cross_entropy", "matmul"};
  return names.contains(op.name);
}

Samples largest_of(const Samples& samples) {
  const auto elements = [](const Sample& sample) {
    int64_t most = 0;
    for (const Tensor& x : sample.inputs)
      if (x.defined()) most = std::max(most, x.numel());
    return most;
  };
  return {*std::max_element(samples.begin(), samples.end(),
                            [&](const Sample& a, const Sample& b) { return elements(a) < elements(b); })};
}

bool is_divided(const Tensor& x) { return x.defined() && x.numel() * x.passes() > kElements / 2; }

void check_bits(const std::vector<int>& counts, const std::function<Samples(const Samples&)>& choose,
                int least_divided) {
  if (device() != kCpu) return;
  const int outer = num_threads();
  std::map<std::string, size_t> expected;  // of one thread
  int divided = 0;
  for (const int threads : counts) {
    set_num_threads(threads);
    for (const OpInfo& op : registered_ops()) {
      size_t index = 0;
      for (const Sample& sample : choose(samples_of(op, is_product(op) ? DType::f64 : DType::f32))) {
        const size_t count = sample.inputs.size();
        for (const size_t shared : {count, index++ % std::max<size_t>(count, 1)}) {  // none, then one
          const Tensors inputs = enlarged(op, sample.inputs, shared);
          divided += threads == 1 && std::any_of(inputs.begin(), inputs.end(), is_divided);
          const Tensors got = results(op, sample.function, inputs);
          for (size_t i = 0; i < got.size(); ++i) {
            const std::string what =
                fmt::format("{}, sample '{}', input {} shared, {}", op.name, sample.label, shared,
                            i ? fmt::format("gradient {}", i) : "output");
            const size_t bits = hash(got[i]);
            const bool same = expected.try_emplace(what, bits).first->second == bits;
            CHECK_MESSAGE(same, what, ", ", threads, " threads");
          }
        }
      }
    }
  }
  set_num_threads(outer);
  CHECK(divided >= least_divided);
}

}  // namespace

TEST_CASE("every op gives the same bits for 1 and 3 threads") { check_bits({1, 3}, largest_of, 80); }

// In the suite `full`: thousands of loops that 7 threads share take minutes where other programs run.
TEST_CASE("every sample of every op gives the same bits for 1, 2, 3 and 7 threads" * doctest::skip()) {
  check_bits(
      {1, 2, 3, 7}, [](const Samples& all) { return all; }, 400);
}
