#include "autograd/makers.h"

#include <cstring>

#include "autograd/tensor_impl.h"

namespace tandem {
namespace {

// Numbers in row-major order; those of another dtype are none of the maker's.
Tensor of_values(const char* maker, const std::vector<double>& values, const Shape& shape,
                 const TensorOptions& options) {
  for (double value : values) check_holds(maker, options.dtype, value);
  const Tensor result = empty(shape, {options.dtype, options.device});
  copy_elements(result, from_values(values, shape));
  return options.requires_grad ? result.requires_grad_() : result;
}

}  // namespace

Tensor full(const Shape& shape, double value, const TensorOptions& options) {
  const Tensor result = empty(shape, {options.dtype, options.device}).fill_(value);
  return options.requires_grad ? result.requires_grad_() : result;
}
Tensor zeros(const Shape& shape, const TensorOptions& options) { return full(shape, 0, options); }
Tensor ones(const Shape& shape, const TensorOptions& options) { return full(shape, 1, options); }
Tensor scalar(double value, const TensorOptions& options) { return full({}, value, options); }

Tensor arange(double start, double end, double step, const TensorOptions& options) {
  const double count = step != 0 ? std::ceil((end - start) / step) : -1;
  check<ValueError>(count >= 0 && count < 0x1p62, "arange: no values from {} to {} by {}", start, end, step);
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<double>(i) * step;
  return of_values("arange", values, {static_cast<int64_t>(values.size())}, options);
}

Tensor linspace(double start, double end, int64_t steps, const TensorOptions& options) {
  check<ValueError>(steps >= 0, "linspace: expected a number of steps from 0, got {}", steps);
  std::vector<double> values(static_cast<size_t>(steps), start);
  // Both ends exactly, so from both of them.
  const double step = steps > 1 ? (end - start) / static_cast<double>(steps - 1) : 0;
  for (int64_t i = 0; i < steps; ++i) {
    const bool near_start = i < steps / 2 || steps == 1;
    values[static_cast<size_t>(i)] =
        near_start ? start + static_cast<double>(i) * step : end - static_cast<double>(steps - 1 - i) * step;
  }
  return of_values("linspace", values, {steps}, options);
}

Tensor eye(int64_t n, const TensorOptions& options) {
  const Tensor result = zeros({n, n}, {options.dtype, options.device});
  make_view(result, {n}, {n + 1}).fill_(1);
  return options.requires_grad ? result.requires_grad_() : result;
}

template <Element T> Tensor from_values(std::span<const T> values, const Shape& shape) {
  check<ShapeError>(static_cast<int64_t>(values.size()) == shape.numel(),
                    "from_values: {} values for shape {}", values.size(), shape);
  const Tensor result = empty(shape, {dtype_of<T>});
  if (!values.empty()) std::memcpy(result.raw(), values.data(), values.size_bytes());
  return result;
}
template <> Tensor from_values(const std::vector<bool>& values, const Shape& shape) {
  return from_values(std::vector<uint8_t>(values.begin(), values.end()), shape).to(DType::boolean);
}
template Tensor from_values(std::span<const uint8_t>, const Shape&);
template Tensor from_values(std::span<const int32_t>, const Shape&);
template Tensor from_values(std::span<const int64_t>, const Shape&);
template Tensor from_values(std::span<const float>, const Shape&);
template Tensor from_values(std::span<const double>, const Shape&);

void Numbers::check_exact(double magnitude) {
  check<ValueError>(magnitude < 0x1p53, "tensor: a whole number of {} has no exact f64: use from_values",
                    magnitude);
}

Numbers::Numbers(std::initializer_list<Numbers> rows) : shape_{0}, truths_(rows.size() > 0) {
  const Numbers* const first = rows.begin();
  if (rows.size() > 0) shape_ = first->shape_, shape_.insert(0, static_cast<int64_t>(rows.size()));
  for (const Numbers& row : rows) {
    check<ShapeError>(row.shape_ == first->shape_, "tensor: row {} has shape {}, row 0 has {}", &row - first,
                      row.shape_, first->shape_);
    values_.insert(values_.end(), row.values_.begin(), row.values_.end());
    truths_ &= row.truths_;
  }
}

Tensor tensor(const Numbers& numbers) {
  return tensor(numbers, {numbers.are_truths() ? DType::boolean : DType::f32});
}

Tensor tensor(const Numbers& numbers, const Shape& shape) {
  check<ShapeError>(static_cast<int64_t>(numbers.values().size()) == shape.numel(),
                    "tensor: {} values for shape {}", numbers.values().size(), shape);
  return tensor(numbers).view(shape);
}

Tensor tensor(const Numbers& numbers, const TensorOptions& options) {
  for (double value : numbers.values()) {
    check<ValueError>(std::isinf(value) || !(std::abs(value) >= overflow(options.dtype).from),
                      "tensor: {} is beyond the range of {}", value, name_of(options.dtype));
  }
  return of_values("tensor", numbers.values(), numbers.shape(), options);
}

}  // namespace tandem
