#include "models/transformer/adaptive.h"

#include <algorithm>
#include <cmath>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

nn::Initializer usual(int64_t numbers) {
  return nn::init::normal(0, 1 / std::sqrt(static_cast<double>(numbers)));
}

std::vector<int64_t> checked(std::vector<int64_t> cutoffs, int64_t vocab, int64_t pad_id) {
  int64_t before = pad_id;
  for (const int64_t cutoff : cutoffs) {
    check<ConfigError>(cutoff > before && cutoff < vocab,
                       "cutoffs: expected ascending ids above {} and below {}, got {}", before, vocab,
                       cutoff);
    before = cutoff;
  }
  return cutoffs;
}

}  // namespace

AdaptiveEmbedding::Tail::Tail(Module& parent, std::string name, int64_t words, int64_t dim, int64_t numbers)
    : Layer(parent, std::move(name)),
      weight(register_parameter("weight", {words, numbers}, usual(numbers))),
      project(register_parameter("project", {dim, numbers}, usual(dim))) {}

AdaptiveEmbedding::AdaptiveEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim,
                                     int64_t pad_id, std::vector<int64_t> cutoffs_, int64_t factor)
    : Layer(parent, std::move(name)),
      pad_id(pad_id),
      cutoffs(checked(std::move(cutoffs_), vocab, pad_id)),
      weight(register_parameter("weight", {cutoffs.empty() ? vocab : cutoffs[0], dim}, usual(dim))),
      tails(*this, "tails") {
  check<ConfigError>(factor >= 1, "factor: expected at least 1, got {}", factor);
  int64_t numbers = dim;
  for (size_t i = 0; i < cutoffs.size(); ++i) {
    numbers /= factor;
    check<ConfigError>(numbers >= 1, "factor: {} leaves no number of dim {} to tail {}", factor, dim, i);
    const int64_t end = i + 1 < cutoffs.size() ? cutoffs[i + 1] : vocab;
    tails.emplace_back(end - cutoffs[i], dim, numbers);
  }
  const NoGradGuard no_grad;
  if (pad_id >= 0) weight.select(0, pad_id).zero_();
}

Tensor AdaptiveEmbedding::forward(const Tensor& ids) {
  if (cutoffs.empty()) return embedding(weight, ids, pad_id);
  // Looks vectors up cluster by cluster, then puts them in the order of their ids.
  const auto values = ids.to_vector<int64_t>();
  std::vector<std::vector<int64_t>> members(cutoffs.size() + 1), places(members.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t cluster = std::upper_bound(cutoffs.begin(), cutoffs.end(), values[i]) - cutoffs.begin();
    places[cluster].push_back(static_cast<int64_t>(i));
    members[cluster].push_back(cluster == 0 ? values[i] : values[i] - cutoffs[cluster - 1]);
  }
  Tensors vectors;
  std::vector<int64_t> order(values.size());
  int64_t rows = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].empty()) continue;
    const Tensor index = from_values(members[i], {std::ssize(members[i])}).to(ids.device());
    vectors.push_back(i == 0 ? embedding(weight, index, pad_id)
                             : linear(embedding(tails[i - 1].weight, index), tails[i - 1].project));
    for (const int64_t place : places[i]) order[place] = rows++;
  }
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return index_select(cat(vectors), 0, from_values(order, {rows}).to(ids.device())).reshape(shape);
}

AdaptiveSoftmax::AdaptiveSoftmax(Module& parent, std::string name, AdaptiveEmbedding& embedding)
    : Layer(parent, std::move(name)),
      classes(register_parameter("classes", {std::ssize(embedding.cutoffs), embedding.weight.size(1)},
                                 usual(embedding.weight.size(1)))),
      embedding_(embedding) {}

Tensor AdaptiveSoftmax::forward(const Tensor& hidden) {
  const int64_t words = embedding_.weight.size(0);
  const Tensor head = log_softmax(linear(hidden, cat({embedding_.weight, classes})), -1);
  Tensors parts = {head.slice(-1, 0, words)};
  for (auto& tail : embedding_.tails) {
    const int64_t at = words + std::ssize(parts) - 1;
    const Tensor within = log_softmax(linear(matmul(hidden, tail.project), tail.weight), -1);
    parts.push_back(within + head.slice(-1, at, at + 1));
  }
  return cat(parts, -1);
}

}  // namespace tandem::models
