// Arguments of the group and batch norm kernels, compiled by host and device. x [N, C, ...] is read as
// segments, the positions of one channel of one sample, which lie densely; a group of segments is normalised
// together, and the weights belong to channels.
#pragma once

#include <cstdint>

#include "autograd/dtype.h"

namespace tandem::detail {

// Which segments are normalised together. Segment (p, i, c), of pass, sample and channel, has the number
// (p N + i) C + c.
struct ChannelGroups {
  int64_t passes, samples, channels, positions;
  int64_t groups;  // that the channels of a sample make; 0: a group is a channel of all samples of its pass

  constexpr int64_t segments() const { return passes * samples * channels; }
  constexpr int64_t count() const { return groups ? passes * samples * groups : passes * channels; }
  constexpr int64_t members() const { return groups ? channels / groups : samples; }  // segments of a group
  constexpr int64_t step() const { return groups ? 1 : channels; }  // from a member to the next
  constexpr int64_t first(int64_t group) const {
    return groups ? group * members() : group / channels * samples * channels + group % channels;
  }
  constexpr int64_t group_of(int64_t segment) const {
    return groups ? segment / members() : segment / (samples * channels) * channels + segment % channels;
  }
  // Of its weight among those of all passes.
  constexpr int64_t weight_of(int64_t segment) const {
    return segment / (samples * channels) * channels + segment % channels;
  }
};

// y = (x - mean) / sqrt(var + eps) weight + bias; mean and the biased variance of every group are given out.
// Weights are [passes, channels].
template <class T> struct ChannelNormArgs {
  using A = accumulate_t<T>;
  ChannelGroups shape;
  double eps;
  const T* x;
  const A *weight, *bias;
  T* y;
  A *mean, *var;
};

template <class T> struct ChannelNormGradArgs {
  using A = accumulate_t<T>;
  ChannelGroups shape;
  double eps;
  const T *x, *g;
  const A *weight, *mean, *var;
  T* dx;               // null: not wanted
  A *dweight, *dbias;  // [passes, channels]; null: not wanted
};

}  // namespace tandem::detail
