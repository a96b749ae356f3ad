// cvt between all types, and cvta between generic addresses and those of a state space.
#include "ptx/half.h"
#include "ptx/handlers.h"
#include "ptx/rounding.h"

namespace cudasim {
namespace {

// A half as a type of its own, stored as its bits.
struct Half {
  uint16_t bits;
};

enum class Integral : uint32_t { none, nearest, zero, down, up };  // .rni, .rzi, .rmi, .rpi

enum ConvertFlags : uint32_t { round_bits = 7, mode_bits = 3 << 3, sat_bit = 32, ftz_bit = 64 };

double to_integral(double value, Integral how) {
  switch (how) {
    case Integral::nearest:
      return std::nearbyint(value);
    case Integral::zero:
      return std::trunc(value);
    case Integral::down:
      return std::floor(value);
    case Integral::up:
      return std::ceil(value);
    case Integral::none:
      break;
  }
  return value;
}

template <class S> auto load(const Stored<S>& stored) { return static_cast<S>(stored); }
template <class D, class S> D saturated(S value) {  // integers
  using Wide = __int128;
  const Wide low = std::numeric_limits<D>::min(), high = std::numeric_limits<D>::max(), x = value;
  return static_cast<D>(x < low ? low : x > high ? high : x);
}

template <class D> D float_to_integer(double value) {
  if (std::isnan(value)) return 0;  // for 64 bits a device gives 2^63; nobody converts NaN on purpose
  constexpr double low = static_cast<double>(std::numeric_limits<D>::min());
  const double high = std::ldexp(1.0, std::numeric_limits<D>::digits);  // the first value that is too large
  if (value < low) return std::numeric_limits<D>::min();
  if (value >= high) return std::numeric_limits<D>::max();
  return static_cast<D>(value);
}

template <class F, class S> F rounded(S value, Round mode) {
  const F nearest = static_cast<F>(value);
  if (mode == Round::nearest) return nearest;
  long double rest =
      static_cast<long double>(value) - static_cast<long double>(nearest);  // exact: 64 bits of precision
  constexpr F infinity = std::numeric_limits<F>::infinity();
  if (mode == Round::down && rest < 0) return std::nextafter(nearest, -infinity);
  if (mode == Round::up && rest > 0) return std::nextafter(nearest, infinity);
  if (mode == Round::zero && ((nearest > 0 && rest < 0) || (nearest < 0 && rest > 0)))
    return std::nextafter(nearest, F{0});
  return nearest;
}

template <class F> F dressed(F value, uint32_t flags) {
  if ((flags & sat_bit) != 0) value = value > 0 ? (value < 1 ? value : F{1}) : F{0};
  if ((flags & ftz_bit) != 0 && sizeof(F) == 4) value = flush<true>(value);
  return value;
}

template <class D, class S> D convert(S value, uint32_t flags) {
  const auto integral = static_cast<Integral>(flags & round_bits);
  const auto mode = static_cast<Round>(flags >> 3 & 3);
  if constexpr (std::is_integral_v<D> && std::is_integral_v<S>) {
    return (flags & sat_bit) != 0 ? saturated<D>(value) : static_cast<D>(value);
  } else if constexpr (std::is_integral_v<D>) {
    if ((flags & ftz_bit) != 0 && sizeof(S) == 4) value = flush<true>(value);
    return float_to_integer<D>(to_integral(double{value}, integral));
  } else if constexpr (std::is_integral_v<S>) {
    return dressed(rounded<D>(value, mode), flags);
  } else {
    if ((flags & ftz_bit) != 0 && sizeof(S) == 4) value = flush<true>(value);
    if (integral != Integral::none)
      return dressed(static_cast<D>(to_integral(double{value}, integral)), flags);
    if constexpr (sizeof(D) < sizeof(S)) return dressed(rounded<D>(value, mode), flags);
    return dressed(static_cast<D>(value), flags);
  }
}

template <class D, class S> void cvt(Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t flags = in.flags;
  if constexpr (std::is_same_v<S, Half> && std::is_same_v<D, Half>) {
    auto* d = w.row<uint32_t>(in.d);
    const auto* a = w.row<const uint32_t>(in.a);
    for_lanes(lanes, [&](int i) {
      d[i] = float_to_half(convert<float>(half_to_float(static_cast<uint16_t>(a[i])), flags));
    });
  } else if constexpr (std::is_same_v<S, Half>) {
    auto* d = w.row<Stored<D>>(in.d);
    const auto* a = w.row<const uint32_t>(in.a);
    for_lanes(lanes, [&](int i) {
      d[i] = to_stored(convert<D>(half_to_float(static_cast<uint16_t>(a[i])), flags));
    });
  } else if constexpr (std::is_same_v<D, Half>) {
    auto* d = w.row<uint32_t>(in.d);
    const auto* a = w.row<const Stored<S>>(in.a);
    for_lanes(lanes, [&](int i) { d[i] = float_to_half(convert<float>(load<S>(a[i]), flags)); });
  } else {
    auto* d = w.row<Stored<D>>(in.d);
    const auto* a = w.row<const Stored<S>>(in.a);
    if (flags == 0) {
      for_lanes(lanes, [&](int i) { d[i] = to_stored(convert<D>(load<S>(a[i]), 0)); });
    } else {
      for_lanes(lanes, [&](int i) { d[i] = to_stored(convert<D>(load<S>(a[i]), flags)); });
    }
  }
}

template <class F> bool with_any(Type type, F&& f) {
  switch (type) {
    case Type::u8:
    case Type::b8:
      f(TypeTag<uint8_t>{});
      return true;
    case Type::s8:
      f(TypeTag<int8_t>{});
      return true;
    case Type::f16:
      f(TypeTag<Half>{});
      return true;
    case Type::f32:
      f(TypeTag<float>{});
      return true;
    case Type::f64:
      f(TypeTag<double>{});
      return true;
    default:
      return with_integer(type, f);
  }
}

// bf16, or two of them in 32 bits, the first operand above.
uint32_t to_bf16(float value) {
  const auto bits = bits_as<uint32_t>(value);
  if (std::isnan(value)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

void cvt_to_bf16(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  const auto* low = w.row<const float>(in.b);
  const auto* high = in.a == no_row ? nullptr : w.row<const float>(in.a);
  for_lanes(lanes, [&](int i) { d[i] = (high ? to_bf16(high[i]) << 16 : 0) | to_bf16(low[i]); });
}

void decode_cvt_to_bf16(Decoder& d, Instruction& in, bool pair) {
  d.require("rn");
  d.require("f32");
  in.d = d.destination(0, pair ? Type::b32 : Type::b16);
  if (pair) in.a = d.source(1, Type::f32);
  in.b = d.source(pair ? 2 : 1, Type::f32);
  in.run = &cvt_to_bf16;
}

void decode_cvt(Decoder& d, Instruction& in) {
  const std::string_view bf16 = d.take_one_of({"bf16", "bf16x2"});
  if (!bf16.empty()) return decode_cvt_to_bf16(d, in, bf16 == "bf16x2");
  const std::string_view integral = d.take_one_of({"rni", "rzi", "rmi", "rpi"});
  const std::string_view mode = d.take_one_of({"rn", "rz", "rm", "rp"});
  if (integral == "rni") in.flags |= static_cast<uint32_t>(Integral::nearest);
  if (integral == "rzi") in.flags |= static_cast<uint32_t>(Integral::zero);
  if (integral == "rmi") in.flags |= static_cast<uint32_t>(Integral::down);
  if (integral == "rpi") in.flags |= static_cast<uint32_t>(Integral::up);
  if (mode == "rz") in.flags |= static_cast<uint32_t>(Round::zero) << 3;
  if (mode == "rm") in.flags |= static_cast<uint32_t>(Round::down) << 3;
  if (mode == "rp") in.flags |= static_cast<uint32_t>(Round::up) << 3;
  if (d.take("ftz")) in.flags |= ftz_bit;
  if (d.take("sat")) in.flags |= sat_bit;
  const Type to = d.take_type(), from = d.take_type();
  if (to == Type::f16 && !mode.empty() && mode != "rn") d.fail("conversion to f16 with this rounding");
  decode_unary(d, in, to, from);
  bool found = false;
  with_any(to, [&](auto to_tag) {
    found = with_any(from, [&](auto from_tag) {
      in.run = &cvt<typename decltype(to_tag)::type, typename decltype(from_tag)::type>;
    });
  });
  if (!found) d.fail("conversion between these types");
}

// ---- addresses

template <class T> void add_window(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto* a = w.row<const T>(in.a);
  const auto window = static_cast<T>(in.offset);
  for_lanes(lanes, [&](int i) { d[i] = a[i] + window; });
}

uint64_t take_window(Decoder& d) {
  const std::string_view space = d.take_one_of({"shared", "local", "param", "global", "const"});
  if (space == "shared") return shared_window;
  if (space == "local") return local_window;
  if (space == "param") return param_window;
  if (space.empty()) d.fail("address of no known state space");
  return 0;
}

void decode_cvta(Decoder& d, Instruction& in) {
  const bool from_generic = d.take("to");
  const uint64_t window = take_window(d);
  const Type type = d.take_type();
  if (type != Type::u64) d.fail("address of this type");
  decode_unary(d, in, type, type);
  in.offset = static_cast<int64_t>(from_generic ? 0 - window : window);
  in.run = &add_window<uint64_t>;
}

void is_space(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  const auto* a = w.row<const uint64_t>(in.a);
  uint32_t result = 0;
  for_lanes(lanes, [&](int i) {
    result |= uint32_t{(a[i] & window_mask) == static_cast<uint64_t>(in.offset)} << i;
  });
  *d = (*d & ~lanes) | result;
}

void decode_is_space(Decoder& d, Instruction& in) {
  in.offset = static_cast<int64_t>(take_window(d));
  in.d = d.predicate(d.operand(0));
  in.a = d.source(1, Type::u64);
  in.run = &is_space;
}

}  // namespace

void add_convert(DecodeTable& table) {
  table["cvt"] = &decode_cvt;
  table["cvta"] = &decode_cvta;
  table["isspacep"] = &decode_is_space;
}

}  // namespace cudasim
