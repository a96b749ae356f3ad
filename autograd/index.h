// What stands between the brackets of x[...] and x.index({...}).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "autograd/shape.h"

namespace tandem {

class Tensor;
struct TensorImpl;

// Where a slice starts or ends: a place, counted from the end when negative, or open: {} or std::nullopt.
struct Bound : std::optional<int64_t> {
  Bound() = default;
  Bound(std::nullopt_t) {}
  template <WholeNumber T> Bound(T place) : std::optional<int64_t>(place) {}
};

struct Slice {  // start:end:step; from the end on where step is negative
  Bound start = {}, end = {};
  int64_t step = 1;
};
struct Ellipsis {};  // ..., all of the dimensions that no other index takes
struct NewAxis {};   // None, a new dimension of size 1

// One of: 2; {1, 3}, {1, 7, 2}, {1, {}}, {{}, {}, -1} for the slices 1:3, 1:7:2, 1:, ::-1; {} for a whole
// dimension; Ellipsis{}; NewAxis{}; a bool tensor, a mask of as many dimensions as it has; an i64 or i32
// tensor of places along a dimension.
struct Index {
  // Which of them.
  enum class Kind { integer, slice, ellipsis, new_axis, tensor };

  Index() = default;
  template <WholeNumber T> Index(T i) : kind(Kind::integer), integer(i) {}
  Index(Bound start, Bound end, int64_t step = 1) : slice{start, end, step} {}
  Index(tandem::Slice s) : slice(s) {}
  Index(Ellipsis) : kind(Kind::ellipsis) {}
  Index(NewAxis) : kind(Kind::new_axis) {}
  Index(const Tensor& mask_or_places);
  // Other lists are no slices: without this, {{1, 2, 3, 4}} would be read as {1, 2, 3, 4}.
  template <class... T>
  requires(sizeof...(T) > 3 || (sizeof...(T) > 1 && !(std::convertible_to<T, Bound> && ...))) Index(T...)
  = delete;

  Kind kind = Kind::slice;   // which of the following counts
  int64_t integer = 0;       // counted from the end when negative
  tandem::Slice slice = {};  // the whole dimension unless said
  std::shared_ptr<TensorImpl> tensor = {};
};

// The argument of index(): x.index({0, {1, 3}, Ellipsis{}}). Anything else in braces does not compile.
struct IndexList : std::vector<Index> {
  IndexList(std::initializer_list<Index> list) : std::vector<Index>(list) {}
  template <std::same_as<std::vector<Index>> V> IndexList(const V& list) : std::vector<Index>(list) {}
};

}  // namespace tandem
