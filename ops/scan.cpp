// cumsum is linear; its vjp is the running sum from the other end.
#include "ops/scan.h"

#include <vector>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/loop.h"
#include "ops/scan_kernel.h"

namespace tandem {
namespace {

// The running sums of a dense row, vectors of them at a time.
template <class A, bool backwards, class O, class T> void sums_of_row(const T* x, O* out, int64_t n) {
  wide_t<A> total = 0;
#pragma omp simd reduction(inscan, + : total)
  for (int64_t k = 0; k < n; ++k) {
    total += static_cast<A>(static_cast<compute_t<T>>(x[backwards ? n - 1 - k : k]));
#pragma omp scan inclusive(total)
    out[backwards ? n - 1 - k : k] = static_cast<compute_t<O>>(total);
  }
}

struct Cumsum final : Op {
  int dim;
  bool backwards;
  Cumsum(int dim, bool backwards) : dim(dim), backwards(backwards) {}
  const char* name() const override { return "cumsum"; }

  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    const DType dtype = is_floating(x.dtype()) ? x.dtype() : DType::i64;
    const Tensor out = output(x.shape(), dtype, x.device());
    int64_t outer = x.passes(), inner = 1;
    for (int d = 0; d < x.dim(); ++d) (d < dim ? outer : inner) *= d == dim ? 1 : x.shape()[d];
    const int64_t n = x.shape()[dim];
    if (out.numel() == 0) return out;
    dispatch_all(x.dtype(), [&]<class T>() {
      using A = std::conditional_t<std::is_same_v<T, bool>, int64_t, accumulate_t<T>>;
      using O = std::conditional_t<std::is_same_v<A, int64_t>, int64_t, T>;
      if (run_on_device(x, detail::RunningSums<A, O, T>{x.device_data<T>(), out.device_data<O>(), outer, n,
                                                        inner, backwards})) {
        return;
      }
      const T* source = x.data<T>();
      O* target = out.data<O>();
      if (inner == 1) {
        const auto sums = backwards ? sums_of_row<A, true, O, T> : sums_of_row<A, false, O, T>;
        parallel_for(outer, std::max<int64_t>(1, detail::kGrain / n), [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) sums(source + row * n, target + row * n, n);
        });
        return;
      }
      const int64_t width = std::min<int64_t>(inner, 1024), blocks = (inner + width - 1) / width;
      const int64_t grain = std::max<int64_t>(1, detail::kGrain / (n * width));
      parallel_for(outer * blocks, grain, [&](int64_t begin, int64_t end) {
        std::vector<wide_t<A>> total(width);
        for (int64_t task = begin; task < end; ++task) {
          const int64_t first = task % blocks * width, count = std::min(width, inner - first);
          std::fill(total.begin(), total.end(), 0);
          for (int64_t k = 0; k < n; ++k) {
            const int64_t at = (task / blocks * n + (backwards ? n - 1 - k : k)) * inner + first;
            for (int64_t i = 0; i < count; ++i) {
              total[i] += static_cast<A>(static_cast<compute_t<T>>(source[at + i]));
              target[at + i] = static_cast<compute_t<O>>(total[i]);
            }
          }
        }
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<Cumsum>({g}, dim, !backwards)}; }
};

}  // namespace

Tensor cumsum(const Tensor& x, int64_t dim) {
  return apply<Cumsum>({x}, wrap_dim("cumsum", dim, x.dim()), false);
}

namespace {

const RegisterOp cumsum_op("cumsum", [](OpCases& c) {
  const auto along = bound(cumsum);
  c.sample("last", {c.normal({3, 4})}, along(-1));
  c.sample("first", {c.normal({3, 4})}, along(0));
  c.sample("middle", {c.normal({2, 3, 2})}, along(1));
  c.sample("one value", {c.normal({3, 1})}, along(1));
  c.sample("empty", {c.normal({3, 0})}, along(1));
  c.fails<ShapeError>("dim", "cumsum: dim 2 is out of range", {zeros({2, 3})}, along(2));
});

}  // namespace
}  // namespace tandem
