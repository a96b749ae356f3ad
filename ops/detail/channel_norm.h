// Group norm and batch norm: x [N, C, ...] is read as segments, the positions of one channel of one sample,
// which lie densely; a group of segments is normalised together, and the weights belong to channels.
#pragma once

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/detail/norm.h"
#include "ops/detail/reduce.h"
#include "ops/detail/rows.h"
#include "ops/views.h"

namespace tandem::detail {

// Which segments are normalised together. Segment (p, i, c), of pass, sample and channel, has the number
// (p N + i) C + c.
struct ChannelGroups {
  int64_t passes, samples, channels, positions;
  int64_t groups;  // that the channels of a sample make; 0: a group is a channel of all samples of its pass

  int64_t segments() const { return passes * samples * channels; }
  int64_t count() const { return groups ? passes * samples * groups : passes * channels; }
  int64_t members() const { return groups ? channels / groups : samples; }  // segments of a group
  int64_t step() const { return groups ? 1 : channels; }                    // from a member to the next
  int64_t first(int64_t group) const {
    return groups ? group * members() : group / channels * samples * channels + group % channels;
  }
  int64_t group_of(int64_t segment) const {
    return groups ? segment / members() : segment / (samples * channels) * channels + segment % channels;
  }
  // Of its weight among those of all passes.
  int64_t weight_of(int64_t segment) const {
    return segment / (samples * channels) * channels + segment % channels;
  }
};

// Mean and biased variance of every group: those of its segments, joined (Chan, Golub & LeVeque 1979).
template <class T, class A>
void channel_statistics(const ChannelGroups& shape, const T* x, A* mean, A* var) {
  const int64_t s = shape.positions;
  std::vector<MeanVar<A>> parts(shape.segments());
  for_each_row(shape.segments(), s, [&](int64_t i) { parts[i] = row_mean_var(x + i * s, s); });
  for_each_row(shape.count(), shape.members(), [&](int64_t q) {
    const MeanVar<A>* part = parts.data() + shape.first(q);
    const int64_t step = shape.step(), members = shape.members();
    A total = 0, squares = 0;
    for (int64_t k = 0; k < members; ++k) total += part[k * step].mean;
    const A m = total / static_cast<A>(members);
    for (int64_t k = 0; k < members; ++k) {
      const A d = part[k * step].mean - m;
      squares += part[k * step].var + d * d;
    }
    mean[q] = m, var[q] = squares / static_cast<A>(members);
  });
}

// Inputs x, weight, bias. Derived adds its name and, for batch norm, hands out the statistics.
struct ChannelNorm : Op {
  static constexpr bool batches_passes = true;
  int64_t groups;
  double eps;
  bool weighted = false;
  ChannelNorm(int64_t groups, double eps) : groups(groups), eps(eps) {}

  // Mean and biased variance of every group, [2, count] of doubles or floats.
  virtual void took(const Tensor& statistics) { (void)statistics; }

  Tensor forward(const Tensors& in) override;
  Tensors vjp(const Tensor& g) override;

 private:
  ChannelGroups shape_of(const Shape& x) const;
  Tensors composed(const Tensor& g);
  template <class T>
  Tensors fused(const Tensor& g);
};

}  // namespace tandem::detail
