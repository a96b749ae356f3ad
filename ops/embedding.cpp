// y[i] = W[indices[i]];  dW[v] = the sum of g[i] over all i with indices[i] = v, and 0 for the padding row.
// The gradient lists the positions of every row first (a counting sort, which keeps their order); then each
// row of dW is zeroed and summed by one thread, in one sweep.
#include "ops/embedding.h"

#include <cstring>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/embedding_kernel.h"
#include "ops/loops/index.h"
#include "ops/loops/loop.h"
#include "ops/views.h"

namespace tandem {
namespace {

Tensor gather_rows(const Tensor& weight, const Tensor& indices, int64_t padding, bool padding_is_zero);
Tensor scatter_rows(const Tensor& g, const Tensor& indices, int64_t rows, int64_t padding);

int64_t rows_of_a_task(int64_t width) {
  return std::max<int64_t>(1, detail::kGrain / std::max<int64_t>(1, width));
}

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
    if (out.device() != kCpu) [[unlikely]] {
      dispatch_floating(name(), weight.dtype(), [&]<class T>() {
        run_on_device(weight, detail::TableRows<T>{weight.device_data<T>(), indices.device_data<int64_t>(),
                                                   out.device_data<T>(), count, width, rows,
                                                   padding_is_zero ? padding : -1});
      });
      return out;
    }
    const int64_t* index = indices.data<int64_t>();
    const int64_t bytes = width * size_of(weight.dtype());
    const char* table = static_cast<const char*>(weight.raw());
    char* target = static_cast<char*>(out.raw());
    parallel_for(count, rows_of_a_task(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (padding_is_zero && index[i] == padding) {
          std::memset(target + i * bytes, 0, bytes);
        } else {
          std::memcpy(target + i * bytes, table + index[i] * bytes, bytes);
        }
      }
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
    if (out.device() != kCpu) [[unlikely]] {
      dispatch_floating(name(), g.dtype(), [&]<class T>() {
        run_on_device(g, detail::TableRowSums<T>{g.device_data<T>(), indices.device_data<int64_t>(),
                                                 out.device_data<T>(), count, width, rows, padding});
      });
      return out;
    }
    const int64_t* index = indices.data<int64_t>();
    // positions[first[v] .. first[v + 1]) are those of row v, in order.
    std::vector<int64_t> first(rows + 2, 0), positions(count);
    for (int64_t i = 0; i < count; ++i) ++first[index[i] + 2];
    for (int64_t v = 2; v <= rows + 1; ++v) first[v] += first[v - 1];
    for (int64_t i = 0; i < count; ++i) positions[first[index[i] + 1]++] = i;
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      const T* source = g.data<T>();
      T* target = out.data<T>();
      parallel_for(rows, rows_of_a_task(width), [&](int64_t begin, int64_t end) {
        std::vector<A> sum(width);
        for (int64_t v = begin; v < end; ++v) {
          std::fill(sum.begin(), sum.end(), A(0));
          for (int64_t p = first[v]; v != padding && p < first[v + 1]; ++p) {
            const T* row = source + positions[p] * width;
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) sum[j] += static_cast<A>(row[j]);
          }
          for (int64_t j = 0; j < width; ++j) target[v * width + j] = sum[j];
        }
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

  const auto call = [](Shape weight, std::vector<int64_t> indices, int64_t padding = -1) {
    const Shape count{static_cast<int64_t>(indices.size())};
    return [=] { embedding(zeros(weight), from_values(indices, count), padding); };
  };
  c.fails<ValueError>("too large", "embedding: index 4 is out of range for size 4", call({4, 3}, {0, 4}));
  c.fails<ValueError>("negative", "embedding: index -1 is out of range for size 4", call({4, 3}, {-1}));
  c.fails<ValueError>("padding", "embedding: padding_idx 4 is out of range for 4 rows", call({4, 3}, {0}, 4));
  c.fails<ShapeError>("weight", "embedding: expected a weight [V, D], got f32[4]", call({4}, {0}));
  c.fails<DTypeError>("float indices", "embedding: expected an index dtype (i32, i64)", [] {
    embedding(zeros({4, 3}), zeros({2}));
  });
});

}  // namespace
}  // namespace tandem
