// Tensors, shapes, dtypes and devices as text: fmt::format("{}", x), fmt::print, std::cout << x, to_string.
// Comes with autograd/tensor.h.
//
// A tensor is written as PyTorch writes it: 4 digits, in scientific notation where the magnitudes ask for it;
// of more than 1000 elements, the first and last 3 along each dimension. Behind the numbers, what is not
// seen: dtype (but f32, i64 and bool), device (but the CPU) and passes (but 1, the numbers' first dimension).
#pragma once

#include <concepts>
#include <iosfwd>
#include <string>

#include "autograd/tensor.h"

namespace tandem {

// As PyTorch writes it: "tensor([1., 2.])".
std::string to_string(const Tensor& tensor);
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);
std::ostream& operator<<(std::ostream& out, const Shape& shape);  // [2,3]
std::ostream& operator<<(std::ostream& out, DType dtype);         // f32
std::ostream& operator<<(std::ostream& out, Device device);       // cpu

// For fmt, without options: "{}".
struct TextFormatter {
  // Of the text between the braces: none.
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  // What to_string() and name_of() say.
  fmt::format_context::iterator format(const Tensor& tensor, fmt::format_context& context) const;
  fmt::format_context::iterator format(DType dtype, fmt::format_context& context) const;
  fmt::format_context::iterator format(Device device, fmt::format_context& context) const;
};

}  // namespace tandem

template <std::derived_from<tandem::Tensor> T> struct fmt::formatter<T> : tandem::TextFormatter {};
template <> struct fmt::formatter<tandem::DType> : tandem::TextFormatter {};
template <> struct fmt::formatter<tandem::Device> : tandem::TextFormatter {};
