// Indices are sorted, by value and then by index (ops/loops/sort_keys.h): a strict order, so that every
// algorithm is stable. The values are gathered, and so is their gradient.
#include "ops/sort.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/loops/gather.h"
#include "ops/loops/loop.h"
#include "ops/loops/sort_keys.h"
#include "ops/sort_kernel.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct Order {
  int64_t k;        // how many of each row
  bool descending;  // the largest first
  bool sorted;      // or in the order of x
};

// The indices of the first k of each row (the last dimension) in the wanted order.
struct ArgSort final : Op {
  Order order;
  explicit ArgSort(const Order& order) : order(order) {}
  const char* name() const override { return "argsort"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    const int64_t n = x.size(-1), k = order.k;
    Shape shape = x.shape();
    shape[x.dim() - 1] = k;
    const Tensor out = output(shape, DType::i64, x.device());
    if (out.numel() == 0) return out;
    dispatch_all(x.dtype(), [&]<class T>() {
      const int64_t rows = x.numel() * x.passes() / n;
      if (run_on_device(x, detail::SortedIndices<T>{x.device_data<T>(), out.device_data<int64_t>(), rows, n,
                                                    k, order.descending})) {
        return;
      }
      check<ValueError>(n <= std::numeric_limits<uint32_t>::max(),
                        "{}: at most 2^32 - 1 elements are sorted, got {}", name(), n);
      const T* source = x.data<T>();
      int64_t* target = out.data<int64_t>();
      parallel_for(rows, std::max<int64_t>(1, detail::kGrain / 16 / n), [&](int64_t begin, int64_t end) {
        std::vector<detail::SortKey<T>> keys(n);
        for (int64_t row = begin; row < end; ++row) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i)
            keys[i] = detail::sort_key(source[row * n + i], i, order.descending);
          detail::choose_first(keys, k, order.sorted);
          for (int64_t i = 0; i < k; ++i) target[row * k + i] = detail::index_of(keys[i]);
        }
      });
    });
    if (order.sorted || x.device() == kCpu) return out;
    // A device's kernel always sorts: back to the order of x, by sorting the indices.
    return detail::gather_known(out, out.dim() - 1, apply<ArgSort>({out}, Order{k, false, true}));
  }
  Tensors vjp(const Tensor&) override { return {}; }
};

ValuesIndices ordered(const Tensor& x, int dim, const Order& order) {
  const Tensor rows = detail::turned(x, dim), index = apply<ArgSort>({rows.detach()}, order);
  return {detail::turned(detail::gather_known(rows, rows.dim() - 1, index), dim), detail::turned(index, dim)};
}

}  // namespace

ValuesIndices sort(const Tensor& x, int64_t dim, bool descending) {
  const int d = wrap_dim("sort", dim, x.dim());
  return ordered(x, d, {x.shape()[d], descending, true});
}

Tensor argsort(const Tensor& x, int64_t dim, bool descending) {
  const int d = wrap_dim("argsort", dim, x.dim());
  const Tensor rows = x.detach().transpose(d, -1);
  return detail::turned(apply<ArgSort>({rows}, Order{x.shape()[d], descending, true}), d);
}

ValuesIndices topk(const Tensor& x, int64_t k, int64_t dim, bool largest, bool sorted) {
  const int d = wrap_dim("topk", dim, x.dim());
  check<ValueError>(k >= 0 && k <= x.shape()[d], "topk: k = {} of dim {} of {}: expected 0 to {}", k, d,
                    describe(x), x.shape()[d]);
  return ordered(x, d, {k, largest, sorted});
}

namespace {

// f(x, dim, descending): the values, or the index.
using AlongDim = Tensor (*)(const Tensor&, int64_t, bool);
RegisterOp register_sort(const std::string& name, bool differentiable, AlongDim f) {
  const auto cases = [=](OpCases& c) {
    const auto along = bound(f);
    c.sample("last", {c.distinct({3, 4})}, along(-1, false));
    c.sample("first, descending", {c.distinct({4, 3})}, along(0, true));
    c.sample("middle", {c.distinct({2, 5, 3})}, along(1, false));
    c.sample("empty", {c.distinct({2, 0})}, along(1, false));
    c.fails<ShapeError>("dim", name + ": dim 1 is out of range for a tensor of 1 dimensions", {zeros({3})},
                        along(1, false));
  };
  return RegisterOp(name, cases, {.differentiable = differentiable});
}

const RegisterOp sort_op = register_sort(
    "sort", true, [](const Tensor& x, int64_t dim, bool down) { return sort(x, dim, down).values; });
const RegisterOp argsort_op = register_sort("argsort", false, argsort);

const RegisterOp topk_op("topk", [](OpCases& c) {
  const auto first = bound(+[](const Tensor& x, int64_t k, int64_t dim, bool largest, bool sorted) {
    return topk(x, k, dim, largest, sorted).values;
  });
  c.sample("largest", {c.distinct({3, 5})}, first(2, -1, true, true));
  c.sample("smallest, first dim", {c.distinct({4, 3})}, first(3, 0, false, true));
  c.sample("unsorted", {c.distinct({2, 6})}, first(3, 1, true, false));
  c.sample("all", {c.distinct({4})}, first(4, 0, true, true));
  c.sample("none", {c.distinct({4})}, first(0, 0, true, true));
  c.fails<ValueError>("k", "topk: k = 4 of dim 0 of f32[3]: expected 0 to 3", {zeros({3})},
                      first(4, 0, true, true));
  c.fails<ValueError>("negative", "topk: k = -1", {zeros({3})}, first(-1, 0, true, true));
});

}  // namespace
}  // namespace tandem
