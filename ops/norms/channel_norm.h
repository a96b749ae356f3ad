// Group norm and batch norm, by segments (channel_norm_args.h).
#pragma once

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/rows.h"
#include "ops/norms/affine.h"
#include "ops/norms/channel_norm_args.h"
#include "ops/views.h"

namespace tandem::detail {

// Mean and biased variance of every group: those of its segments, joined (Chan, Golub & LeVeque 1979).
template <class T, class A> void channel_statistics(const ChannelGroups& shape, const T* x, A* mean, A* var) {
  const int64_t s = shape.positions;
  std::vector<MeanVar<A>> parts(shape.segments());
  for_each_row(shape.segments(), s, [&](int64_t i) { parts[i] = row_mean_var(x + i * s, s); });
  for_each_row(shape.count(), shape.members(), [&](int64_t q) {
    const MeanVar<A>* part = parts.data() + shape.first(q);
    const int64_t step = shape.step(), members = shape.members();
    double total = 0, squares = 0;
    for (int64_t k = 0; k < members; ++k) total += part[k * step].mean;
    const double m = total / static_cast<double>(members);
    for (int64_t k = 0; k < members; ++k) {
      const double d = part[k * step].mean - m;
      squares += part[k * step].var + d * d;
    }
    mean[q] = static_cast<A>(m), var[q] = static_cast<A>(squares / static_cast<double>(members));
  });
}

// Inputs x, weight, bias. Derived has a name and a forward, which calls normalise().
struct ChannelNorm : Op {
  int64_t groups;  // of channels; 0: batch norm's
  double eps;
  bool relu;  // of the result; on the CPU only
  ChannelNorm(int64_t groups, double eps, bool relu = false) : groups(groups), eps(eps), relu(relu) {}

  struct Result {
    Tensor y;
    Tensor statistics;  // mean and biased variance of every group, [2, count] of doubles or floats
  };
  Result normalise(const Tensors& in);
  Tensors vjp(const Tensor& g) override;

 private:
  ChannelGroups shape_of(const Shape& x) const;
  Tensors composed(const Tensor& g);
  template <class T> Tensors fused(const Tensor& g);
};

}  // namespace tandem::detail
