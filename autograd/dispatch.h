// From a DType to code for its C++ type.
#pragma once

#include "autograd/dtype.h"
#include "autograd/error.h"

namespace tandem {

namespace detail {

// Calls f.operator()<T>() with the one of these types that `dtype` is; `none`, which throws, where it is
// none.
template <class T, class... More, class F, class None>
decltype(auto) dispatch_among(DType dtype, F&& f, None&& none) {
  if (dtype == dtype_of<T>) return f.template operator()<T>();
  if constexpr (sizeof...(More) > 0) {
    return dispatch_among<More...>(dtype, f, none);
  } else {
    none();
    __builtin_unreachable();
  }
}

}  // namespace detail

// Calls f.operator()<T>() with the C++ type of `dtype`.
template <class F> decltype(auto) dispatch_all(DType dtype, F&& f) {
  return detail::dispatch_among<bool, uint8_t, int32_t, int64_t, bf16, float, double>(dtype, f, [] {});
}

// The same for bf16, f32 and f64; a DTypeError naming `op` for every other type.
template <class F> decltype(auto) dispatch_floating(const char* op, DType dtype, F&& f) {
  return detail::dispatch_among<bf16, float, double>(dtype, f, [&] {
    raise<DTypeError>("{}: expected a floating dtype (bf16, f32, f64), got {}", op, name_of(dtype));
  });
}

// The same for every type that has arithmetic (all but boolean).
template <class F> decltype(auto) dispatch_numeric(const char* op, DType dtype, F&& f) {
  return detail::dispatch_among<uint8_t, int32_t, int64_t, bf16, float, double>(dtype, f, [&] {
    raise<DTypeError>("{}: expected a numeric dtype, got bool; convert it with to()", op);
  });
}

// The same for the index types i32 and i64.
template <class F> decltype(auto) dispatch_index(const char* op, DType dtype, F&& f) {
  return detail::dispatch_among<int32_t, int64_t>(dtype, f, [&] {
    raise<DTypeError>("{}: expected an index dtype (i32, i64), got {}", op, name_of(dtype));
  });
}

}  // namespace tandem
