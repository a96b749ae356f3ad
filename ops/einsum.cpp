// Each tensor is brought to distinct dimensions of full size: the diagonal of repeated letters, no dimension
// of size 1 that another tensor has longer. Two such tensors meet in a matrix product: with the letters
//   batch: of both, needed later    rows, columns: of one alone    inner: of both, not needed any more
// y[batch, rows, columns] = sum over inner of a[batch, rows, inner] b[batch, inner, columns].
#include "ops/einsum.h"

#include <algorithm>
#include <map>
#include <optional>

#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/views.h"

namespace tandem {
namespace {

// The names of dimensions: letters, and -1, -2, ... for those of "...", from the last on. In ascending order
// they are the implicit output's.
using Labels = std::vector<int>;
constexpr int kEllipsis = 0;  // before the number of its dimensions is known

struct Operand {
  Tensor x;
  Labels labels;
};

bool has(const Labels& labels, int label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

std::string described(int label) {
  return label > 0 ? fmt::format("'{}'", static_cast<char>(label)) : fmt::format("dim {} of '...'", label);
}

struct Equation {
  std::string_view text;
  std::vector<Labels> terms;
  std::optional<Labels> output;

  explicit Equation(std::string_view text) : text(text), terms(1) {
    Labels* term = &terms.back();
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (c == ' ') continue;
      if (letter) {
        term->push_back(c);
      } else if (text.substr(i, 3) == "..." && !has(*term, kEllipsis)) {
        term->push_back(kEllipsis), i += 2;
      } else if (text.substr(i, 2) == "->" && !output) {
        term = &output.emplace(), ++i;
      } else if (c == ',' && !output) {
        term = &terms.emplace_back();
      } else {
        raise<ValueError>("einsum: '{}' at {} of '{}': expected letters, ',', one '->', one '...' per term",
                          c, i, text);
      }
    }
  }
};

// Puts the dimensions of "...", `count` of them, in its place.
Labels expanded(const Labels& labels, int count) {
  Labels result;
  for (int label : labels) {
    if (label != kEllipsis) result.push_back(label);
    for (int i = count; label == kEllipsis && i > 0; --i) result.push_back(-i);
  }
  return result;
}

std::vector<Operand> operands(const Equation& equation, const Tensors& tensors) {
  check<ValueError>(equation.terms.size() == tensors.size(), "einsum: '{}' has {} terms for {} tensors",
                    equation.text, equation.terms.size(), tensors.size());
  std::vector<Operand> result;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& x = tensors[i];
    const Labels& term = equation.terms[i];
    check<DTypeError>(is_floating(x.dtype()), "einsum: expected floating dtypes (bf16, f32, f64), got {}",
                      describe(x));
    const bool ellipsis = has(term, kEllipsis);
    const int letters = static_cast<int>(term.size()) - ellipsis;
    check<ShapeError>(ellipsis ? letters <= x.dim() : letters == x.dim(),
                      "einsum: term {} of '{}' has {} letters for {}", i, equation.text, letters,
                      describe(x));
    result.push_back({x, expanded(term, x.dim() - letters)});
  }
  return result;
}

using Sizes = std::map<int, int64_t>;  // of every label

Sizes sizes_of(const Equation& equation, const std::vector<Operand>& operands) {
  Sizes sizes;
  std::map<int, size_t> owner;  // the tensor that a size is of
  for (size_t i = 0; i < operands.size(); ++i) {
    const Labels& labels = operands[i].labels;
    for (size_t d = 0; d < labels.size(); ++d) {
      const int label = labels[d];
      const int64_t size = operands[i].x.size(static_cast<int64_t>(d));
      const auto first = std::find(labels.begin(), labels.end(), label) - labels.begin();
      check<ShapeError>(operands[i].x.size(first) == size, "einsum: {} of '{}' is {} and {} in tensor {}",
                        described(label), equation.text, operands[i].x.size(first), size, i);
      const int64_t before = sizes.insert({label, size}).first->second;
      check<ShapeError>(size == before || size == 1 || before == 1,
                        "einsum: {} of '{}' is {} in tensor {} and {} in tensor {}", described(label),
                        equation.text, before, owner[label], size, i);
      owner.insert({label, i});
      if (before == 1) sizes[label] = size, owner[label] = i;
    }
  }
  return sizes;
}

Labels output_of(const Equation& equation, const std::vector<Operand>& operands, const Sizes& sizes) {
  if (!equation.output) {
    std::map<int, int> count;
    for (const Operand& operand : operands) {
      for (int label : operand.labels) ++count[label];
    }
    Labels result;
    for (const auto& [label, n] : count) {
      if (label < 0 || n == 1) result.push_back(label);
    }
    return result;
  }
  const int ellipsis = sizes.empty() ? 0 : std::max(0, -sizes.begin()->first);
  const Labels result = expanded(*equation.output, ellipsis);
  for (size_t i = 0; i < result.size(); ++i) {
    const int label = result[i];
    check<ValueError>(sizes.contains(label), "einsum: the output of '{}' has {}, which no term has",
                      equation.text, described(label));
    check<ValueError>(std::count(result.begin(), result.end(), label) == 1,
                      "einsum: the output of '{}' has {} twice", equation.text, described(label));
  }
  return result;
}

// One dimension for each label, of the label's size.
Operand distinct(Operand a, const Sizes& sizes) {
  for (size_t i = 0; i < a.labels.size();) {
    const auto here = a.labels.begin() + i, same = std::find(here + 1, a.labels.end(), *here);
    if (same == a.labels.end()) {
      ++i;
      continue;
    }
    const int label = *here;
    a.x = diagonal(a.x, 0, static_cast<int64_t>(i), same - a.labels.begin());
    a.labels.erase(same);
    a.labels.erase(a.labels.begin() + i);
    a.labels.push_back(label);
  }
  for (int d = a.x.dim() - 1; d >= 0; --d) {
    if (a.x.size(d) == sizes.at(a.labels[d])) continue;
    a.x = a.x.squeeze(d);
    a.labels.erase(a.labels.begin() + d);
  }
  return a;
}

// a without the labels that are not needed(label).
template <class Needed> Operand summed(const Operand& a, const Needed& needed) {
  Shape dims;
  Labels rest;
  for (size_t d = 0; d < a.labels.size(); ++d) {
    if (needed(a.labels[d])) {
      rest.push_back(a.labels[d]);
    } else {
      dims.push_back(static_cast<int64_t>(d));
    }
  }
  return {dims.empty() ? a.x : sum(a.x, dims), rest};
}

// a's dimensions in the order of `labels`, with size 1 for those that it does not have.
Tensor arranged(const Operand& a, const Labels& labels) {
  Shape order, shape;
  for (int label : labels) {
    const auto at = std::find(a.labels.begin(), a.labels.end(), label);
    const int64_t d = at - a.labels.begin();
    if (at != a.labels.end()) order.push_back(d);
    shape.push_back(at != a.labels.end() ? a.x.size(d) : 1);
  }
  return a.x.permute(order).reshape(shape);
}

Labels joined(const Labels& a, const Labels& b) {
  Labels result = a;
  result.insert(result.end(), b.begin(), b.end());
  return result;
}

// The product of two, summed over what is not needed(label) afterwards.
template <class Needed> Operand contract(Operand a, Operand b, const Sizes& sizes, const Needed& needed) {
  a = summed(a, [&](int label) { return needed(label) || has(b.labels, label); });
  b = summed(b, [&](int label) { return needed(label) || has(a.labels, label); });
  Labels batch, rows, columns, inner;
  for (int label : a.labels) (!has(b.labels, label) ? rows : needed(label) ? batch : inner).push_back(label);
  for (int label : b.labels) {
    if (!has(a.labels, label)) columns.push_back(label);
  }
  const Labels labels = joined(batch, joined(rows, columns));
  // No matrices: a product of elements is quicker than many of one row and one column.
  if (inner.empty() || (labels.size() == batch.size() && !batch.empty())) {
    const Labels all = joined(labels, inner);
    const Tensor product = arranged(a, all) * arranged(b, all);
    return summed({product, all}, [&](int label) { return has(labels, label); });
  }
  const auto shape = [&](const Labels& of) {
    Shape result;
    for (int label : of) result.push_back(sizes.at(label));
    return result;
  };
  Shape left = shape(batch), right = left;
  left.push_back(shape(rows).numel()), left.push_back(shape(inner).numel());
  right.push_back(shape(inner).numel()), right.push_back(shape(columns).numel());
  const Tensor y = matmul(arranged(a, joined(batch, joined(rows, inner))).reshape(left),
                          arranged(b, joined(batch, joined(inner, columns))).reshape(right));
  return {y.reshape(shape(labels)), labels};
}

}  // namespace

Tensor einsum(std::string_view text, const Tensors& tensors) {
  const Equation equation(text);
  std::vector<Operand> all = operands(equation, tensors);
  const Sizes sizes = sizes_of(equation, all);
  const Labels output = output_of(equation, all, sizes);
  for (Operand& operand : all) operand = distinct(std::move(operand), sizes);
  Operand result = all[0];
  for (size_t i = 1; i < all.size(); ++i) {
    result = contract(result, all[i], sizes, [&](int label) {
      return has(output, label) || std::any_of(all.begin() + i + 1, all.end(),
                                               [&](auto& later) { return has(later.labels, label); });
    });
  }
  return arranged(summed(result, [&](int label) { return has(output, label); }), output);
}

namespace {

const RegisterOp einsum_op("einsum", [](OpCases& c) {
  const auto of = [](std::string equation) {
    return [=](const Tensors& in) { return einsum(equation, in); };
  };
  const auto sample = [&](const char* equation, const std::vector<Shape>& shapes) {
    Tensors inputs;
    for (const Shape& shape : shapes) inputs.push_back(c.normal(shape));
    c.sample(equation, inputs, of(equation));
  };
  sample("ij,jk", {{2, 3}, {3, 4}});
  sample("bij,bjk->bik", {{2, 2, 3}, {2, 3, 2}});
  sample("bqhd,bkhd->bhqk", {{2, 2, 2, 3}, {2, 3, 2, 3}});
  sample("i,j->ji", {{3}, {4}});
  sample("bi,bi->b", {{3, 4}, {3, 4}});
  sample("i,i", {{5}, {5}});
  sample("ii", {{3, 3}});
  sample("jiij->ji", {{2, 3, 3, 2}});
  sample("cba", {{2, 3, 2}});
  sample("ijk->j", {{2, 3, 2}});
  sample("bn,anm,bm->ba", {{2, 3}, {2, 3, 2}, {2, 2}});
  sample("...ij,j...k->...ki", {{2, 1, 2, 3}, {3, 4, 2}});
  sample("...i->i", {{2, 2, 3}});
  sample("ij,ij->ij", {{3, 1}, {1, 4}});
  sample("ij,jk,kl->", {{1, 3}, {1, 2}, {2, 1}});
  sample(",a", {{}, {3}});
  sample("ij,jk->ik", {{2, 0}, {0, 3}});

  const Tensor x = zeros({2, 3}), v = zeros({4});
  c.fails<ShapeError>("sizes", "einsum: 'j' of 'ij,j->i' is 3 in tensor 0 and 4 in tensor 1", {x, v},
                      of("ij,j->i"));
  c.fails<ShapeError>("ellipsis", "einsum: dim -1 of '...' of '...,...' is 3 in tensor 0 and 4 in tensor 1",
                      {x, v}, of("...,..."));
  c.fails<ShapeError>("diagonal", "einsum: 'i' of 'ii' is 2 and 3 in tensor 0", {x}, of("ii"));
  c.fails<ShapeError>("stretched diagonal", "einsum: 'i' of 'i,ii' is 1 and 3 in tensor 1",
                      {zeros({3}), zeros({1, 3})}, of("i,ii"));
  c.fails<ShapeError>("letters", "einsum: term 1 of 'ij,jk->ik' has 2 letters for f32[4]", {x, v},
                      of("ij,jk->ik"));
  c.fails<ShapeError>("few dimensions", "einsum: term 0 of 'i...j' has 2 letters for f32[4]", {v},
                      of("i...j"));
  c.fails<ValueError>("terms", "einsum: 'ij,jk' has 2 terms for 1 tensors", {x}, of("ij,jk"));
  c.fails<ValueError>("output", "einsum: the output of 'ij->ik' has 'k', which no term has", {x},
                      of("ij->ik"));
  c.fails<ValueError>("twice", "einsum: the output of 'ij->ii' has 'i' twice", {x}, of("ij->ii"));
  c.fails<ValueError>("character", "einsum: '3' at 1 of 'i3->i': expected letters", {x}, of("i3->i"));
  c.fails<ValueError>("two arrows", "einsum: '-' at 4 of 'i->i->i'", {v}, of("i->i->i"));
  c.fails<ValueError>("two ellipses", "einsum: '.' at 4 of '...i...'", {x}, of("...i..."));
  c.fails<DTypeError>("i64", "einsum: expected floating dtypes (bf16, f32, f64), got i64[2]",
                      {zeros({2}, {DType::i64})}, of("i->"));
});

}  // namespace
}  // namespace tandem
