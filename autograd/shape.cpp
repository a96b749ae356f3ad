#include "autograd/shape.h"

#include <algorithm>

namespace tandem {

int Shape::place_from_end(int i) const {
  check<ShapeError>(i >= -count_ && i < count_, "shape: index {} is out of range for {} dimensions of {}", i,
                    count_, *this);
  return i + count_;
}

void Shape::insert(int at, int64_t size) {
  check<ShapeError>(at >= 0 && at <= count_, "shape: cannot insert at {} into {}", at, *this);
  push_back(size);
  std::rotate(sizes_ + at, sizes_ + count_ - 1, sizes_ + count_);
}

void Shape::erase(int at) {
  at = place(at);
  std::copy(sizes_ + at + 1, sizes_ + count_, sizes_ + at);
  --count_;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.size(); ++i) {
    if (i) text += ',';
    text += std::to_string(shape[i]);
  }
  return text += ']';
}

void Shape::raise_too_large() const {
  raise<ShapeError>("shape: {} has more elements than 64 bits can count", *this);
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides = shape;
  int64_t step = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

Shape broadcast(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const int shift = longer.size() - shorter.size();
  for (int i = 0; i < shorter.size(); ++i) {
    int64_t& size = result[i + shift];
    if (size == 1) size = shorter[i];
    check<ShapeError>(shorter[i] == size || shorter[i] == 1, "{}: shapes {} and {} do not broadcast", op, a,
                      b);
  }
  return result;
}

int wrap_dim(const char* op, int64_t dim, int dims) {
  check<ShapeError>(dim >= -dims && dim < dims, "{}: dim {} is out of range for a tensor of {} dimensions",
                    op, dim, dims);
  return static_cast<int>(dim < 0 ? dim + dims : dim);
}

Shape wrap_dims(const char* op, const Shape& dims, int count) {
  Shape wrapped;
  bool seen[kMaxDims + 1] = {};
  for (int64_t dim : dims) {
    const int d = wrap_dim(op, dim, count);
    check<ShapeError>(!seen[d], "{}: dim {} appears twice in {}", op, d, dims);
    seen[d] = true;
    wrapped.push_back(d);
  }
  return wrapped;
}

}  // namespace tandem
