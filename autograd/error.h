// Typed errors in one form: what, the values, where.
//   matmul: inner dimensions differ: a f32[2,3] vs b f32[4,5]; in encoder.3.attn.q_proj
// The trailing "in ..." is the innermost module being run (autograd/scope.h), added here, once.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tandem {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
};

struct ShapeError : Error {
  using Error::Error;
};  // sizes or ranks that do not fit
struct DTypeError : Error {
  using Error::Error;
};  // an element type that is not accepted
struct DeviceError : Error {
  using Error::Error;
};  // a missing device or kernel
struct OutOfMemoryError : DeviceError {
  using DeviceError::DeviceError;
};  // a device has no more
struct ValueError : Error {
  using Error::Error;
};  // a value out of its range (label, rate, index, NaN)
struct AutogradError : Error {
  using Error::Error;
};  // misuse of the tape (no grad_fn, stale saved tensor)
struct IoError : Error {
  using Error::Error;
};  // a file that is missing, truncated or corrupt
struct ConfigError : Error {
  using Error::Error;
};  // an option that is unknown or out of range

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
