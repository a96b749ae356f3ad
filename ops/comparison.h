// Comparisons (bool tensors, not differentiable), also as operators, and selection by a mask. Two tensors are
// broadcast and promoted to the wider dtype. A number beside an integer tensor is compared as a number,
// whether the dtype has it or not (0.5, or 300 beside u8); beside a floating tensor it is rounded to the
// tensor's dtype. ShapeError for shapes that do not broadcast; DTypeError for a bool tensor beside a number
// other than 0 and 1, which is what C++ makes of 2 < x < 5.
#pragma once

#include <type_traits>

#include "autograd/tensor.h"

namespace tandem {

// Comparisons: =, !=, <, <=, >, >=, element by element; bool.
Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);
// Where a number is NaN, and where it is neither NaN nor infinite; bool.
inline Tensor isnan(const Tensor& x) { return ne(x, x); }
Tensor isfinite(const Tensor& x);
// Whether the two have one shape and the same elements in all passes (a NaN equals nothing), and whether
// |a - b| <= atol + rtol |b| everywhere, broadcast. A device is waited for.
bool equal(const Tensor& a, const Tensor& b);
bool allclose(const Tensor& a, const Tensor& b, double rtol = 1e-5, double atol = 1e-8);
// Logical operations: bool; what is not 0 is true.
Tensor logical_not(const Tensor& a);
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);

// condition ? a : b, all three broadcast. DTypeError where condition is not bool. A number beside a tensor is
// of its dtype, DTypeError where that does not have it; two numbers make i64 where both are whole, else f32.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, double b);
Tensor where(const Tensor& condition, double a, const Tensor& b);
template <class A, class B>
requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B> Tensor where(const Tensor& condition, A a, B b) {
  const DType dtype = std::is_integral_v<A> && std::is_integral_v<B> ? DType::i64 : DType::f32;
  return where(condition, full({}, static_cast<double>(a), {dtype, condition.device()}),
               static_cast<double>(b));
}
// x with `value` where mask (broadcast) is true. DTypeError where mask is not bool, or x's dtype holds
// integers of which `value` is none.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);
// x limited to [low, high]; gradient 1 inside (bounds included), 0 outside. ValueError where low > high,
// DTypeError where x's dtype holds integers and a bound that binds is none of them.
Tensor clamp(const Tensor& x, double low, double high);

// The same as operators, with a number on either side.
inline Tensor operator==(const Tensor& a, const Tensor& b) { return eq(a, b); }
inline Tensor operator==(const Tensor& a, double b) { return eq(a, b); }
inline Tensor operator==(double a, const Tensor& b) { return eq(b, a); }
inline Tensor operator!=(const Tensor& a, const Tensor& b) { return ne(a, b); }
inline Tensor operator!=(const Tensor& a, double b) { return ne(a, b); }
inline Tensor operator!=(double a, const Tensor& b) { return ne(b, a); }
inline Tensor operator<(const Tensor& a, const Tensor& b) { return lt(a, b); }
inline Tensor operator<(const Tensor& a, double b) { return lt(a, b); }
inline Tensor operator<(double a, const Tensor& b) { return gt(b, a); }
inline Tensor operator<=(const Tensor& a, const Tensor& b) { return le(a, b); }
inline Tensor operator<=(const Tensor& a, double b) { return le(a, b); }
inline Tensor operator<=(double a, const Tensor& b) { return ge(b, a); }
inline Tensor operator>(const Tensor& a, const Tensor& b) { return gt(a, b); }
inline Tensor operator>(const Tensor& a, double b) { return gt(a, b); }
inline Tensor operator>(double a, const Tensor& b) { return lt(b, a); }
inline Tensor operator>=(const Tensor& a, const Tensor& b) { return ge(a, b); }
inline Tensor operator>=(const Tensor& a, double b) { return ge(a, b); }
inline Tensor operator>=(double a, const Tensor& b) { return le(b, a); }
inline Tensor operator!(const Tensor& a) { return logical_not(a); }
// Of bool tensors; DTypeError for others, whose bits they could mean: logical_and and logical_or take any.
Tensor operator~(const Tensor& a);
Tensor operator&(const Tensor& a, const Tensor& b);
Tensor operator|(const Tensor& a, const Tensor& b);

}  // namespace tandem
