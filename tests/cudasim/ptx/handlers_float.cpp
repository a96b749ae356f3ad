// Floating-point arithmetic: add, sub, mul, fma, div, rcp, sqrt, min, max and what is approximate on a
// device.
#include "ptx/handlers.h"
#include "ptx/rounding.h"

namespace cudasim {

void decode_integer(Decoder& decoder, Instruction& in);

namespace {

template <Round mode> struct Add {
  template <class T> T operator()(T a, T b) const { return add_rounded<mode>(a, b); }
};
template <Round mode> struct Sub {
  template <class T> T operator()(T a, T b) const { return add_rounded<mode>(a, -b); }
};
template <Round mode> struct Mul {
  template <class T> T operator()(T a, T b) const { return mul_rounded<mode>(a, b); }
};
template <Round mode> struct Div {
  template <class T> T operator()(T a, T b) const { return div_rounded<mode>(a, b); }
};
template <Round mode> struct Fma {
  template <class T> T operator()(T a, T b, T c) const { return fma_rounded<mode>(a, b, c); }
};
template <Round mode> struct Rcp {
  template <class T> T operator()(T a) const { return div_rounded<mode>(T{1}, a); }
};
template <Round mode> struct Sqrt {
  template <class T> T operator()(T a) const { return sqrt_rounded<mode>(a); }
};

template <bool nan> struct Min {
  template <class T> T operator()(T a, T b) const {
    if (nan && (std::isnan(a) || std::isnan(b))) return std::numeric_limits<T>::quiet_NaN();
    if (std::isnan(a)) return b;
    return b < a || (a == b && std::signbit(b)) ? b : a;
  }
};
template <bool nan> struct Max {
  template <class T> T operator()(T a, T b) const {
    if (nan && (std::isnan(a) || std::isnan(b))) return std::numeric_limits<T>::quiet_NaN();
    if (std::isnan(a)) return b;
    return b > a || (a == b && std::signbit(a)) ? b : a;
  }
};
// Of two bf16 in a word each.
template <class Op> struct OfPairs {
  uint32_t operator()(uint32_t a, uint32_t b) const {
    const float low = Op{}(bits_as<float>(a << 16), bits_as<float>(b << 16));
    const float high = Op{}(bits_as<float>(a & 0xffff0000u), bits_as<float>(b & 0xffff0000u));
    return bits_as<uint32_t>(low) >> 16 | (bits_as<uint32_t>(high) & 0xffff0000u);
  }
};
struct Neg {
  template <class T> T operator()(T a) const { return -a; }
};
struct Abs {
  template <class T> T operator()(T a) const { return std::fabs(a); }
};
struct CopySign {
  template <class T> T operator()(T a, T b) const { return std::copysign(b, a); }
};

// Approximate instructions: here correct to the last place or nearly so; a device may be off by a few more.
struct Rsqrt {
  float operator()(float a) const { return static_cast<float>(1.0 / std::sqrt(double{a})); }
};
struct Ex2 {
  float operator()(float a) const { return std::exp2(a); }
};
struct Lg2 {
  float operator()(float a) const { return std::log2(a); }
};
struct Sin {
  float operator()(float a) const { return std::sin(a); }
};
struct Cos {
  float operator()(float a) const { return std::cos(a); }
};
struct Tanh {
  float operator()(float a) const { return std::tanh(a); }
};
struct RsqrtDouble {
  double operator()(double a) const {
    return static_cast<double>(1 / std::sqrt(static_cast<long double>(a)));
  }
};
// Those of f64 with .ftz give the upper half of the result's bits: starting points for iterations.
inline double upper_half(double value) {
  return bits_as<double>(bits_as<uint64_t>(value) & 0xffffffff00000000u);
}
struct RcpStart {
  double operator()(double a) const { return upper_half(1.0 / flush<true>(a)); }
};
struct RsqrtStart {
  double operator()(double a) const { return upper_half(1.0 / std::sqrt(flush<true>(a))); }
};

// An operation with flushing of denormal operands and results, and saturation to [0, 1].
template <class Op, bool ftz, bool sat> struct Dressed {
  template <class... T> auto operator()(T... operands) const {
    auto result = flush<ftz>(Op{}(flush<ftz>(operands)...));
    if constexpr (sat) {
      using R = decltype(result);
      result = result > 0 ? (result < 1 ? result : R{1}) : R{0};
    }
    return result;
  }
};

struct Modifiers {
  Round round = Round::nearest;
  bool ftz = false, sat = false;
};

Round take_round(Decoder& d) {
  const std::string_view word = d.take_one_of({"rn", "rz", "rm", "rp"});
  return word == "rz" ? Round::zero : word == "rm" ? Round::down : word == "rp" ? Round::up : Round::nearest;
}

Modifiers take_modifiers(Decoder& d) {
  Modifiers result;
  result.round = take_round(d);
  result.ftz = d.take("ftz");
  result.sat = d.take("sat");
  return result;
}

// Chooses a handler: `make(op)` gives it for one dressed operation of type T.
template <class Op, class Make> Handler dress(const Modifiers& m, Make make) {
  if (m.sat)
    return m.ftz ? make(TypeTag<Dressed<Op, true, true>>{}) : make(TypeTag<Dressed<Op, false, true>>{});
  return m.ftz ? make(TypeTag<Dressed<Op, true, false>>{}) : make(TypeTag<Op>{});
}

template <template <Round> class Op, class Make> Handler round_and_dress(const Modifiers& m, Make make) {
  switch (m.round) {
    case Round::zero:
      return dress<Op<Round::zero>>(m, make);
    case Round::down:
      return dress<Op<Round::down>>(m, make);
    case Round::up:
      return dress<Op<Round::up>>(m, make);
    case Round::nearest:
      break;
  }
  return dress<Op<Round::nearest>>(m, make);
}

constexpr auto make_unary = [](auto type) {
  return [](auto op) -> Handler {
    using T = typename decltype(type)::type;
    return &unary<T, T, typename decltype(op)::type>;
  };
};
constexpr auto make_binary = [](auto type) {
  return [](auto op) -> Handler {
    using T = typename decltype(type)::type;
    return &binary<T, T, typename decltype(op)::type>;
  };
};
constexpr auto make_ternary = [](auto type) {
  return [](auto op) -> Handler {
    using T = typename decltype(type)::type;
    return &ternary<T, T, T, typename decltype(op)::type>;
  };
};

// f(TypeTag<float>) or f(TypeTag<double>).
template <class F> Handler for_float(Decoder& d, Type type, F f) {
  if (type == Type::f32) return f(TypeTag<float>{});
  if (type == Type::f64) return f(TypeTag<double>{});
  d.fail("no floating-point arithmetic of this type");
}

template <template <Round> class Op> void decode_arithmetic(Decoder& d, Instruction& in) {
  const Modifiers m = take_modifiers(d);
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.flops = 1;
  in.run = for_float(d, type, [&](auto tag) { return round_and_dress<Op>(m, make_binary(tag)); });
}

void decode_fma(Decoder& d, Instruction& in) {
  const Modifiers m = take_modifiers(d);
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, type);
  in.flops = 2;
  in.run = for_float(d, type, [&](auto tag) { return round_and_dress<Fma>(m, make_ternary(tag)); });
}

void decode_div(Decoder& d, Instruction& in) {
  d.take_one_of({"approx", "full"});
  decode_arithmetic<Div>(d, in);
}

template <bool maximum> void decode_extremum(Decoder& d, Instruction& in) {
  Modifiers m;
  m.ftz = d.take("ftz");
  const bool nan = d.take("NaN");
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.flops = 1;
  in.run = for_float(d, type, [&](auto tag) {
    if constexpr (maximum)
      return nan ? dress<Max<true>>(m, make_binary(tag)) : dress<Max<false>>(m, make_binary(tag));
    return nan ? dress<Min<true>>(m, make_binary(tag)) : dress<Min<false>>(m, make_binary(tag));
  });
}

template <class Op> void decode_sign(Decoder& d, Instruction& in) {
  Modifiers m;
  m.ftz = d.take("ftz");
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.run = for_float(d, type, [&](auto tag) { return dress<Op>(m, make_unary(tag)); });
}

template <template <Round> class Op> void decode_root(Decoder& d, Instruction& in) {
  const bool approximate = d.take("approx");
  const Modifiers m = take_modifiers(d);
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.flops = 1;
  if (approximate && type == Type::f64) {  // rcp.approx.ftz.f64 alone
    in.run = &unary<double, double, RcpStart>;
  } else {
    in.run = for_float(d, type, [&](auto tag) { return round_and_dress<Op>(m, make_unary(tag)); });
  }
}

template <class Op> void decode_approximate(Decoder& d, Instruction& in) {
  d.require("approx");
  Modifiers m;
  m.ftz = d.take("ftz");
  const Type type = d.take_type();
  if (type != Type::f32) d.fail("approximate instruction of this type");
  decode_unary(d, in, type, type);
  in.flops = 1;
  in.run = dress<Op>(m, make_unary(TypeTag<float>{}));
}

void decode_rsqrt(Decoder& d, Instruction& in) {
  d.require("approx");
  Modifiers m;
  m.ftz = d.take("ftz");
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.flops = 1;
  if (type == Type::f64) {
    in.run = m.ftz ? &unary<double, double, RsqrtStart> : &unary<double, double, RsqrtDouble>;
  } else {
    in.run = dress<Rsqrt>(m, make_unary(TypeTag<float>{}));
  }
}

void decode_copysign(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.run = for_float(d, type, [&](auto tag) { return dress<CopySign>(Modifiers{}, make_binary(tag)); });
}

// Mnemonics that integers have too.
template <void (*decode_float)(Decoder&, Instruction&)> void by_type(Decoder& d, Instruction& in) {
  for (const std::string_view word : d.statement().modifiers) {
    if (is_float(parse_type(word))) return decode_float(d, in);
  }
  decode_integer(d, in);
}

template <bool maximum> void decode_any_extremum(Decoder& d, Instruction& in) {
  if (!d.take("bf16x2")) return by_type<&decode_extremum<maximum>>(d, in);
  decode_binary(d, in, Type::b32);
  in.flops = 2;
  in.run = maximum ? &binary<uint32_t, uint32_t, OfPairs<Max<false>>>
                   : &binary<uint32_t, uint32_t, OfPairs<Min<false>>>;
}

}  // namespace

void add_float(DecodeTable& table) {
  table["add"] = &by_type<&decode_arithmetic<Add>>;
  table["sub"] = &by_type<&decode_arithmetic<Sub>>;
  table["mul"] = &by_type<&decode_arithmetic<Mul>>;
  table["div"] = &by_type<&decode_div>;
  table["mad"] = &by_type<&decode_fma>;
  table["min"] = &decode_any_extremum<false>;
  table["max"] = &decode_any_extremum<true>;
  table["neg"] = &by_type<&decode_sign<Neg>>;
  table["abs"] = &by_type<&decode_sign<Abs>>;
  table["fma"] = &decode_fma;
  table["rcp"] = &decode_root<Rcp>;
  table["sqrt"] = &decode_root<Sqrt>;
  table["rsqrt"] = &decode_rsqrt;
  table["ex2"] = &decode_approximate<Ex2>;
  table["lg2"] = &decode_approximate<Lg2>;
  table["sin"] = &decode_approximate<Sin>;
  table["cos"] = &decode_approximate<Cos>;
  table["tanh"] = &decode_approximate<Tanh>;
  table["copysign"] = &decode_copysign;
}

}  // namespace cudasim
