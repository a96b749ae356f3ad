// The ops that Tensor has as methods: x.reshape(...), x.exp(), x.sum(1). Views of its own are flatten(), t()
// and (un)squeeze(); x.index(...) is in index.cpp, x.to(...) in copy.cpp, x.pass(...) in passes.cpp.
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/extrema.h"
#include "ops/index.h"
#include "ops/indexing.h"
#include "ops/join.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/scan.h"
#include "ops/softmax.h"
#include "ops/sort.h"
#include "ops/views.h"

namespace tandem {

Tensor Tensor::reshape(const Shape& shape) const { return tandem::reshape(*this, shape); }
Tensor Tensor::permute(const Shape& dims) const { return tandem::permute(*this, dims); }
Tensor Tensor::transpose(int64_t a, int64_t b) const { return tandem::transpose(*this, a, b); }
Tensor Tensor::expand(const Shape& shape) const { return tandem::expand(*this, shape); }
Tensor Tensor::select(int64_t dim, int64_t index) const { return tandem::select(*this, dim, index); }

Tensor Tensor::slice(int64_t dim, int64_t start, int64_t end, int64_t step) const {
  return tandem::slice(*this, dim, start, end, step);
}

Tensor Tensor::t() const {
  check<ShapeError>(dim() == 2, "t: expected 2 dimensions, got {}", describe(*this));
  return transpose(0, 1);
}

Tensor Tensor::flatten(int64_t start_dim, int64_t end_dim) const {
  if (dim() == 0) return reshape({1});
  const int first = wrap_dim("flatten", start_dim, dim()), last = wrap_dim("flatten", end_dim, dim());
  check<ShapeError>(first <= last, "flatten: start_dim {} is after end_dim {}", start_dim, end_dim);
  Shape flat;
  int64_t merged = 1;
  for (int i = 0; i < dim(); ++i) {
    if (i >= first && i <= last) merged *= shape()[i];
    if (i < first || i > last) flat.push_back(shape()[i]);
    if (i == last) flat.push_back(merged);
  }
  return reshape(flat);
}

Tensor Tensor::squeeze() const {
  Shape rest;
  for (int64_t size : shape())
    if (size != 1) rest.push_back(size);
  return reshape(rest);
}

Tensor Tensor::squeeze(int64_t dim) const {
  const int d = wrap_dim("squeeze", dim, this->dim());
  if (shape()[d] != 1) return *this;
  Shape rest = shape();
  rest.erase(d);
  return reshape(rest);
}

Tensor Tensor::unsqueeze(int64_t dim) const {
  Shape wider = shape();
  wider.insert(wrap_dim("unsqueeze", dim, this->dim() + 1), 1);
  return reshape(wider);
}

Tensors Tensor::split(int64_t size, int64_t dim) const { return tandem::split(*this, size, dim); }
Tensors Tensor::split(const std::vector<int64_t>& sizes, int64_t dim) const {
  return tandem::split(*this, sizes, dim);
}
Tensors Tensor::chunk(int64_t chunks, int64_t dim) const { return tandem::chunk(*this, chunks, dim); }
Tensors Tensor::unbind(int64_t dim) const { return tandem::unbind(*this, dim); }

Tensor Tensor::gather(int64_t dim, const Tensor& index) const { return tandem::gather(*this, dim, index); }
Tensor Tensor::index_select(int64_t dim, const Tensor& indices) const {
  return tandem::index_select(*this, dim, indices);
}
Tensor Tensor::masked_select(const Tensor& mask) const { return tandem::masked_select(*this, mask); }
Tensor Tensor::masked_fill(const Tensor& mask, double value) const {
  return tandem::masked_fill(*this, mask, value);
}

Tensor Tensor::abs() const { return tandem::abs(*this); }
Tensor Tensor::square() const { return tandem::square(*this); }
Tensor Tensor::sqrt() const { return tandem::sqrt(*this); }
Tensor Tensor::rsqrt() const { return tandem::rsqrt(*this); }
Tensor Tensor::exp() const { return tandem::exp(*this); }
Tensor Tensor::log() const { return tandem::log(*this); }
Tensor Tensor::sin() const { return tandem::sin(*this); }
Tensor Tensor::cos() const { return tandem::cos(*this); }
Tensor Tensor::tanh() const { return tandem::tanh(*this); }
Tensor Tensor::sigmoid() const { return tandem::sigmoid(*this); }
Tensor Tensor::relu() const { return tandem::relu(*this); }
Tensor Tensor::pow(double exponent) const { return tandem::pow(*this, exponent); }
Tensor Tensor::pow(const Tensor& exponent) const { return tandem::pow(*this, exponent); }
Tensor Tensor::clamp(double low, double high) const { return tandem::clamp(*this, low, high); }
Tensor Tensor::maximum(const Tensor& other) const { return tandem::maximum(*this, other); }
Tensor Tensor::minimum(const Tensor& other) const { return tandem::minimum(*this, other); }
Tensor Tensor::eq(const Tensor& other) const { return tandem::eq(*this, other); }
Tensor Tensor::ne(const Tensor& other) const { return tandem::ne(*this, other); }
Tensor Tensor::lt(const Tensor& other) const { return tandem::lt(*this, other); }
Tensor Tensor::le(const Tensor& other) const { return tandem::le(*this, other); }
Tensor Tensor::gt(const Tensor& other) const { return tandem::gt(*this, other); }
Tensor Tensor::ge(const Tensor& other) const { return tandem::ge(*this, other); }
Tensor Tensor::eq(double number) const { return tandem::eq(*this, number); }
Tensor Tensor::ne(double number) const { return tandem::ne(*this, number); }
Tensor Tensor::lt(double number) const { return tandem::lt(*this, number); }
Tensor Tensor::le(double number) const { return tandem::le(*this, number); }
Tensor Tensor::gt(double number) const { return tandem::gt(*this, number); }
Tensor Tensor::ge(double number) const { return tandem::ge(*this, number); }

Tensor Tensor::sum(const Shape& dims, bool keepdim) const { return tandem::sum(*this, dims, keepdim); }
Tensor Tensor::mean(const Shape& dims, bool keepdim) const { return tandem::mean(*this, dims, keepdim); }
Tensor Tensor::prod(const Shape& dims, bool keepdim) const { return tandem::prod(*this, dims, keepdim); }
Tensor Tensor::var(const Shape& dims, double correction, bool keepdim) const {
  return tandem::var(*this, dims, correction, keepdim);
}
Tensor Tensor::std(const Shape& dims, double correction, bool keepdim) const {
  return tandem::stddev(*this, dims, correction, keepdim);
}
Tensor Tensor::amax(const Shape& dims, bool keepdim) const { return tandem::amax(*this, dims, keepdim); }
Tensor Tensor::amin(const Shape& dims, bool keepdim) const { return tandem::amin(*this, dims, keepdim); }
Tensor Tensor::logsumexp(const Shape& dims, bool keepdim) const {
  return tandem::logsumexp(*this, dims, keepdim);
}
Tensor Tensor::all(const Shape& dims, bool keepdim) const { return tandem::all(*this, dims, keepdim); }
Tensor Tensor::any(const Shape& dims, bool keepdim) const { return tandem::any(*this, dims, keepdim); }
Tensor Tensor::max() const { return tandem::max(*this); }
Tensor Tensor::min() const { return tandem::min(*this); }
Tensor Tensor::argmax() const { return tandem::argmax(*this); }
Tensor Tensor::argmin() const { return tandem::argmin(*this); }
ValuesIndices Tensor::max(int64_t dim, bool keepdim) const { return tandem::max(*this, dim, keepdim); }
ValuesIndices Tensor::min(int64_t dim, bool keepdim) const { return tandem::min(*this, dim, keepdim); }
Tensor Tensor::argmax(int64_t dim, bool keepdim) const { return tandem::argmax(*this, dim, keepdim); }
Tensor Tensor::argmin(int64_t dim, bool keepdim) const { return tandem::argmin(*this, dim, keepdim); }
ValuesIndices Tensor::sort(int64_t dim, bool descending) const {
  return tandem::sort(*this, dim, descending);
}
ValuesIndices Tensor::topk(int64_t k, int64_t dim, bool largest, bool sorted) const {
  return tandem::topk(*this, k, dim, largest, sorted);
}
Tensor Tensor::cumsum(int64_t dim) const { return tandem::cumsum(*this, dim); }
Tensor Tensor::softmax(int64_t dim) const { return tandem::softmax(*this, dim); }
Tensor Tensor::log_softmax(int64_t dim) const { return tandem::log_softmax(*this, dim); }
Tensor Tensor::matmul(const Tensor& other) const { return tandem::matmul(*this, other); }

}  // namespace tandem
