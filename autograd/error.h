// Typed errors in one form: what, the values, where.
//   matmul: inner dimensions differ: a f32[2,3] vs b f32[4,5]; in encoder.3.attn.q_proj
// The trailing "in ..." is the innermost module being run (autograd/scope.h), added here, once.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tandem {

// The base of all errors that Tandem throws.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
};

// Sizes or ranks that do not fit.
struct ShapeError : Error {
  using Error::Error;
};
// An element type that is not accepted.
struct DTypeError : Error {
  using Error::Error;
};
// A missing device or kernel.
struct DeviceError : Error {
  using Error::Error;
};
// A device has no more.
struct OutOfMemoryError : DeviceError {
  using DeviceError::DeviceError;
};
// A value out of its range (label, rate, index, NaN).
struct ValueError : Error {
  using Error::Error;
};
// A loss, a logit or a gradient that is not finite.
struct NonFiniteError : ValueError {
  using ValueError::ValueError;
};
// Misuse of the tape (no grad_fn, stale saved tensor).
struct AutogradError : Error {
  using Error::Error;
};
// A file that is missing, truncated or corrupt.
struct IoError : Error {
  using Error::Error;
};
// An option that is unknown or out of range.
struct ConfigError : Error {
  using Error::Error;
};

namespace detail {
std::string format_message(fmt::string_view format, fmt::format_args args);
}

// raise<ShapeError>("matmul: {} vs {}", a, b)
template <class E, class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw E(detail::format_message(format, fmt::make_format_args(args...)));
}

// check<ShapeError>(a == b, "matmul: {} vs {}", a, b): the message is only made on failure.
template <class E, class... Args> void check(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) [[unlikely]]
    raise<E>(format, std::forward<Args>(args)...);
}

}  // namespace tandem
