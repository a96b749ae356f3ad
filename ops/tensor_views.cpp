// The views that Tensor has as members: x.reshape(...), x.flatten(), x.index(...).
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

Tensor Tensor::index(const std::vector<Index>& indices) const {
  Tensor x = *this;
  int64_t used = 0, ellipses = 0;
  for (const Index& i : indices) {
    used += i.kind == Index::Kind::integer || i.kind == Index::Kind::slice;
    ellipses += i.kind == Index::Kind::ellipsis;
  }
  check<ShapeError>(used <= dim(), "index: {} indices for {}", used, describe(*this));
  check<ShapeError>(ellipses <= 1, "index: more than one ellipsis");
  int64_t d = 0;
  for (const Index& i : indices) {
    switch (i.kind) {
      case Index::Kind::integer:
        x = x.select(d, i.integer);
        break;
      case Index::Kind::new_axis:
        x = x.unsqueeze(d++);
        break;
      case Index::Kind::ellipsis:
        d += dim() - used;
        break;
      case Index::Kind::slice:
        x = x.slice(d, i.slice.start.value_or(0), i.slice.end.value_or(x.shape()[static_cast<int>(d)]),
                    i.slice.step);
        ++d;
    }
  }
  return x;
}

}  // namespace tandem
