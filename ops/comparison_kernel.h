// The predicates of comparisons, and where().
#pragma once

namespace tandem::detail {

struct Eq {
  static constexpr const char* name = "eq";
  template <class T> static constexpr bool holds(T a, T b) { return a == b; }
};
struct Ne {
  static constexpr const char* name = "ne";
  template <class T> static constexpr bool holds(T a, T b) { return a != b; }
};
struct Lt {
  static constexpr const char* name = "lt";
  template <class T> static constexpr bool holds(T a, T b) { return a < b; }
};
struct Le {
  static constexpr const char* name = "le";
  template <class T> static constexpr bool holds(T a, T b) { return a <= b; }
};
struct Gt {
  static constexpr const char* name = "gt";
  template <class T> static constexpr bool holds(T a, T b) { return a > b; }
};
struct Ge {
  static constexpr const char* name = "ge";
  template <class T> static constexpr bool holds(T a, T b) { return a >= b; }
};
struct And {
  static constexpr const char* name = "logical_and";
  template <class T> static constexpr bool holds(T a, T b) { return a && b; }
};
struct Or {
  static constexpr const char* name = "logical_or";
  template <class T> static constexpr bool holds(T a, T b) { return a || b; }
};

// F::holds on the type of computation.
template <class F, class C> struct Holds {
  constexpr bool operator()(C a, C b) const { return F::holds(a, b); }
};
template <class C> struct Choose {
  constexpr C operator()(bool condition, C a, C b) const { return condition ? a : b; }
};

}  // namespace tandem::detail
