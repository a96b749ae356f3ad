// y[i] = W[indices[i]];  dW[v] = the sum of g[i] over all i with indices[i] = v, and 0 for the padding row.
// The gradient lists the positions of every row first (a counting sort, which keeps their order); then each
// row of dW is zeroed and summed by one thread, in one sweep.
#include "ops/embedding.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/embedding_kernel.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/index.h"
#include "ops/loops/rows.h"
#include "ops/views.h"

namespace tandem {
namespace {

Tensor gather_rows(const Tensor& weight, const Tensor& indices, int64_t padding, bool padding_is_zero);
Tensor scatter_rows(const Tensor& g, const Tensor& indices, int64_t rows, int64_t padding);

struct Embedding final : Op {
  int64_t rows, padding;
  bool padding_is_zero;  // in the second derivative, where the padding row got nothing
  Embedding(int64_t rows, int64_t padding, bool padding_is_zero)
      : rows(rows), padding(padding), padding_is_zero(padding_is_zero) {}
  const char* name() const override { return "embedding"; }

  Tensor forward(const Tensors& in) override {
    const Tensor weight = dense(in[0]), indices = detail::checked_index("embedding", in[1], rows);
    save(in[1]);
    const int64_t count = indices.numel() * indices.passes(), width = weight.shape()[1];
    Shape shape = in[1].shape();
    shape.push_back(width);
    const Tensor out = output(shape, weight);
    dispatch_floating(name(), weight.dtype(), [&]<class T>() {
      const int64_t* index = indices.device_data<int64_t>();
      const T* table = weight.device_data<T>();
      T* target = out.device_data<T>();
      if (run_on_device(weight, detail::TableRows<T>{table, index, target, count, width, rows,
                                                     padding_is_zero ? padding : -1}))
        return;
      detail::for_each_row(count, width, [&](int64_t i) {
        if (padding_is_zero && index[i] == padding) {
          std::fill_n(target + i * width, width, T{});
        } else {
          std::copy_n(table + index[i] * width, width, target + i * width);
        }
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {scatter_rows(g, saved(0), rows, padding)}; }
};

// The gradient of the table; linear in g.
struct EmbeddingGrad final : Op {
  int64_t rows, padding;
  EmbeddingGrad(int64_t rows, int64_t padding) : rows(rows), padding(padding) {}
  const char* name() const override { return "embedding_grad"; }

  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]), indices = detail::checked_index("embedding", in[1], rows);
    save(in[1]);
    set_passes(1);
    const int64_t width = g.shape().back(), count = indices.numel() * indices.passes();
    const Tensor out = output({rows, width}, g);
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      const int64_t* index = indices.device_data<int64_t>();
      const T* source = g.device_data<T>();
      T* target = out.device_data<T>();
      if (run_on_device(g, detail::TableRowSums<T>{source, index, target, count, width, rows, padding}))
        return;
      // positions[first[v] .. first[v + 1]) are those of row v, in order.
      std::vector<int64_t> first(rows + 2, 0), positions(count);
      for (int64_t i = 0; i < count; ++i) ++first[index[i] + 2];
      for (int64_t v = 2; v <= rows + 1; ++v) first[v] += first[v - 1];
      for (int64_t i = 0; i < count; ++i) positions[first[index[i] + 1]++] = i;
      detail::for_each_row(rows, width, [&](int64_t v) {
        detail::ColumnSums<A> sums(width);
        for (int64_t p = first[v]; v != padding && p < first[v + 1]; ++p) {
          const T* row = source + positions[p] * width;
          A* sum = sums.next_row();
#pragma omp simd
          for (int64_t j = 0; j < width; ++j) sum[j] += static_cast<A>(row[j]);
        }
        sums.write(target + v * width);
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& c) override { return {gather_rows(c, saved(0), padding, true)}; }
};

Tensor gather_rows(const Tensor& weight, const Tensor& indices, int64_t padding, bool padding_is_zero) {
  if (weight.passes() == 1)
    return apply<Embedding>({weight, indices}, weight.size(0), padding, padding_is_zero);
  Tensors passes;
  for (int i = 0; i < weight.passes(); ++i) {
    passes.push_back(gather_rows(weight.pass(i), indices.pass(i), padding, padding_is_zero));
  }
  return stack_passes(passes);
}

Tensor scatter_rows(const Tensor& g, const Tensor& indices, int64_t rows, int64_t padding) {
  const Tensor all = g.passes() > indices.passes() ? stack_passes(Tensors(g.passes(), indices)) : indices;
  return apply<EmbeddingGrad>({g, all}, rows, padding);
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& indices, int64_t padding_idx) {
  check<ShapeError>(weight.dim() == 2, "embedding: expected a weight [V, D], got {}", describe(weight));
  check<DTypeError>(is_floating(weight.dtype()),
                    "embedding: expected a weight of a floating dtype (bf16, f32, f64), got {}",
                    describe(weight));
  check<ValueError>(padding_idx >= -1 && padding_idx < weight.size(0),
                    "embedding: padding_idx {} is out of range for {} rows, expected -1 or [0, {})",
                    padding_idx, weight.size(0), weight.size(0));
  return gather_rows(weight, indices, padding_idx, false);
}

namespace {

const RegisterOp embedding_op("embedding", [](OpCases& c) {
  const auto with = [](int64_t padding) {
    return [padding](const Tensors& in) { return embedding(in[0], in[1], padding); };
  };
  c.sample("some rows twice", {c.normal({4, 3}), c.integers({2, 5}, 0, 4)}, with(-1));
  // The gradient of a padding row is defined as 0, so differences disagree where one is read.
  c.sample("padding, unread", {c.normal({4, 3}), c.integers({8}, 0, 3)}, with(3));
  c.sample("one index, i32", {c.normal({4, 3}), c.integers({}, 0, 4).to(DType::i32)}, with(-1));
  c.sample("no index", {c.normal({4, 3}), c.integers({0, 2}, 0, 4)}, with(-1));

  const Tensor weight = zeros({4, 3}), first = zeros({1}, {DType::i64}), last = full({1}, 4, {DType::i64});
  c.fails<ValueError>("too large", "embedding: index 4 is out of range for size 4", {weight, last}, with(-1));
  c.fails<ValueError>("negative", "embedding: index -1 is out of range for size 4",
                      {weight, full({1}, -1, {DType::i64})}, with(-1));
  c.fails<ValueError>("padding", "embedding: padding_idx 4 is out of range for 4 rows", {weight, first},
                      with(4));
  c.fails<ShapeError>("weight", "embedding: expected a weight [V, D], got f32[4]", {zeros({4}), first},
                      with(-1));
  c.fails<DTypeError>("float indices", "embedding: expected an index dtype (i32, i64)", {weight, zeros({2})},
                      with(-1));
});

}  // namespace
}  // namespace tandem
