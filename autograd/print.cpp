#include <algorithm>
#include <cmath>
#include <ostream>

#include "autograd/grad_mode.h"
#include "autograd/tensor.h"

namespace tandem {
namespace {

constexpr int64_t kEdge = 3;          // elements shown at each end of a long dimension
constexpr int64_t kThreshold = 1000;  // elements above which dimensions are shortened

struct Printer {
  const std::vector<std::string>& elements;
  const Shape& shape;
  const Shape& full;  // the shape before it was shortened
  size_t width;

  void print(std::string& text, int d, int64_t offset) const {
    if (d == shape.size()) {
      text += fmt::format("{:>{}}", elements[offset], width);
      return;
    }
    int64_t step = 1;
    for (int i = d + 1; i < shape.size(); ++i) step *= shape[i];
    // A new line for each dimension that begins anew.
    const int deeper = shape.size() - d - 1;
    const std::string separator = deeper == 0 ? ", " : fmt::format(",{:\n>{}}{: >{}}", "", deeper, "", d + 1);
    text += '[';
    for (int64_t i = 0; i < shape[d]; ++i) {
      if (i) text += separator;
      if (i == kEdge && shape[d] < full[d]) text.append("...").append(separator);
      print(text, d + 1, offset + i * step);
    }
    text += ']';
  }
};

// x without the inner part of its long dimensions.
Tensor edges(Tensor x) {
  for (int d = 0; d < x.dim(); ++d) {
    const int64_t size = x.size(d);
    if (size <= 2 * kEdge) continue;
    Shape shape = x.shape();
    shape[d] = 2 * kEdge;
    const Tensor part = empty(shape, {x.dtype(), x.device()});
    part.slice(d, 0, kEdge).copy_(x.slice(d, 0, kEdge));
    part.slice(d, kEdge, 2 * kEdge).copy_(x.slice(d, size - kEdge, size));
    x = part;
  }
  return x;
}

std::vector<std::string> floating_elements(const std::vector<double>& values) {
  double largest = 0, smallest = INFINITY;
  bool integral = true;
  for (double v : values) {
    if (!std::isfinite(v)) continue;
    integral &= v == std::trunc(v);
    largest = std::max(largest, std::abs(v));
    if (v != 0) smallest = std::min(smallest, std::abs(v));
  }
  const bool scientific = largest >= 1e5 || (std::isfinite(smallest) && smallest < 1e-4);
  std::vector<std::string> texts;
  for (double v : values) {
    texts.push_back(!std::isfinite(v) ? fmt::format("{}", v)
                    : scientific      ? fmt::format("{:.4e}", v)
                    : integral        ? fmt::format("{:.0f}.", v)
                                      : fmt::format("{:.4f}", v));
  }
  return texts;
}

std::vector<std::string> elements_of(const Tensor& x) {
  if (is_floating(x.dtype())) return floating_elements(x.to_vector<double>());
  std::vector<std::string> texts;
  for (int64_t v : x.to_vector<int64_t>()) {
    texts.push_back(x.dtype() != DType::boolean ? std::to_string(v) : v ? "true" : "false");
  }
  return texts;
}

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  NoGradGuard guard;
  const Tensor whole = tensor.passes() > 1 ? tensor.detach().passes_as_batch() : tensor.detach();
  const Tensor shown = whole.numel() > kThreshold ? edges(whole) : whole;
  const std::vector<std::string> elements = elements_of(shown);
  size_t width = 0;
  for (const std::string& text : elements) width = std::max(width, text.size());
  std::string text;
  Printer{elements, shown.shape(), whole.shape(), width}.print(text, 0, 0);
  return text.append(" ").append(std::string(describe(tensor)));
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << to_string(tensor); }

}  // namespace tandem
