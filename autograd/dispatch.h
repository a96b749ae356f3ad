// From a DType to code for its C++ type.
#pragma once

#include "autograd/dtype.h"
#include "autograd/error.h"

namespace tandem {

// Calls f.operator()<T>() with the C++ type of `dtype`.
template <class F> decltype(auto) dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::boolean:
      return f.template operator()<bool>();
    case DType::u8:
      return f.template operator()<uint8_t>();
    case DType::i32:
      return f.template operator()<int32_t>();
    case DType::i64:
      return f.template operator()<int64_t>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f32:
      return f.template operator()<float>();
    default:
      return f.template operator()<double>();
  }
}

// The same for bf16, f32 and f64; a DTypeError naming `op` for every other type.
template <class F> decltype(auto) dispatch_floating(const char* op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      raise<DTypeError>("{}: expected a floating dtype (bf16, f32, f64), got {}", op, name_of(dtype));
  }
}

// The same for every type that has arithmetic (all but boolean).
template <class F> decltype(auto) dispatch_numeric(const char* op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::u8:
      return f.template operator()<uint8_t>();
    case DType::i32:
      return f.template operator()<int32_t>();
    case DType::i64:
      return f.template operator()<int64_t>();
    case DType::boolean:
      raise<DTypeError>("{}: expected a numeric dtype, got bool", op);
    default:
      return dispatch_floating(op, dtype, f);
  }
}

// The same for the index types i32 and i64.
template <class F> decltype(auto) dispatch_index(const char* op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::i32:
      return f.template operator()<int32_t>();
    case DType::i64:
      return f.template operator()<int64_t>();
    default:
      raise<DTypeError>("{}: expected an index dtype (i32, i64), got {}", op, name_of(dtype));
  }
}

}  // namespace tandem
