#include <cmath>
#include <ostream>

#include "autograd/tensor.h"

namespace tandem {
namespace {

constexpr int64_t kEdge = 3;          // elements shown at each end of a long dimension
constexpr int64_t kThreshold = 1000;  // elements above which dimensions are shortened

struct Printer {
  const std::vector<double>& values;
  const Shape& shape;
  bool shorten;
  std::string format;  // of one element

  void print(std::string& text, int d, int64_t offset) const {
    if (d == shape.size()) {
      text += fmt::format(fmt::runtime(format), values[offset]);
      return;
    }
    int64_t step = 1;
    for (int i = d + 1; i < shape.size(); ++i) step *= shape[i];
    text += '[';
    for (int64_t i = 0; i < shape[d]; ++i) {
      if (i) text += d + 1 == shape.size() ? ", " : ",\n" + std::string(d + 1, ' ');
      if (shorten && shape[d] > 2 * kEdge && i == kEdge) {
        text += "...";
        i = shape[d] - kEdge - 1;
        continue;
      }
      print(text, d + 1, offset + i * step);
    }
    text += ']';
  }
};

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  const std::vector<double> values = tensor.to_vector<double>();
  double largest = 0, smallest = INFINITY;
  bool integral = true;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    integral &= v == std::trunc(v);
    largest = std::max(largest, std::abs(v));
    if (v != 0) smallest = std::min(smallest, std::abs(v));
  }
  const bool scientific = largest >= 1e5 || (std::isfinite(smallest) && smallest < 1e-4);
  std::string format = integral && !scientific ? "{:.0f}" : scientific ? "{:.4e}" : "{:.4f}";
  size_t width = 0;
  for (double v : values) width = std::max(width, fmt::format(fmt::runtime(format), v).size());
  format.insert(2, std::to_string(width));

  Shape shape = tensor.shape();
  if (tensor.passes() > 1) shape.insert(0, tensor.passes());
  std::string text;
  Printer{values, shape, static_cast<int64_t>(values.size()) > kThreshold, format}.print(text, 0, 0);
  return text + " " + describe(tensor);
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << to_string(tensor); }

}  // namespace tandem
