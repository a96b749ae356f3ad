// Sums of many rows, column by column, on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace tandem {

// So many terms are added to one number of A; the sums of such stretches are added in f64 (integers: in A).
// So a sum of any length has an error of at most (kStretch + 1) epsilon(A) / 2 times the sum of the
// magnitudes.
inline constexpr int64_t kStretch = 256;
template <class A> using wide_t = std::conditional_t<std::is_floating_point_v<A>, double, A>;

namespace detail {

// n zeros from the start of a cache line on, so that vectors of them do not straddle two.
template <class A> class AlignedZeros {
 public:
  explicit AlignedZeros(int64_t n) : memory_(n + 64 / sizeof(A)) {
    void* start = memory_.data();
    size_t room = memory_.size() * sizeof(A);
    data_ = static_cast<A*>(std::align(64, n * sizeof(A), start, room));
  }
  AlignedZeros(const AlignedZeros&) = delete;
  AlignedZeros& operator=(const AlignedZeros&) = delete;
  A* data() { return data_; }

 private:
  std::vector<A> memory_;
  A* data_;
};

template <class A> class ColumnSums {
 public:
  explicit ColumnSums(int64_t columns) : columns_(columns), zeros_(columns), stretch_(zeros_.data()) {}

  // Where the next row is to be added.
  A* next_row() {
    if (rows_ == kStretch) flush();
    ++rows_;
    return stretch_;
  }
  template <class T> void write(T* out) {
    if (whole_.empty()) {
      std::copy(stretch_, stretch_ + columns_, out);
    } else {
      flush();
      std::copy(whole_.begin(), whole_.end(), out);
    }
  }
  void clear() {
    std::fill(stretch_, stretch_ + columns_, A(0));
    whole_.clear();
    rows_ = 0;
  }

 private:
  void flush() {
    if (whole_.empty()) whole_.resize(columns_);
    A* from = stretch_;
    wide_t<A>* to = whole_.data();
#pragma omp simd
    for (int64_t i = 0; i < columns_; ++i) to[i] += from[i], from[i] = 0;
    rows_ = 0;
  }

  int64_t columns_, rows_ = 0;  // rows in the stretch
  AlignedZeros<A> zeros_;
  A* stretch_;
  std::vector<wide_t<A>> whole_;
};

}  // namespace detail
}  // namespace tandem
