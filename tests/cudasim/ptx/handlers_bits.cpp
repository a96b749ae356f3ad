// Moves and bits: mov, and, or, xor, not, shifts, fields, permutations, counts.
#include "ptx/handlers.h"

namespace cudasim {
namespace {

struct And {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a & b); }
};
struct Or {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a | b); }
};
struct Xor {
  template <class T> T operator()(T a, T b) const { return static_cast<T>(a ^ b); }
};
struct Not {
  template <class T> T operator()(T a) const { return static_cast<T>(~a); }
};

// Predicates: all lanes at once.
template <class Op> void predicate_binary(Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t a = *w.row<uint32_t>(in.a) ^ ((in.flags & 1) != 0 ? ~0u : 0),
                 b = *w.row<uint32_t>(in.b) ^ ((in.flags & 2) != 0 ? ~0u : 0);
  auto* d = w.row<uint32_t>(in.d);
  *d = (*d & ~lanes) | (Op{}(a, b) & lanes);
}

template <class Op> void decode_logic(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  if (type == Type::pred) {
    in.d = d.predicate(d.operand(0));
    in.flags = negations(d, 2);
    in.a = d.predicate(d.operand(1));
    in.b = d.predicate(d.operand(2));
    in.run = &predicate_binary<Op>;
    return;
  }
  decode_binary(d, in, type);
  if (!with_unsigned(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        in.run = &binary<T, T, Op>;
      })) {
    d.fail("logic of this type");
  }
}

void decode_not(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  if (type == Type::pred) {
    in.d = d.predicate(d.operand(0));
    in.flags = negations(d, 1);
    in.a = d.predicate(d.operand(1));
    in.run = &predicate_unary<Not>;
    return;
  }
  decode_unary(d, in, type, type);
  if (!with_unsigned(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        in.run = &unary<T, T, Not>;
      })) {
    d.fail("logic of this type");
  }
}

// ---- shifts: amounts are 32 bits wide and not wrapped

struct ShiftLeft {
  template <class T> T operator()(T a, uint32_t by) const {
    return by >= sizeof(T) * 8 ? T{0} : static_cast<T>(a << by);
  }
};
struct ShiftRight {
  template <class T> T operator()(T a, uint32_t by) const {
    if (by >= sizeof(T) * 8) return static_cast<T>(std::is_signed_v<T> && a < 0 ? -1 : 0);
    return static_cast<T>(a >> by);
  }
};

template <class T, class Op> void shift(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<T>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const uint32_t>(in.b);
  for_lanes(lanes, [&](int i) { d[i] = to_stored(Op{}(static_cast<T>(a[i]), b[i])); });
}

template <class Op> void decode_shift(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.b = d.source(2, Type::u32);
  const auto set = [&](auto tag) {
    using T = typename decltype(tag)::type;
    in.run = &shift<T, Op>;
  };
  if (!with_integer(type, set)) d.fail("shift of this type");
}

template <bool left, bool wrap> struct Funnel {
  uint32_t operator()(uint32_t low, uint32_t high, uint32_t by) const {
    const uint64_t both = uint64_t{high} << 32 | low;
    const uint32_t n = wrap ? by & 31 : (by > 32 ? 32 : by);
    return static_cast<uint32_t>(left ? both << n >> 32 : both >> n);
  }
};

void decode_funnel(Decoder& d, Instruction& in) {
  const bool left = d.take("l");
  if (!left) d.require("r");
  const bool wrap = d.take("wrap");
  if (!wrap) d.require("clamp");
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, Type::u32);
  using U = uint32_t;
  in.run = left ? (wrap ? &ternary<U, U, U, Funnel<true, true>> : &ternary<U, U, U, Funnel<true, false>>)
                : (wrap ? &ternary<U, U, U, Funnel<false, true>> : &ternary<U, U, U, Funnel<false, false>>);
}

// ---- fields

struct Extract {
  template <class T> T operator()(T a, uint32_t position, uint32_t length) const {
    constexpr uint32_t width = sizeof(T) * 8;
    const uint32_t at = position & 255, n = length & 255;
    using U = std::make_unsigned_t<T>;
    const U sign_place = n == 0 ? 0 : static_cast<U>(std::min<uint32_t>(at + n - 1, width - 1));
    const bool fill = std::is_signed_v<T> && n != 0 && (static_cast<U>(a) >> sign_place & 1) != 0;
    if (n == 0) return 0;
    U result = at >= width ? U{0} : static_cast<U>(static_cast<U>(a) >> at);
    const uint32_t kept = at >= width ? 0 : std::min(n, width - at);
    const U mask = kept >= width ? ~U{0} : static_cast<U>((U{1} << kept) - 1);
    result &= mask;
    if (fill) result |= static_cast<U>(~mask);
    return static_cast<T>(result);
  }
};

template <class T> void extract(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<Stored<T>>(in.d);
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto *b = w.row<const uint32_t>(in.b), *c = w.row<const uint32_t>(in.c);
  for_lanes(lanes, [&](int i) { d[i] = to_stored(Extract{}(static_cast<T>(a[i]), b[i], c[i])); });
}

void decode_extract(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.b = d.source(2, Type::u32);
  in.c = d.source(3, Type::u32);
  if (!with_integer(type, [&](auto tag) { in.run = &extract<typename decltype(tag)::type>; }))
    d.fail("bfe of this type");
}

template <class T> void insert(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto *a = w.row<const T>(in.a), *b = w.row<const T>(in.b);
  const auto *c = w.row<const uint32_t>(in.c), *e = w.row<const uint32_t>(in.e);
  for_lanes(lanes, [&](int i) {
    constexpr uint32_t width = sizeof(T) * 8;
    const uint32_t at = c[i] & 255, n = std::min<uint32_t>(e[i] & 255, width);
    T mask = at >= width || n == 0
                 ? T{0}
                 : static_cast<T>((n >= width ? ~T{0} : static_cast<T>((T{1} << n) - 1)) << at);
    d[i] = static_cast<T>((b[i] & ~mask) | (at >= width ? T{0} : static_cast<T>(a[i] << at) & mask));
  });
}

void decode_insert(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, Type::u32);
  in.e = d.source(4, Type::u32);
  in.run = size_of(type) == 8 ? &insert<uint64_t> : &insert<uint32_t>;
}

// ---- three-operand logic, permutation of bytes, counts

void lop3(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<uint32_t>(in.d);
  const auto *a = w.row<const uint32_t>(in.a), *b = w.row<const uint32_t>(in.b),
             *c = w.row<const uint32_t>(in.c);
  for_lanes(lanes, [&](int i) {
    uint32_t result = 0;
    for (uint32_t k = 0; k < 8; ++k) {
      if ((in.flags >> k & 1) == 0) continue;
      result |= ((k & 4) != 0 ? a[i] : ~a[i]) & ((k & 2) != 0 ? b[i] : ~b[i]) & ((k & 1) != 0 ? c[i] : ~c[i]);
    }
    d[i] = result;
  });
}

void decode_lop3(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, type);
  const RawOperand& table = d.operand(4);
  if (table.form != RawOperand::number) d.fail("lop3 by a table that is no constant");
  in.flags = static_cast<uint32_t>(table.bits);
  in.run = &lop3;
}

uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int k = 0; k < 4; ++k) {
    const uint32_t pick = selector >> (4 * k) & 15;
    auto byte = static_cast<uint32_t>(bytes >> ((pick & 7) * 8)) & 255;
    if ((pick & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << (8 * k);
  }
  return result;
}
struct Permute {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const { return permute(a, b, c); }
};

void decode_permute(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, type);
  in.run = &ternary<uint32_t, uint32_t, uint32_t, Permute>;
}

struct Popc {
  template <class T> uint32_t operator()(T a) const { return static_cast<uint32_t>(std::popcount(a)); }
};
struct Clz {
  template <class T> uint32_t operator()(T a) const { return static_cast<uint32_t>(std::countl_zero(a)); }
};
struct Brev {
  template <class T> T operator()(T a) const {
    T result = 0;
    for (size_t i = 0; i < sizeof(T) * 8; ++i) result |= (a >> i & 1) << (sizeof(T) * 8 - 1 - i);
    return result;
  }
};
template <bool as_shift> struct Bfind {
  template <class T> uint32_t operator()(T a) const {
    using U = std::make_unsigned_t<T>;
    const U value = std::is_signed_v<T> && a < 0 ? static_cast<U>(~a) : static_cast<U>(a);
    if (value == 0) return ~0u;
    const auto zeros = static_cast<uint32_t>(std::countl_zero(value));
    return as_shift ? zeros : static_cast<uint32_t>(sizeof(T) * 8 - 1) - zeros;
  }
};

template <class Op> void decode_count(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_unary(d, in, Type::u32, type);
  in.run = size_of(type) == 8 ? &unary<uint32_t, uint64_t, Op> : &unary<uint32_t, uint32_t, Op>;
}

void decode_bfind(Decoder& d, Instruction& in) {
  const bool as_shift = d.take("shiftamt");
  const Type type = d.take_type();
  decode_unary(d, in, Type::u32, type);
  const bool ok = with_integer(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    in.run = as_shift ? &unary<uint32_t, T, Bfind<true>> : &unary<uint32_t, T, Bfind<false>>;
  });
  if (!ok) d.fail("bfind of this type");
}

void decode_brev(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_unary(d, in, type, type);
  in.run = size_of(type) == 8 ? &unary<uint64_t, uint64_t, Brev> : &unary<uint32_t, uint32_t, Brev>;
}

}  // namespace

void add_bits(DecodeTable& table) {
  table["and"] = &decode_logic<And>;
  table["or"] = &decode_logic<Or>;
  table["xor"] = &decode_logic<Xor>;
  table["not"] = &decode_not;
  table["shl"] = &decode_shift<ShiftLeft>;
  table["shr"] = &decode_shift<ShiftRight>;
  table["shf"] = &decode_funnel;
  table["bfe"] = &decode_extract;
  table["bfi"] = &decode_insert;
  table["lop3"] = &decode_lop3;
  table["prmt"] = &decode_permute;
  table["popc"] = &decode_count<Popc>;
  table["clz"] = &decode_count<Clz>;
  table["brev"] = &decode_brev;
  table["bfind"] = &decode_bfind;
}

}  // namespace cudasim
