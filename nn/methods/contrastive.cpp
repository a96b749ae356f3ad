#include "nn/methods/contrastive.h"

#include <cmath>

#include "autograd/grad_mode.h"
#include "nn/metrics/scores.h"
#include "ops/ops.h"

namespace tandem::nn {
namespace {

void check_options(const ContrastiveOptions& options) {
  check<ConfigError>(options.temperature > 0 && std::isfinite(options.temperature),
                     "temperature: expected a number above 0, got {}", options.temperature);
}

// Rows of length 1.
Tensor unit_rows(const Tensor& x) {
  const Tensor norm = sqrt(square(x).sum({1}, true));
  const auto norms = norm.to_vector<double>();
  for (size_t i = 0; i < norms.size(); ++i) {
    constexpr const char* kMessage =
        "contrastive_loss: embedding {} has the norm {}, expected a finite one above 0";
    check<NonFiniteError>(std::isfinite(norms[i]), kMessage, i, norms[i]);
    check<ValueError>(norms[i] > 0, kMessage, i, norms[i]);
  }
  return x / norm;
}

}  // namespace

LossParts contrastive_loss(const Tensor& anchors, const Tensor& candidates, const ContrastiveOptions& options,
                           double divisor) {
  check_options(options);
  check<ShapeError>(anchors.dim() == 2 && candidates.dim() == 2 && anchors.size(1) == candidates.size(1) &&
                        candidates.size(0) >= anchors.size(0) && anchors.passes() == 1 &&
                        candidates.passes() == 1,
                    "contrastive_loss: expected anchors [N, D] and candidates [M >= N, D], got {} and {}",
                    describe(anchors), describe(candidates));
  const Tensor similarities = matmul(unit_rows(anchors), unit_rows(candidates).t()) / options.temperature;
  const Tensor own = arange(0, static_cast<double>(anchors.size(0)), 1, {DType::i64, anchors.device()});
  return rdrop_cross_entropy(similarities, own, {.alpha = 0, .divisor = divisor});
}

SimCse::SimCse(Module& module, Embed embed, ContrastiveOptions options)
    : module_(module), embed_(std::move(embed)), options_(options) {
  check_options(options);
}

LossParts UnsupervisedSimCse::loss(const Tensor& embeddings, const data::Batch&, const RDropOptions& options,
                                   int passes) {
  if (!module_.is_training()) return contrastive_loss(embeddings, embeddings, options_, options.divisor);
  check<ConfigError>(passes == 2, "SimCSE: expected passes 2, its two views, got {}", passes);
  check<ConfigError>(embeddings.passes() == 2,
                     "SimCSE: the two views are the same: the model has no dropout");
  LossParts parts = contrastive_loss(embeddings.pass(0), embeddings.pass(1), options_, options.divisor);
  parts.correct *= passes;  // the trainer's accuracy is over passes
  return parts;
}

Tensor SupervisedSimCse::forward(const data::Batch& batch) {
  check<ShapeError>(batch.inputs.size() == 2 || batch.inputs.size() == 3,
                    "SimCSE: expected batches of 2 or 3 texts a sample, got {}", batch.inputs.size());
  Tensors embeddings;
  for (const Tensor& ids : batch.inputs) embeddings.push_back(embed_(ids));
  return cat(embeddings);
}

LossParts SupervisedSimCse::loss(const Tensor& embeddings, const data::Batch& batch,
                                 const RDropOptions& options, int passes) {
  check<ConfigError>(passes == 1, "supervised SimCSE: expected passes 1, got {}", passes);
  return contrastive_loss(embeddings.slice(0, 0, batch.size),
                          embeddings.slice(0, batch.size, embeddings.size(0)), options_, options.divisor);
}

std::vector<double> cosine_similarities(const Tensor& a, const Tensor& b) {
  const NoGradGuard no_grad;
  return (unit_rows(a) * unit_rows(b)).sum({1}).to_vector<double>();
}

double similarity_spearman(const Embed& embed, const data::Dataset& pairs, int64_t batch_size) {
  const NoGradGuard no_grad;
  std::vector<double> cosines, scores;
  for (const data::Indices& indices : pairs.ordered_batches(batch_size)) {
    const data::Batch batch = pairs.batch(indices, {});
    const auto now = cosine_similarities(embed(batch.inputs.at(0)), embed(batch.inputs.at(1)));
    const auto score = batch.target.to_vector<double>();
    cosines.insert(cosines.end(), now.begin(), now.end());
    scores.insert(scores.end(), score.begin(), score.end());
  }
  return metrics::spearman(cosines, scores);
}

}  // namespace tandem::nn
