// What the files of handlers share: loops over lanes, and the choice of a handler by type.
#pragma once
#include <cstring>
#include <type_traits>

#include "ptx/interpreter.h"

namespace cudasim {

// The element of a row that holds a T.
template <class T>
using Stored = std::conditional_t<std::is_floating_point_v<T>, T,
                                  std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>;

template <class T> Stored<T> to_stored(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value;
  } else if constexpr (sizeof(T) == 8) {
    return static_cast<uint64_t>(value);
  } else {
    return static_cast<uint32_t>(value);  // sign-extends signed types
  }
}

template <class R, class A, class Op> void unary(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<R>>(in.d);
  const auto* a = w.row<const Stored<A>>(in.a);
  for_lanes(lanes, [&](int i) { d[i] = to_stored(static_cast<R>(Op{}(static_cast<A>(a[i])))); });
}

template <class R, class T, class Op> void binary(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<R>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const Stored<T>>(in.b);
  for_lanes(lanes, [&](int i) {
    d[i] = to_stored(static_cast<R>(Op{}(static_cast<T>(a[i]), static_cast<T>(b[i]))));
  });
}

// R and the type of c may be wider than T (mad.wide).
template <class R, class T, class C, class Op> void ternary(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<R>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const Stored<T>>(in.b);
  const auto* c = w.row<const Stored<C>>(in.c);
  for_lanes(lanes, [&](int i) {
    d[i] = to_stored(static_cast<R>(Op{}(static_cast<T>(a[i]), static_cast<T>(b[i]), static_cast<C>(c[i]))));
  });
}

template <class T> struct TypeTag { using type = T; };

// Calls f with a TypeTag of the C++ type; bits (.b) count as unsigned. False if the type is not an integer of
// 16 to 64 bits.
template <class F> bool with_integer(Type type, F&& f) {
  switch (type) {
    case Type::u16:
    case Type::b16:
      f(TypeTag<uint16_t>{});
      return true;
    case Type::u32:
    case Type::b32:
      f(TypeTag<uint32_t>{});
      return true;
    case Type::u64:
    case Type::b64:
      f(TypeTag<uint64_t>{});
      return true;
    case Type::s16:
      f(TypeTag<int16_t>{});
      return true;
    case Type::s32:
      f(TypeTag<int32_t>{});
      return true;
    case Type::s64:
      f(TypeTag<int64_t>{});
      return true;
    default:
      return false;
  }
}

// Signed types as unsigned, for what is the same in both.
template <class F> bool with_unsigned(Type type, F&& f) {
  switch (type) {
    case Type::s16:
      return with_integer(Type::u16, f);
    case Type::s32:
      return with_integer(Type::u32, f);
    case Type::s64:
      return with_integer(Type::u64, f);
    default:
      return with_integer(type, f);
  }
}

inline void decode_unary(Decoder& decoder, Instruction& in, Type result, Type operand) {
  in.d = decoder.destination(0, result);
  in.a = decoder.source(1, operand);
}

inline void decode_binary(Decoder& decoder, Instruction& in, Type type) {
  decode_unary(decoder, in, type, type);
  in.b = decoder.source(2, type);
}

template <class Op> void predicate_unary(Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t a = *w.row<uint32_t>(in.a) ^ ((in.flags & 1) != 0 ? ~0u : 0);
  auto* d = w.row<uint32_t>(in.d);
  *d = (*d & ~lanes) | (Op{}(a)&lanes);
}

// Which of the operands behind the result are negated predicates, a bit each.
inline uint32_t negations(Decoder& d, size_t count) {
  uint32_t flags = 0;
  for (size_t i = 0; i < count; ++i) flags |= d.operand(1 + i).negated ? 1u << i : 0;
  return flags;
}

Space take_space(Decoder& decoder);  // generic if none is named

template <class To, class From> To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

}  // namespace cudasim
