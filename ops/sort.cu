#include "cuda/sort.cuh"

#include "autograd/error.h"
#include "cuda/map.cuh"
#include "ops/sort_kernel.h"

namespace tandem {
namespace {

using namespace detail;

template <class T> struct LoadItem {
  const T* x;
  int64_t n;
  bool descending;
  __device__ auto operator()(int64_t row, int64_t i) const {
    const auto key = cuda::sort_key(static_cast<compute_t<T>>(x[row * n + i]));
    return cuda::make_item(descending ? ~key : key, static_cast<uint32_t>(i));
  }
};

struct StoreIndex {
  int64_t* out;
  int64_t k;
  template <class Item> __device__ void operator()(int64_t row, int64_t i, const Item& item) const {
    if (i < k) out[row * k + i] = cuda::index_of(item);
  }
};

template <class T> void launch(const SortedIndices<T>& a) {
  using Item = std::conditional_t<sizeof(compute_t<T>) == 8, cuda::WideItem, uint64_t>;
  check<ValueError>(a.n < int64_t{1} << 32, "sort: rows of {} values, expected less than 2^32 on this device",
                    a.n);
  cuda::sort_rows<Item>(a.rows, a.n, LoadItem<T>{a.x, a.n, a.descending}, StoreIndex{a.out, a.k});
}

const RegisterKernels registered{[] { cuda::for_all_types([]<class T>() { register_kernel(launch<T>); }); }};

}  // namespace
}  // namespace tandem
