// Integer arithmetic: add, sub, mul, mad, div, rem, min, max, neg, abs, with carry, dp4a.
#include "ptx/handlers.h"

namespace cudasim {
namespace {

struct Add {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a + b); }
};
struct Sub {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a - b); }
};
// Products of 16-bit values are taken as unsigned: they would overflow int.
struct Mul {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(uint64_t{a} * uint64_t{b}); }
};
struct Min {
  template <class T> T operator()(T a, T b) const { return a < b ? a : b; }
};
struct Max {
  template <class T> T operator()(T a, T b) const { return a > b ? a : b; }
};
struct Neg {
  template <class T> T operator()(T a) const { return static_cast<T>(0 - a); }
};
struct Abs {
  template <class T> T operator()(T a) const {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(a < 0 ? static_cast<U>(0 - static_cast<U>(a)) : static_cast<U>(a));
  }
};

struct Div {
  template <class T> T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(~T{0});  // unspecified; devices give all ones
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return Neg{}(static_cast<std::make_unsigned_t<T>>(a));
    }
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T> T operator()(T a, T b) const {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};

template <class T>
using Wider = std::conditional_t<
    std::is_signed_v<T>,
    std::conditional_t<sizeof(T) == 2, int32_t, std::conditional_t<sizeof(T) == 4, int64_t, __int128>>,
    std::conditional_t<sizeof(T) == 2, uint32_t,
                       std::conditional_t<sizeof(T) == 4, uint64_t, unsigned __int128>>>;

struct MulHi {
  template <class T> T operator()(T a, T b) const {
    return static_cast<T>((Wider<T>{a} * Wider<T>{b}) >> (sizeof(T) * 8));
  }
};
struct MulWide {
  template <class T> Wider<T> operator()(T a, T b) const { return Wider<T>{a} * Wider<T>{b}; }
};
struct MulAdd {
  template <class T> T operator()(T a, T b, T c) const {
    return static_cast<T>(uint64_t{a} * uint64_t{b} + c);
  }
};
struct MulHiAdd {
  template <class T> T operator()(T a, T b, T c) const {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(static_cast<U>(MulHi{}(a, b)) + static_cast<U>(c)));
  }
};
struct MulWideAdd {
  template <class T, class W> W operator()(T a, T b, W c) const {
    using U = std::make_unsigned_t<W>;
    return static_cast<W>(static_cast<U>(MulWide{}(a, b)) + static_cast<U>(c));
  }
};

template <bool subtract> struct Saturating {
  int32_t operator()(int32_t a, int32_t b) const {
    const int64_t sum = subtract ? int64_t{a} - b : int64_t{a} + b;
    return static_cast<int32_t>(std::min<int64_t>(std::max<int64_t>(sum, INT32_MIN), INT32_MAX));
  }
};

// The 24-bit products: of the low 24 bits of a and b, the upper or lower 32 of 48.
template <bool high> struct Mul24 {
  template <class T> T operator()(T a, T b) const {
    const auto cut = [](T x) { return static_cast<T>(static_cast<T>(static_cast<uint32_t>(x) << 8) >> 8); };
    const auto product = static_cast<Wider<T>>(Wider<T>{cut(a)} * Wider<T>{cut(b)});
    return static_cast<T>(high ? product >> 16 : product);
  }
};

template <class Op> void integer_binary(Decoder& d, Instruction& in, bool sign_matters) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  const auto set = [&](auto tag) {
    using T = typename decltype(tag)::type;
    in.run = &binary<T, T, Op>;
  };
  if (!(sign_matters ? with_integer(type, set) : with_unsigned(type, set))) d.fail("no integer of this type");
}

// ---- carry: a row of its own, one bit per lane, in every frame
enum CarryFlags : uint32_t { carry_in = 1, carry_out = 2, subtract = 4 };

template <class T> void add_carry(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<T>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const Stored<T>>(in.b);
  auto* carry = w.row<uint32_t>(in.e);
  const uint32_t before = *carry;
  for_lanes(lanes, [&](int i) {
    const unsigned bit = (in.flags & carry_in) != 0 ? before >> i & 1 : 0;
    unsigned __int128 sum;
    if ((in.flags & subtract) != 0) {
      sum = static_cast<unsigned __int128>(T(a[i])) - T(b[i]) - bit;
    } else {
      sum = static_cast<unsigned __int128>(T(a[i])) + T(b[i]) + bit;
    }
    d[i] = static_cast<T>(sum);
    if ((in.flags & carry_out) != 0)
      *carry = (*carry & ~(1u << i)) | (static_cast<uint32_t>(sum >> (sizeof(T) * 8)) & 1) << i;
  });
}

enum class Half { low, high };

template <class T, Half half> void mad_carry(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<T>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const Stored<T>>(in.b);
  const auto* c = w.row<const Stored<T>>(in.c);
  using U = std::make_unsigned_t<T>;
  auto* carry = w.row<uint32_t>(in.e);
  const uint32_t before = *carry;
  for_lanes(lanes, [&](int i) {
    const unsigned bit = (in.flags & carry_in) != 0 ? before >> i & 1 : 0;
    const U part =
        half == Half::low ? static_cast<U>(U(a[i]) * U(b[i])) : static_cast<U>(MulHi{}(T(a[i]), T(b[i])));
    const auto sum = static_cast<unsigned __int128>(part) + U(c[i]) + bit;
    d[i] = static_cast<U>(sum);
    if ((in.flags & carry_out) != 0)
      *carry = (*carry & ~(1u << i)) | (static_cast<uint32_t>(sum >> (sizeof(T) * 8)) & 1) << i;
  });
}

void decode_add_carry(Decoder& d, Instruction& in, uint32_t flags) {
  in.flags = flags | (d.take("cc") ? uint32_t{carry_out} : 0);
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.e = d.carry();
  if (size_of(type) == 8) {
    in.run = &add_carry<uint64_t>;
  } else if (size_of(type) == 4) {
    in.run = &add_carry<uint32_t>;
  } else {
    d.fail("no arithmetic with carry of this type");
  }
}

void decode_mad(Decoder& d, Instruction& in, bool with_carry) {
  const bool wide = d.take("wide"), high = d.take("hi");
  if (!wide && !high) d.require("lo");
  const bool out = d.take("cc");
  const Type type = d.take_type();
  const Type result = !wide                ? type
                      : size_of(type) == 2 ? (is_signed(type) ? Type::s32 : Type::u32)
                                           : (is_signed(type) ? Type::s64 : Type::u64);
  in.d = d.destination(0, result);
  in.a = d.source(1, type);
  in.b = d.source(2, type);
  in.c = d.source(3, result);
  const auto set = [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (with_carry || out) {
      in.flags = (with_carry ? uint32_t{carry_in} : 0) | (out ? uint32_t{carry_out} : 0);
      in.e = d.carry();
      in.run = high ? &mad_carry<T, Half::high> : &mad_carry<T, Half::low>;
    } else if (high) {
      in.run = &ternary<T, T, T, MulHiAdd>;
    } else if constexpr (sizeof(T) < 8) {
      if (wide) {
        in.run = &ternary<Wider<T>, T, Wider<T>, MulWideAdd>;
      } else {
        using U = std::make_unsigned_t<T>;
        in.run = &ternary<U, U, U, MulAdd>;
      }
    } else {
      in.run = &ternary<uint64_t, uint64_t, uint64_t, MulAdd>;
    }
  };
  if (!with_integer(type, set)) d.fail("no integer multiplication of this type");
}

void decode_mul(Decoder& d, Instruction& in) {
  const bool wide = d.take("wide"), high = d.take("hi");
  if (!wide && !high) d.require("lo");
  const Type type = d.take_type();
  const Type result = !wide                ? type
                      : size_of(type) == 2 ? (is_signed(type) ? Type::s32 : Type::u32)
                                           : (is_signed(type) ? Type::s64 : Type::u64);
  decode_unary(d, in, result, type);
  in.b = d.source(2, type);
  const auto set = [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (high) {
      in.run = &binary<T, T, MulHi>;
    } else if constexpr (sizeof(T) < 8) {
      if (wide) {
        in.run = &binary<Wider<T>, T, MulWide>;
      } else {
        in.run = &binary<std::make_unsigned_t<T>, std::make_unsigned_t<T>, Mul>;
      }
    } else {
      in.run = &binary<uint64_t, uint64_t, Mul>;
    }
  };
  if (!with_integer(type, set)) d.fail("no integer multiplication of this type");
}

void decode_mul24(Decoder& d, Instruction& in) {
  const bool high = d.take("hi");
  if (!high) d.require("lo");
  const Type type = d.take_type();
  decode_binary(d, in, type);
  if (type == Type::s32) {
    in.run = high ? &binary<int32_t, int32_t, Mul24<true>> : &binary<int32_t, int32_t, Mul24<false>>;
  } else if (type == Type::u32) {
    in.run = high ? &binary<uint32_t, uint32_t, Mul24<true>> : &binary<uint32_t, uint32_t, Mul24<false>>;
  } else {
    d.fail("mul24 of this type");
  }
}

// Four products of bytes, added to c.
template <class A, class B> void dp4a(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  const auto* a = w.row<const uint32_t>(in.a);
  const auto* b = w.row<const uint32_t>(in.b);
  const auto* c = w.row<const uint32_t>(in.c);
  for_lanes(lanes, [&](int i) {
    uint32_t sum = c[i];
    for (int k = 0; k < 32; k += 8)
      sum += static_cast<uint32_t>(static_cast<A>(a[i] >> k) * static_cast<B>(b[i] >> k));
    d[i] = sum;
  });
}

void decode_dp4a(Decoder& d, Instruction& in) {
  const Type a = d.take_type(), b = d.take_type();
  decode_binary(d, in, Type::b32);
  in.c = d.source(3, Type::b32);
  in.run = is_signed(a) ? (is_signed(b) ? &dp4a<int8_t, int8_t> : &dp4a<int8_t, uint8_t>)
                        : (is_signed(b) ? &dp4a<uint8_t, int8_t> : &dp4a<uint8_t, uint8_t>);
}

void decode_sum(Decoder& d, Instruction& in, bool minus) {
  if (d.take("cc")) {
    const Type type = d.take_type();
    decode_binary(d, in, type);
    in.flags = carry_out | (minus ? uint32_t{subtract} : 0);
    in.e = d.carry();
    in.run = size_of(type) == 8 ? &add_carry<uint64_t> : &add_carry<uint32_t>;
  } else if (d.take("sat")) {
    const Type type = d.take_type();
    if (type != Type::s32) d.fail("saturating sum of this type");
    decode_binary(d, in, type);
    in.run =
        minus ? &binary<int32_t, int32_t, Saturating<true>> : &binary<int32_t, int32_t, Saturating<false>>;
  } else if (minus) {
    integer_binary<Sub>(d, in, false);
  } else {
    integer_binary<Add>(d, in, false);
  }
}

}  // namespace

// The names below that floating-point types share are decoded by add_float's, which calls these for integers.
void decode_integer(Decoder& d, Instruction& in) {
  const std::string_view name = d.statement().mnemonic;
  if (name == "add" || name == "sub") {
    decode_sum(d, in, name == "sub");
  } else if (name == "mul") {
    decode_mul(d, in);
  } else if (name == "mad") {
    decode_mad(d, in, false);
  } else if (name == "div") {
    integer_binary<Div>(d, in, true);
  } else if (name == "min") {
    integer_binary<Min>(d, in, true);
  } else if (name == "max") {
    integer_binary<Max>(d, in, true);
  } else {
    const Type type = d.take_type();
    decode_unary(d, in, type, type);
    const bool ok = with_integer(type, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if (name == "neg") {
        in.run = &unary<T, std::make_unsigned_t<T>, Neg>;
      } else if constexpr (std::is_signed_v<T>) {
        in.run = &unary<T, T, Abs>;
      }
    });
    if (!ok || in.run == nullptr) d.fail("no integer instruction of this type");
  }
}

void add_integer(DecodeTable& table) {
  table["rem"] = [](Decoder& d, Instruction& in) { integer_binary<Rem>(d, in, true); };
  table["addc"] = [](Decoder& d, Instruction& in) { decode_add_carry(d, in, carry_in); };
  table["subc"] = [](Decoder& d, Instruction& in) { decode_add_carry(d, in, carry_in | subtract); };
  table["madc"] = [](Decoder& d, Instruction& in) { decode_mad(d, in, true); };
  table["mul24"] = &decode_mul24;
  table["dp4a"] = &decode_dp4a;
}

}  // namespace cudasim
