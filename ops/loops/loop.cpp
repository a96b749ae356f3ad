#include "ops/loops/loop.h"

#include <algorithm>

namespace tandem::detail {

template <int N> Walk<N> make_walk(const Tensor& output, const std::array<const Tensor*, N - 1>& inputs) {
  const int m = output.passes(), dims = output.dim();
  Walk<N> walk{};                                        // zeros where it is not used: kernels get all of it
  auto stride_at = [&](int operand, int d) -> int64_t {  // d = -1 is the pass dimension
    const Tensor& x = operand == 0 ? output : *inputs[operand - 1];
    if (d < 0) return x.pass_stride();
    const int own = d - (dims - x.dim());
    return own < 0 || x.shape()[own] == 1 ? 0 : x.strides()[own];
  };
  for (int d = m > 1 ? -1 : 0; d < dims; ++d) {
    const int64_t size = d < 0 ? m : output.shape()[d];
    walk.numel *= size;
    if (size == 1) continue;
    bool merges = walk.dims > 0;
    for (int k = 0; k < N && merges; ++k) merges = walk.strides[k][walk.dims - 1] == stride_at(k, d) * size;
    const int at = merges ? walk.dims - 1 : walk.dims++;
    walk.sizes[at] = merges ? walk.sizes[at] * size : size;
    for (int k = 0; k < N; ++k) walk.strides[k][at] = stride_at(k, d);
  }
  if (walk.dims == 0) {
    walk.dims = 1;
    walk.sizes[0] = 1;
    for (int k = 0; k < N; ++k) walk.strides[k][0] = 0;
  }
  return walk;
}

template <int N> void for_each_run(const Walk<N>& walk, Run<N> run, void* context, int64_t grain) {
  if (walk.numel == 0) return;
  const int last = walk.dims - 1;
  if (walk.dims == 1) {
    return parallel_for(walk.numel, grain, [&](int64_t begin, int64_t end) {
      std::array<int64_t, N> offsets;
      for (int k = 0; k < N; ++k) offsets[k] = begin * walk.strides[k][0];
      run(context, offsets, end - begin);
    });
  }
  const int64_t inner = walk.sizes[last], outer = walk.numel / inner;
  parallel_for(outer, std::max<int64_t>(1, grain / inner), [&](int64_t begin, int64_t end) {
    int64_t index[kMaxDims + 1];
    std::array<int64_t, N> offsets{};
    for (int64_t d = last - 1, rest = begin; d >= 0; --d) {
      index[d] = rest % walk.sizes[d];
      rest /= walk.sizes[d];
      for (int k = 0; k < N; ++k) offsets[k] += index[d] * walk.strides[k][d];
    }
    for (int64_t row = begin; row < end; ++row) {
      run(context, offsets, inner);
      for (int d = last - 1; d >= 0; --d) {
        for (int k = 0; k < N; ++k) offsets[k] += walk.strides[k][d];
        if (++index[d] < walk.sizes[d]) break;
        for (int k = 0; k < N; ++k) offsets[k] -= walk.sizes[d] * walk.strides[k][d];
        index[d] = 0;
      }
    }
  });
}

template Walk<1> make_walk<1>(const Tensor&, const std::array<const Tensor*, 0>&);
template Walk<2> make_walk<2>(const Tensor&, const std::array<const Tensor*, 1>&);
template Walk<3> make_walk<3>(const Tensor&, const std::array<const Tensor*, 2>&);
template Walk<4> make_walk<4>(const Tensor&, const std::array<const Tensor*, 3>&);
template void for_each_run<1>(const Walk<1>&, Run<1>, void*, int64_t);
template void for_each_run<2>(const Walk<2>&, Run<2>, void*, int64_t);
template void for_each_run<3>(const Walk<3>&, Run<3>, void*, int64_t);
template void for_each_run<4>(const Walk<4>&, Run<4>, void*, int64_t);

}  // namespace tandem::detail
