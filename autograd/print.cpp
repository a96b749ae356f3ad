#include "autograd/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "autograd/grad_mode.h"

namespace tandem {
namespace {

constexpr int64_t kEdge = 3;          // elements shown at each end of a long dimension
constexpr int64_t kThreshold = 1000;  // elements above which dimensions are shortened
constexpr size_t kLine = 80;          // characters

struct Printer {
  const std::vector<std::string>& elements;  // of one width
  const Shape& shape;
  const Shape& full;  // the shape before it was shortened

  // Dimension d from the element `offset` on, after `indent` characters of its line.
  void print(std::string& text, int d, int64_t offset, size_t indent) const {
    if (d == shape.size()) {
      text += elements[static_cast<size_t>(offset)];
      return;
    }
    int64_t step = 1;
    for (int i = d + 1; i < shape.size(); ++i) step *= shape[i];
    const int deeper = shape.size() - d - 1;
    // A new line for each dimension that begins anew; numbers fill theirs.
    const std::string line(indent + 1, ' '), next = std::string(static_cast<size_t>(deeper), '\n') + line;
    const size_t room = elements.empty() ? 1 : kLine - std::min(indent, kLine);
    const size_t in_line = elements.empty() ? 1 : std::max<size_t>(1, room / (elements[0].size() + 2));
    text += '[';
    size_t written = 0;
    const auto separate = [&] {
      if (written == 0) {
        ++written;
        return;
      }
      text += ',';
      if (deeper > 0) {
        text += next;
      } else if (written % in_line == 0) {
        text.append("\n").append(line);
      } else {
        text += ' ';
      }
      ++written;
    };
    for (int64_t i = 0; i < shape[d]; ++i) {
      if (i == kEdge && shape[d] < full[d]) {
        separate();
        text += deeper > 0 ? "..." : " ...";
      }
      separate();
      print(text, d + 1, offset + i * step, indent + 1);
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
  double largest = 0, smallest = INFINITY;  // magnitudes but 0
  bool whole = true;
  for (double v : values) {
    if (!std::isfinite(v) || v == 0) continue;
    whole &= v == std::trunc(v);
    largest = std::max(largest, std::abs(v));
    smallest = std::min(smallest, std::abs(v));
  }
  const bool scientific =
      largest > 0 && (largest / smallest > 1000 || largest > 1e8 || (!whole && smallest < 1e-4));
  std::vector<std::string> texts;
  for (double v : values) {
    texts.push_back(scientific && std::isfinite(v) ? fmt::format("{:.4e}", v)
                    : !std::isfinite(v)            ? fmt::format("{}", v)
                    : whole                        ? fmt::format("{:.0f}.", v)
                                                   : fmt::format("{:.4f}", v));
  }
  return texts;
}

// Of one width.
std::vector<std::string> elements_of(const Tensor& x) {
  std::vector<std::string> texts;
  if (is_floating(x.dtype())) {
    texts = floating_elements(x.to_vector<double>());
  } else {
    for (int64_t v : x.to_vector<int64_t>())
      texts.push_back(x.dtype() != DType::boolean ? std::to_string(v) : v ? "true" : "false");
  }
  size_t width = 0;
  for (const std::string& text : texts) width = std::max(width, text.size());
  for (std::string& text : texts) text.insert(0, width - text.size(), ' ');
  return texts;
}

// What the numbers do not show.
std::vector<std::string> notes_on(const Tensor& x) {
  std::vector<std::string> notes;
  if (x.numel() == 0 && x.shape() != Shape{0}) notes.push_back(fmt::format("shape={}", x.shape()));
  if (x.dtype() != DType::f32 && x.dtype() != DType::i64 && x.dtype() != DType::boolean)
    notes.push_back(fmt::format("dtype={}", x.dtype()));
  if (x.device() != kCpu) notes.push_back(fmt::format("device={}", x.device()));
  if (x.passes() > 1) notes.push_back(fmt::format("passes={}", x.passes()));
  return notes;
}

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "tensor(undefined)";
  NoGradGuard guard;
  std::string text = "tensor(";
  const size_t indent = text.size();
  if (tensor.numel() == 0) {
    text += "[]";
  } else {
    const Tensor whole = tensor.passes() > 1 ? tensor.detach().passes_as_batch() : tensor.detach();
    const Tensor shown = whole.numel() > kThreshold ? edges(whole) : whole;
    Printer{elements_of(shown), shown.shape(), whole.shape()}.print(text, 0, 0, indent);
  }
  size_t column = text.size() - (text.rfind('\n') + 1);
  for (const std::string& note : notes_on(tensor)) {
    const bool fits = column + note.size() + 3 <= kLine;
    text += fits ? ", " : ",\n" + std::string(indent, ' ');
    column = (fits ? column + 2 : indent) + note.size();
    text += note;
  }
  return text += ')';
}

namespace {

fmt::format_context::iterator write(std::string_view text, fmt::format_context& context) {
  return std::copy(text.begin(), text.end(), context.out());
}

}  // namespace

fmt::format_context::iterator TextFormatter::format(const Tensor& tensor,
                                                    fmt::format_context& context) const {
  return write(to_string(tensor), context);
}
fmt::format_context::iterator TextFormatter::format(DType dtype, fmt::format_context& context) const {
  return write(name_of(dtype), context);
}
fmt::format_context::iterator TextFormatter::format(Device device, fmt::format_context& context) const {
  return write(name_of(device), context);
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << to_string(tensor); }
std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << to_string(shape); }
std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }
std::ostream& operator<<(std::ostream& out, Device device) { return out << name_of(device); }

}  // namespace tandem
