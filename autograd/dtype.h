// Element types. f32 is the working type, bf16 the compute type of mixed precision, f64 the type of
// gradient checks; i32/i64/u8 hold indices and bytes, boolean holds masks.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

namespace tandem {

// bfloat16: the upper half of an IEEE f32, rounded to nearest even. Arithmetic is done in f32.
struct bf16 {
  uint16_t bits = 0;  // sign, 8 of the exponent, 7 of the mantissa

  constexpr bf16() = default;
  constexpr bf16(float value) : bits(round(value)) {}
  // Loops that store bf16 assign floats: without the temporary bf16 they vectorise.
  constexpr bf16& operator=(float value) {
    bits = round(value);
    return *this;
  }
  // Exact.
  constexpr operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

 private:
  static constexpr uint16_t round(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // one instruction; NaN becomes 0x7fff
    if (!std::is_constant_evaluated()) {
      uint16_t rounded;
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
      return rounded;
    }
#endif
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u
                                                                 : rounded);  // NaN stays NaN
  }
};

// Element types, in the order in which promote() goes.
enum class DType : uint8_t { boolean, u8, i32, i64, bf16, f32, f64 };
inline constexpr int kDTypes = 7;

// The DType of a C++ type: dtype_of<float> is DType::f32.
template <class T> struct dtype_of_t;
template <> struct dtype_of_t<bool> { static constexpr DType value = DType::boolean; };
template <> struct dtype_of_t<uint8_t> { static constexpr DType value = DType::u8; };
template <> struct dtype_of_t<int32_t> { static constexpr DType value = DType::i32; };
template <> struct dtype_of_t<int64_t> { static constexpr DType value = DType::i64; };
template <> struct dtype_of_t<bf16> { static constexpr DType value = DType::bf16; };
template <> struct dtype_of_t<float> { static constexpr DType value = DType::f32; };
template <> struct dtype_of_t<double> { static constexpr DType value = DType::f64; };
template <class T> inline constexpr DType dtype_of = dtype_of_t<T>::value;
// What vectors of elements hold: bool, uint8_t, int32_t, int64_t, float or double.
template <class T>
concept Element = !std::is_same_v<T, bf16> && requires {
  dtype_of_t<T>::value;
};

// The type in which values of T are computed: f32 for bf16, T itself otherwise.
template <class T> using compute_t = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
// The type in which values of T are summed: f64 for f64, f32 for f32 and bf16, i64 for integers.
template <class T>
using accumulate_t =
    std::conditional_t<std::is_same_v<T, double>, double,
                       std::conditional_t<std::is_same_v<compute_t<T>, float>, float, int64_t>>;

constexpr int64_t size_of(DType dtype) {  // in bytes
  constexpr int64_t sizes[kDTypes] = {1, 1, 4, 8, 2, 4, 8};
  return sizes[static_cast<int>(dtype)];
}
// Whether it is bf16, f32 or f64.
constexpr bool is_floating(DType dtype) { return dtype >= DType::bf16; }
// The values of an integer dtype, and of bool (0 and 1), are the whole numbers in [least, above).
struct WholeRange {
  double least, above;
};
constexpr WholeRange whole_range(DType dtype) {
  constexpr WholeRange ranges[] = {{0, 2}, {0, 256}, {-0x1p31, 0x1p31}, {-0x1p63, 0x1p63}};
  return ranges[static_cast<int>(dtype)];
}
// Whether the dtype has the value `number`; a floating dtype rounds any number.
inline bool holds(DType dtype, double number) {
  if (is_floating(dtype)) return true;
  const auto [least, above] = whole_range(dtype);
  return number == std::trunc(number) && number >= least && number < above;
}
// From where on a number of which a floating dtype has none so large rounds to infinity, and the last before.
struct Overflow {
  double from;     // and beyond
  double largest;  // finite value
};
constexpr Overflow overflow(DType dtype) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return dtype == DType::bf16  ? Overflow{0x1.FFp127, 0x1.FEp127}
         : dtype == DType::f32 ? Overflow{0x1.FFFFFFp127, 0x1.FFFFFEp127}
                               : Overflow{infinity, infinity};
}
std::string_view name_of(DType dtype);  // "f32"
// The type of `a op b`: the later of the two in the order of the enum (bool < integers < floats).
constexpr DType promote(DType a, DType b) { return a < b ? b : a; }

}  // namespace tandem
