// Comparisons and choices: setp, set, selp, slct, testp.
#include <array>

#include "ptx/handlers.h"
#include "ptx/rounding.h"

namespace cudasim {
namespace {

struct Eq {
  template <class T> bool operator()(T a, T b) const { return a == b; }
};
struct Ne {
  template <class T> bool operator()(T a, T b) const { return a < b || a > b; }
};  // false for NaN
struct Lt {
  template <class T> bool operator()(T a, T b) const { return a < b; }
};
struct Le {
  template <class T> bool operator()(T a, T b) const { return a <= b; }
};
struct Gt {
  template <class T> bool operator()(T a, T b) const { return a > b; }
};
struct Ge {
  template <class T> bool operator()(T a, T b) const { return a >= b; }
};
template <class Opposite> struct Unordered {
  template <class T> bool operator()(T a, T b) const { return !Opposite{}(a, b); }
};
struct Num {
  template <class T> bool operator()(T a, T b) const { return a == a && b == b; }
};

template <class T, class Op, bool ftz> uint32_t compare(Warp& w, const Instruction& in, uint32_t lanes) {
  const auto* a = w.row<const Stored<T>>(in.a);
  const auto* b = w.row<const Stored<T>>(in.b);
  uint32_t result = 0;
  const auto one = [&](int i) {
    if constexpr (ftz) {
      result |= uint32_t{Op{}(flush<true>(a[i]), flush<true>(b[i]))} << i;
    } else {
      result |= uint32_t{Op{}(static_cast<T>(a[i]), static_cast<T>(b[i]))} << i;
    }
  };
  if (lanes == ~0u) {
    for (int i = 0; i < warp_size; ++i) one(i);
  } else {
    for_lanes(lanes, one);
  }
  return result;
}

enum Combine : uint32_t { combine_none, combine_and, combine_or, combine_xor, negated_c = 4 };

uint32_t combine(Warp& w, const Instruction& in, uint32_t result) {
  if ((in.flags & 3) == combine_none) return result;
  const uint32_t c = *w.row<uint32_t>(in.c) ^ ((in.flags & negated_c) != 0 ? ~0u : 0);
  switch (in.flags & 3) {
    case combine_and:
      return result & c;
    case combine_or:
      return result | c;
    default:
      return result ^ c;
  }
}

template <class T, class Op, bool ftz> void setp(Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t result = compare<T, Op, ftz>(w, in, lanes);
  if (in.d2 != no_row) {
    auto* q = w.row<uint32_t>(in.d2);
    *q = (*q & ~lanes) | (combine(w, in, ~result) & lanes);
  }
  const uint32_t combined = combine(w, in, result);  // before d is written: c may be the same predicate
  auto* d = w.row<uint32_t>(in.d);
  *d = (*d & ~lanes) | (combined & lanes);
}

// A number (all ones, or 1.0) instead of a predicate.
template <class T, class Op, bool ftz> void set_number(Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t result = combine(w, in, compare<T, Op, ftz>(w, in, lanes));
  auto* d = w.row<uint32_t>(in.d);
  const auto yes = static_cast<uint32_t>(in.offset);
  for_lanes(lanes, [&](int i) { d[i] = (result >> i & 1) != 0 ? yes : 0; });
}

template <class T, class Op, bool ftz> Handler choose(bool number) {
  return number ? &set_number<T, Op, ftz> : &setp<T, Op, ftz>;
}

template <class Op> Handler by_type(Type type, bool ftz, bool number) {
  switch (type) {
    case Type::u16:
    case Type::b16:
      return choose<uint16_t, Op, false>(number);
    case Type::u32:
    case Type::b32:
      return choose<uint32_t, Op, false>(number);
    case Type::u64:
    case Type::b64:
      return choose<uint64_t, Op, false>(number);
    case Type::s16:
      return choose<int16_t, Op, false>(number);
    case Type::s32:
      return choose<int32_t, Op, false>(number);
    case Type::s64:
      return choose<int64_t, Op, false>(number);
    case Type::f32:
      return ftz ? choose<float, Op, true>(number) : choose<float, Op, false>(number);
    case Type::f64:
      return choose<double, Op, false>(number);
    default:
      return nullptr;
  }
}

template <class Op> Handler float_only(Type type, bool ftz, bool number) {
  if (type == Type::f64) return choose<double, Op, false>(number);
  if (type != Type::f32) return nullptr;
  return ftz ? choose<float, Op, true>(number) : choose<float, Op, false>(number);
}

struct Comparison {
  std::string_view name;
  Handler (*make)(Type type, bool ftz, bool number);
};
constexpr std::array<Comparison, 18> comparisons = {{{"eq", &by_type<Eq>},
                                                     {"ne", &by_type<Ne>},
                                                     {"lt", &by_type<Lt>},
                                                     {"le", &by_type<Le>},
                                                     {"gt", &by_type<Gt>},
                                                     {"ge", &by_type<Ge>},
                                                     {"lo", &by_type<Lt>},
                                                     {"ls", &by_type<Le>},
                                                     {"hi", &by_type<Gt>},
                                                     {"hs", &by_type<Ge>},
                                                     {"equ", &float_only<Unordered<Ne>>},
                                                     {"neu", &float_only<Unordered<Eq>>},
                                                     {"ltu", &float_only<Unordered<Ge>>},
                                                     {"leu", &float_only<Unordered<Gt>>},
                                                     {"gtu", &float_only<Unordered<Le>>},
                                                     {"geu", &float_only<Unordered<Lt>>},
                                                     {"num", &float_only<Num>},
                                                     {"nan", &float_only<Unordered<Num>>}}};

void decode_comparison(Decoder& d, Instruction& in, bool number) {
  const Comparison* comparison = nullptr;
  for (const Comparison& candidate : comparisons) {
    if (d.take(candidate.name)) {
      comparison = &candidate;
      break;
    }
  }
  if (comparison == nullptr) d.fail("comparison of no known kind");
  const std::string_view op = d.take_one_of({"and", "or", "xor"});
  const bool ftz = d.take("ftz");
  const Type result = number ? d.take_type() : Type::pred;
  const Type type = d.take_type();
  if (number) {
    in.d = d.destination(0, result);
    if (result == Type::f32) {
      in.offset = 0x3f800000;
    } else if (result == Type::u32 || result == Type::s32) {
      in.offset = 0xffffffff;
    } else {
      d.fail("set with a result of this type");
    }
  } else {
    const RawOperand& to = d.operand(0);
    in.d = d.predicate(to);
    if (!to.elements.empty()) in.d2 = d.predicate(to.elements[0]);
  }
  in.a = d.source(1, type);
  in.b = d.source(2, type);
  if (!op.empty()) {
    in.flags = op == "and" ? combine_and : op == "or" ? combine_or : combine_xor;
    const RawOperand& c = d.operand(3);
    in.c = d.predicate(c);
    if (c.negated) in.flags |= negated_c;
  }
  in.run = comparison->make(type, ftz, number);
  if (in.run == nullptr) d.fail("comparison of this type");
}

template <class T> void select(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto *a = w.row<const T>(in.a), *b = w.row<const T>(in.b);
  const uint32_t c = *w.row<uint32_t>(in.c) ^ (in.flags != 0 ? ~0u : 0);
  for_lanes(lanes, [&](int i) {
    const T x = a[i], y = b[i];
    d[i] = (c >> i & 1) != 0 ? x : y;
  });
}

void decode_select(Decoder& d, Instruction& in) {
  const Type type = d.take_type();
  decode_binary(d, in, type);
  const RawOperand& c = d.operand(3);
  in.c = d.predicate(c);
  in.flags = c.negated;
  in.run = size_of(type) == 8 ? &select<uint64_t> : &select<uint32_t>;
}

// a where c >= 0, else b.
template <class T, class C> void select_by_sign(Warp& w, const Instruction& in, uint32_t lanes) {
  auto* d = w.row<T>(in.d);
  const auto *a = w.row<const T>(in.a), *b = w.row<const T>(in.b);
  const auto* c = w.row<const C>(in.c);
  for_lanes(lanes, [&](int i) { d[i] = c[i] >= 0 ? a[i] : b[i]; });
}

void decode_select_by_sign(Decoder& d, Instruction& in) {
  d.take("ftz");  // a denormal has the sign of its zero
  const Type type = d.take_type(), by = d.take_type();
  decode_binary(d, in, type);
  in.c = d.source(3, by);
  if (size_of(type) == 8) {
    in.run = by == Type::f32 ? &select_by_sign<uint64_t, float> : &select_by_sign<uint64_t, int32_t>;
  } else {
    in.run = by == Type::f32 ? &select_by_sign<uint32_t, float> : &select_by_sign<uint32_t, int32_t>;
  }
}

enum class Class { finite, infinite, number, nan, normal, subnormal };

template <class T> void test(Warp& w, const Instruction& in, uint32_t lanes) {
  const auto* a = w.row<const T>(in.a);
  auto* d = w.row<uint32_t>(in.d);
  uint32_t result = 0;
  for_lanes(lanes, [&](int i) {
    bool is = false;
    switch (static_cast<Class>(in.flags)) {
      case Class::finite:
        is = std::isfinite(a[i]);
        break;
      case Class::infinite:
        is = std::isinf(a[i]);
        break;
      case Class::number:
        is = !std::isnan(a[i]);
        break;
      case Class::nan:
        is = std::isnan(a[i]);
        break;
      case Class::normal:
        is = std::isnormal(a[i]);
        break;
      case Class::subnormal:
        is = std::fpclassify(a[i]) == FP_SUBNORMAL;
        break;
    }
    result |= uint32_t{is} << i;
  });
  *d = (*d & ~lanes) | result;
}

void decode_test(Decoder& d, Instruction& in) {
  constexpr std::array<std::string_view, 6> names = {"finite",     "infinite", "number",
                                                     "notanumber", "normal",   "subnormal"};
  bool found = false;
  for (size_t i = 0; i < names.size() && !found; ++i) {
    if ((found = d.take(names[i]))) in.flags = static_cast<uint32_t>(i);
  }
  if (!found) d.fail("testp of no known kind");
  const Type type = d.take_type();
  in.d = d.predicate(d.operand(0));
  in.a = d.source(1, type);
  in.run = type == Type::f64 ? &test<double> : &test<float>;
}

}  // namespace

void add_compare(DecodeTable& table) {
  table["setp"] = [](Decoder& d, Instruction& in) { decode_comparison(d, in, false); };
  table["set"] = [](Decoder& d, Instruction& in) { decode_comparison(d, in, true); };
  table["selp"] = &decode_select;
  table["slct"] = &decode_select_by_sign;
  table["testp"] = &decode_test;
}

}  // namespace cudasim
