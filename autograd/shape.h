// Sizes and strides: a small vector of at most kMaxDims integers that never allocates.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "autograd/error.h"
#include "autograd/limits.h"

namespace tandem {

template <class T>
concept WholeNumber = std::integral<T> && !std::same_as<T, bool>;

class Shape {
 public:
  Shape() = default;
  template <WholeNumber T> Shape(T size) { push_back(static_cast<int64_t>(size)); }  // of one dimension
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  Shape(const std::vector<int64_t>& sizes) : Shape(std::span(sizes)) {}
  explicit Shape(std::span<const int64_t> sizes) {
    for (int64_t size : sizes) push_back(size);
  }

  int size() const { return count_; }  // the number of dimensions
  // Whether it is [], the shape of a number.
  bool empty() const { return count_ == 0; }
  // A negative index counts from the end; ShapeError outside of the dimensions.
  int64_t& operator[](int i) { return sizes_[place(i)]; }
  int64_t operator[](int i) const { return sizes_[place(i)]; }
  int64_t back() const { return (*this)[-1]; }
  // As a list of sizes.
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + count_; }
  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

  // Adds a last dimension; ShapeError for one too many.
  void push_back(int64_t size) {
    // One more than kMaxDims: a kernel sees the passes of an 8-dimensional tensor as a ninth dimension.
    check<ShapeError>(count_ <= kMaxDims, "shape: at most {} dimensions are supported", kMaxDims);
    sizes_[count_++] = size;
  }
  void insert(int at, int64_t size);  // at = size(): after the last
  void erase(int at);                 // the dimension `at`

  // The product of the sizes. ShapeError when it does not fit into 64 bits, zeros left out: strides fit, too.
  int64_t numel() const {
    int64_t n = 1;
    bool empty = false;
    for (int64_t size : *this) {
      if (size == 0) {
        empty = true;
      } else if (__builtin_mul_overflow(n, size, &n)) [[unlikely]] {
        raise_too_large();
      }
    }
    return empty ? 0 : n;
  }

 private:
  [[noreturn]] void raise_too_large() const;
  int place(int i) const {
    if (static_cast<unsigned>(i) < static_cast<unsigned>(count_)) [[likely]]
      return i;
    return place_from_end(i);
  }
  int place_from_end(int i) const;

  int64_t sizes_[kMaxDims + 1] = {};
  int count_ = 0;
};

std::string to_string(const Shape& shape);  // "[2,3]"

// Of a tensor without gaps, row-major: [3, 1] for [2, 3].
Shape contiguous_strides(const Shape& shape);

// The shape to which both broadcast (sizes aligned from the right, 1 stretches); ShapeError naming `op`.
Shape broadcast(const char* op, const Shape& a, const Shape& b);

// A dimension counted from the end when negative, checked: 0 <= result < dims; ShapeError naming `op`.
int wrap_dim(const char* op, int64_t dim, int dims);
// The same of each of `dims`; ShapeError for one that is named twice.
Shape wrap_dims(const char* op, const Shape& dims, int count);

}  // namespace tandem

template <> struct fmt::formatter<tandem::Shape> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const tandem::Shape& shape, format_context& context) const {
    const std::string text = tandem::to_string(shape);
    return std::copy(text.begin(), text.end(), context.out());
  }
};
