// Arithmetic of two tensors (broadcast, promoted to the wider dtype) or of a tensor and a number (the
// tensor's dtype is kept; DTypeError where that dtype holds integers and neither the number nor its negative
// is one of them; results beyond the dtype wrap around). ShapeError for shapes that do not broadcast,
// DTypeError for bools.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Element by element.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);      // floating dtypes
Tensor pow(const Tensor& a, const Tensor& b);      // floating dtypes; a >= 0 where b is not an integer
Tensor maximum(const Tensor& a, const Tensor& b);  // the gradient of a tie goes half to each
Tensor minimum(const Tensor& a, const Tensor& b);

// factor * x + shift in one pass over memory, and x to the power of a number. A shift of -0.0 is none: 0
// would take the sign of a zero.
Tensor affine(const Tensor& x, double factor, double shift);
Tensor pow(const Tensor& x, double exponent);
// Of floating tensors, divided: a product with 1 / s may be another number.
Tensor operator/(const Tensor& x, double s);
Tensor operator/(double s, const Tensor& x);
// A number as a tensor of the other's dtype; DTypeError where that dtype does not have it.
Tensor pow(double base, const Tensor& exponent);
Tensor maximum(const Tensor& x, double number);
Tensor minimum(const Tensor& x, double number);
inline Tensor maximum(double number, const Tensor& x) { return maximum(x, number); }
inline Tensor minimum(double number, const Tensor& x) { return minimum(x, number); }

// As operators, of tensors and numbers.
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& x) { return affine(x, -1, -0.0); }
inline Tensor operator+(const Tensor& x, double s) { return affine(x, 1, s); }
inline Tensor operator+(double s, const Tensor& x) { return affine(x, 1, s); }
inline Tensor operator-(const Tensor& x, double s) { return affine(x, 1, -s); }
inline Tensor operator-(double s, const Tensor& x) { return affine(x, -1, s); }
inline Tensor operator*(const Tensor& x, double s) { return affine(x, s, -0.0); }
inline Tensor operator*(double s, const Tensor& x) { return affine(x, s, -0.0); }

}  // namespace tandem
