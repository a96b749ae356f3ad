#include "ops/products/cached_cast.h"

#include <algorithm>
#include <mutex>

#include "autograd/grad_mode.h"
#include "autograd/tensor_impl.h"

namespace tandem::detail {
namespace {

Tensor join(const Tensors& parts, DType dtype) {
  const NoGradGuard guard;
  Shape shape = parts[0].shape();
  shape[0] = 0;
  for (const Tensor& part : parts) shape[0] += part.size(0);
  const Tensor all = empty(shape, {dtype, parts[0].device()});
  int64_t row = 0;
  for (const Tensor& part : parts) {
    Shape own = part.shape();
    if (part.numel() > 0) copy_elements(make_view(all, own, all.strides(), row * all.strides()[0]), part);
    row += part.size(0);
  }
  return all;
}

bool is_whole(const Tensor& x) {
  return x.is_contiguous() && x.passes() == 1 && x.numel() * size_of(x.dtype()) == x.impl()->storage->bytes;
}

}  // namespace

Tensor cached_join(const Tensors& parts, DType dtype) {
  if (!std::all_of(parts.begin(), parts.end(), is_whole)) return join(parts, dtype);
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::optional<Storage::Join>& known = parts[0].impl()->storage->join;
  const auto is_of = [](const Storage::Join::Part& of, const Tensor& part) {
    return of.storage.lock() == part.impl()->storage && of.shape == part.shape() &&
           of.version == part.version();
  };
  if (!known || known->all.dtype() != dtype || known->parts.size() != parts.size() ||
      !std::equal(parts.begin(), parts.end(), known->parts.begin(),
                  [&](const Tensor& part, const auto& of) { return is_of(of, part); })) {
    known = {join(parts, dtype), {}};
    for (const Tensor& part : parts)
      known->parts.push_back({part.impl()->storage, part.shape(), part.version()});
  }
  return known->all;
}

Tensor cached_cast(const Tensor& w, DType dtype) {
  if (w.dtype() == dtype) return w;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  Storage& storage = *w.impl()->storage;
  std::optional<Storage::Cast>& cast = storage.cast;
  if (!cast || cast->from != w.dtype() || cast->to != dtype || cast->version != storage.version) {
    const NoGradGuard guard;
    auto all = std::make_shared<TensorImpl>();
    all->storage = w.impl()->storage;
    all->shape = {storage.bytes / size_of(w.dtype())};
    all->strides = {1};
    all->dtype = w.dtype();
    cast = {Tensor(std::move(all)).to(dtype).impl()->storage, w.dtype(), dtype, storage.version};
  }
  auto view = std::make_shared<TensorImpl>();
  view->storage = cast->storage;
  view->offset = w.impl()->offset;
  view->shape = w.shape();
  view->strides = w.strides();
  view->passes = w.passes();
  view->pass_stride = w.pass_stride();
  view->dtype = dtype;
  return Tensor(std::move(view));
}

}  // namespace tandem::detail
