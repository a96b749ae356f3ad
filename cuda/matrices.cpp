#include "cuda/matrices.h"

#include "autograd/device_kernel.h"
#include "autograd/dispatch.h"
#include "ops/arithmetic_kernel.h"
#include "ops/inplace_kernel.h"
#include "ops/linear_kernel.h"
#include "ops/loops/map.h"
#include "ops/loops/pointwise_parts.h"

namespace tandem::cuda {
namespace {

using detail::Map;

// Of the output and the inputs: dimensions of size 1 dropped, neighbours merged where all strides allow.
template <int N> detail::Walk<N> walk_of(const MatrixBatch (&matrices)[N], int64_t batch) {
  const int64_t sizes[3] = {batch, matrices[0].rows, matrices[0].cols};
  detail::Walk<N> walk{};  // zeros where it is not used
  walk.numel = sizes[0] * sizes[1] * sizes[2];
  for (int d = 0; d < 3; ++d) {
    const auto stride = [&](int k) {
      const MatrixBatch& m = matrices[k];
      return d == 0 ? m.batch_stride : d == 1 ? m.row_stride : m.col_stride;
    };
    if (sizes[d] == 1 && !(d == 2 && walk.dims == 0)) continue;
    bool merges = walk.dims > 0;
    for (int k = 0; k < N; ++k) merges = merges && walk.strides[k][walk.dims - 1] == stride(k) * sizes[d];
    const int at = merges ? walk.dims - 1 : walk.dims++;
    walk.sizes[at] = merges ? walk.sizes[at] * sizes[d] : sizes[d];
    for (int k = 0; k < N; ++k) walk.strides[k][at] = stride(k);
  }
  return walk;
}

template <class F, class O, class... I, class... M>
void map(F f, int64_t batch, const MatrixBatch& out, const M&... in) {
  const MatrixBatch matrices[] = {out, in...};
  const Map<F, O, I...> args{
      walk_of(matrices, batch), f, static_cast<O*>(const_cast<void*>(out.data)), {in.data...}};
  const auto kernel = device_kernel<Map<F, O, I...>>;
  check<DeviceError>(kernel != nullptr,
                     "matmul: this build has no elementwise kernel for {} on device 'cuda'",
                     name_of(out.dtype));
  kernel(args);
}

}  // namespace

void convert(const MatrixBatch& from, const MatrixBatch& to, int64_t batch) {
  dispatch_floating("matmul", to.dtype, [&]<class O>() {
    dispatch_floating("matmul", from.dtype, [&]<class I>() {
      map<detail::Cast<compute_t<O>, compute_t<I>>, O, I>({}, batch, to, from);
    });
  });
}

void set_zero(const MatrixBatch& to, int64_t batch) {
  dispatch_floating("matmul", to.dtype,
                    [&]<class T>() { map<detail::Constant<compute_t<T>>, T>({0}, batch, to); });
}

void add(const MatrixBatch& from, const MatrixBatch& to, int64_t batch) {
  dispatch_floating("matmul", to.dtype, [&]<class T>() {
    map<detail::BinaryValue<detail::AddValue, compute_t<T>>, T, T, T>({}, batch, to, to, from);
  });
}

void add_row(const MatrixBatch& to, const void* row, int64_t batch) {
  add({row, to.dtype, to.rows, to.cols, 0, 1, 0}, to, batch);
}

void activate(Activation f, const MatrixBatch& from, const MatrixBatch& to, int64_t batch) {
  detail::with_activation(f, [&]<class F>() {
    if constexpr (std::is_same_v<F, detail::NoActivation>) {
      convert(from, to, batch);
    } else {
      dispatch_floating("matmul", to.dtype,
                        [&]<class T>() { map<detail::ValueOf<F, compute_t<T>>, T, T>({}, batch, to, from); });
    }
  });
}

}  // namespace tandem::cuda
