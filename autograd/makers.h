// Makers of tensors; autograd/random.h has those of random numbers. Comes with autograd/tensor.h. Example:
//
//   Tensor a = zeros({2, 3}), b = tensor({{1, 2, 3}, {4, 5, 6}}), c = arange(6).reshape({2, 3});
//   Tensor places = tensor({0, 2, 1}, {DType::i64}), truths = tensor({true, false});
//   fmt::print("{}\n", a + b * c);
#pragma once

#include <cmath>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <vector>

#include "autograd/tensor.h"

namespace tandem {

// Elements of empty() are uninitialised. DTypeError where a value is none of the dtype's, as 0.5 of i64's.
Tensor empty(const Shape& shape, const TensorOptions& options = {}, int passes = 1);
Tensor full(const Shape& shape, double value, const TensorOptions& options = {});
Tensor zeros(const Shape& shape, const TensorOptions& options = {});
Tensor ones(const Shape& shape, const TensorOptions& options = {});
Tensor scalar(double value, const TensorOptions& options = {});  // shape []
Tensor eye(int64_t n, const TensorOptions& options = {});
// start, start + step, ... below end (above, for a negative step); f32, also of whole numbers.
Tensor arange(double start, double end, double step = 1, const TensorOptions& options = {});
inline Tensor arange(double end, const TensorOptions& options = {}) { return arange(0, end, 1, options); }
// `steps` numbers at equal distances from start to end, both included; ValueError where steps is negative.
Tensor linspace(double start, double end, int64_t steps, const TensorOptions& options = {});
// Of the shape, passes, dtype and device of x.
inline Tensor empty_like(const Tensor& x) { return empty(x.shape(), {x.dtype(), x.device()}, x.passes()); }
inline Tensor full_like(const Tensor& x, double value) { return empty_like(x).fill_(value); }
inline Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
inline Tensor ones_like(const Tensor& x) { return full_like(x, 1); }

// A tensor of T's dtype holding `values` in row-major order; ShapeError when their number is not
// shape.numel().
template <Element T> Tensor from_values(std::span<const T> values, const Shape& shape);
template <Element T> Tensor from_values(const std::vector<T>& values, const Shape& shape) {
  return from_values(std::span<const T>(values), shape);
}
template <> Tensor from_values(const std::vector<bool>& values, const Shape& shape);

// Numbers as they are written: 3; {1, 2.5}; {{1, 2}, {3, 4}}, to any depth.
class Numbers {
 public:
  // ValueError for a whole number beyond 2^53, which from_values takes.
  template <class T>
  requires std::is_arithmetic_v<T> Numbers(T value)
      : Numbers(static_cast<double>(value), std::is_same_v<T, bool>) {
    if constexpr (WholeNumber<T>) check_exact(std::abs(values_[0]));
  }
  Numbers(std::initializer_list<Numbers> rows);  // ShapeError for a row of another shape than the first

  const Shape& shape() const { return shape_; }                  // as the braces are nested
  const std::vector<double>& values() const { return values_; }  // in row-major order
  bool are_truths() const { return truths_; }                    // all of them, and there are some

 private:
  Numbers(double value, bool truth) : values_{value}, truths_(truth) {}
  static void check_exact(double magnitude);

  Shape shape_;
  std::vector<double> values_;
  bool truths_;
};

// tensor({{1, 2}, {3, 4}}): f32, however the numbers are written, or bool where all are true and false. With
// a shape, the numbers in row-major order; with options, of their dtype: tensor({0, 2}, {DType::i64}).
// DTypeError for a number that the dtype does not have, ValueError for one beyond its range.
Tensor tensor(const Numbers& numbers);
Tensor tensor(const Numbers& numbers, const Shape& shape);
Tensor tensor(const Numbers& numbers, const TensorOptions& options);
// The values as a vector of T's dtype.
template <Element T> Tensor tensor(const std::vector<T>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())});
}

}  // namespace tandem
