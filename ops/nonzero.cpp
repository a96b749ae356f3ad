// The places of what is not 0: counted chunk by chunk, so that every chunk knows where its own go. A mask
// selects by them.
#include <algorithm>
#include <numeric>
#include <vector>

#include "autograd/op.h"
#include "autograd/parallel.h"
#include "autograd/registry.h"
#include "ops/index.h"
#include "ops/loops/gather.h"
#include "ops/loops/index.h"
#include "ops/loops/loop.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct Nonzero final : Op {
  const char* name() const override { return "nonzero"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0].to(kCpu));
    const int64_t n = x.numel(), chunks = (n + kChunk - 1) / kChunk;
    std::vector<int64_t> first(chunks + 1);  // of each chunk, among all places
    Tensor out;
    dispatch_all(x.dtype(), [&]<class T>() {
      const T* values = x.data<T>();
      parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
          const T* from = values + c * kChunk;
          first[c + 1] =
              std::count_if(from, values + std::min(n, (c + 1) * kChunk), [](T v) { return v != T(0); });
        }
      });
      std::partial_sum(first.begin(), first.end(), first.begin());
      out = empty({first.back(), x.dim()}, {DType::i64});
      int64_t* rows = out.data<int64_t>();
      parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
          write_places(values, c * kChunk, std::min(n, (c + 1) * kChunk), x.shape(),
                       rows + first[c] * x.dim());
      });
    });
    return out.to(in[0].device());
  }
  Tensors vjp(const Tensor&) override { return {}; }

 private:
  static constexpr int64_t kChunk = 4096;

  // The coordinates of those of values[begin, end) that are not 0.
  template <class T>
  static void write_places(const T* values, int64_t begin, int64_t end, const Shape& shape, int64_t* row) {
    int64_t places[kChunk + 1], count = 0;
    for (int64_t i = begin; i < end; ++i) {  // no branch, which would be guessed
      places[count] = i;
      count += values[i] != T(0);
    }
    const int dims = shape.size();
    for (int64_t p = 0; dims > 0 && p < count; ++p, row += dims) {
      int64_t place = places[p];
      for (int d = dims - 1; d > 0; --d) row[d] = place % shape[d], place /= shape[d];
      row[0] = place;
    }
  }
};

}  // namespace

Tensor nonzero(const Tensor& x) {
  detail::check_one_pass("nonzero", x);
  return apply<Nonzero>({x.detach()});
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  check<DTypeError>(mask.dtype() == DType::boolean, "masked_select: the mask must be bool, got {}",
                    describe(mask));
  detail::check_one_pass("masked_select", mask);
  const Shape shape = broadcast("masked_select", x.shape(), mask.shape());
  const Tensor places = nonzero(mask.expand(shape).reshape({shape.numel()}));
  return detail::gather_known(x.expand(shape).reshape({shape.numel()}), 0, places.reshape({places.numel()}));
}

namespace {

const RegisterOp masked_select_op("masked_select", [](OpCases& c) {
  const auto of = bound(masked_select);
  c.sample("equal", {c.normal({3, 4})}, of(c.mask({3, 4})));
  c.sample("column", {c.normal({3, 4})}, of(c.mask({3, 1})));
  c.sample("row", {c.normal({4})}, of(c.mask({3, 4})));
  c.sample("number", {c.normal({})}, of(ones({}, {DType::boolean})));
  c.sample("none", {c.normal({3})}, of(zeros({3}, {DType::boolean})));
  c.fails<DTypeError>("mask", "masked_select: the mask must be bool, got f32[2]", {zeros({2})},
                      of(zeros({2})));
  c.fails<ShapeError>("passes", "masked_select: bool[2] x 2 passes: expected one pass", {zeros({2})},
                      of(empty({2}, {DType::boolean}, 2)));
});

void nonzero_cases(OpCases& c) {
  c.sample("mask", {c.mask({3, 4})}, call(nonzero));
  c.sample("integers", {c.integers({2, 3, 2}, -1, 2)}, call(nonzero));
  c.sample("number", {c.integers({}, 1, 3)}, call(nonzero));
  c.sample("none", {c.integers({0, 3}, 0, 1)}, call(nonzero));
  c.fails<ShapeError>("passes", "nonzero: f32[2] x 2 passes: expected one pass", {empty({2}, {}, 2)},
                      call(nonzero));
}
const RegisterOp nonzero_op("nonzero", nonzero_cases, {.differentiable = false});

}  // namespace
}  // namespace tandem
