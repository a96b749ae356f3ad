// Sums of many rows, column by column, on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace tandem {

// So many terms are added to one number of A; the sums of such stretches are added in f64 (integers: in A).
// So a sum of any length has an error of at most (kStretch + 1) epsilon(A) / 2 times the sum of the
// magnitudes.
inline constexpr int64_t kStretch = 256;
template <class A> using wide_t = std::conditional_t<std::is_floating_point_v<A>, double, A>;

namespace detail {

template <class A> class ColumnSums {
 public:
  explicit ColumnSums(int64_t columns) : stretch_(columns) {}

  // Where the next row is to be added.
  A* next_row() {
    if (rows_ == kStretch) flush();
    ++rows_;
    return stretch_.data();
  }
  template <class T> void write(T* out) {
    if (whole_.empty()) {
      std::copy(stretch_.begin(), stretch_.end(), out);
    } else {
      flush();
      std::copy(whole_.begin(), whole_.end(), out);
    }
  }
  void clear() {
    std::fill(stretch_.begin(), stretch_.end(), A(0));
    whole_.clear();
    rows_ = 0;
  }

 private:
  void flush() {
    const auto n = static_cast<int64_t>(stretch_.size());
    if (whole_.empty()) whole_.resize(n);
    A* from = stretch_.data();
    wide_t<A>* to = whole_.data();
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] += from[i], from[i] = 0;
    rows_ = 0;
  }

  int64_t rows_ = 0;  // in the stretch
  std::vector<A> stretch_;
  std::vector<wide_t<A>> whole_;
};

}  // namespace detail
}  // namespace tandem
