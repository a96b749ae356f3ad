// SimCSE (Gao, Yao, Chen 2021, arXiv 2104.08821): contrastive training of sentence embeddings. Positives are
// the same sentence under another dropout mask (unsupervised) or a sentence that follows from it
// (supervised); negatives are the other sentences of the batch.
#pragma once

#include <functional>
#include <vector>

#include "nn/train/objective.h"

namespace tandem::nn {

// A sentence's embedding [B, D] from its ids [B, T].
using Embed = std::function<Tensor(const Tensor& ids)>;

// The options of contrastive_loss().
struct ContrastiveOptions {
  double temperature = 0.05;  // divides the cosines; above 0
};

// InfoNCE: sum_i -log(exp(cos(a_i, c_i) / t) / sum_j exp(cos(a_i, c_j) / t)) / divisor (0: by the number of
// anchors). Anchors a [N, D]; candidates c [M, D], M >= N, the first N the anchors' positives; one pass each.
// ShapeError; ConfigError for a temperature out of range; ValueError for an embedding that is 0 or not
// finite.
LossParts contrastive_loss(const Tensor& anchors, const Tensor& candidates,
                           const ContrastiveOptions& options = {}, double divisor = 0);

// What both have: a model that embeds sentences.
class SimCse : public Objective {
 public:
  Module& module() override { return module_; }
  int64_t valid_units(const data::Batch& batch) const override { return batch.size; }
  bool recordable() const override { return false; }
  bool tells_kl() const override { return false; }
  bool splits() const override { return false; }

 protected:
  SimCse(Module& module, Embed embed, ContrastiveOptions options);
  // As it was made.
  Module& module_;
  Embed embed_;
  ContrastiveOptions options_;
};

// Unsupervised: inputs[0] of a batch is ids [B, T], the two views are the two passes. Accuracy is the
// fraction whose other view is the closest; in eval mode both views are the same. ConfigError while training
// for other than 2 passes, or a model without noise.
class UnsupervisedSimCse final : public SimCse {
 public:
  UnsupervisedSimCse(Module& module, Embed embed, ContrastiveOptions options = {})
      : SimCse(module, std::move(embed), options) {}
  Tensor forward(const data::Batch& batch) override { return embed_(batch.inputs.at(0)); }
  LossParts loss(const Tensor& embeddings, const data::Batch& batch, const RDropOptions& options,
                 int passes) override;
};

// Supervised: the inputs of a batch are the ids of sentences, of what follows from each, and perhaps of what
// contradicts it (a hard negative), each [B, T_k]. ConfigError for other than 1 pass.
class SupervisedSimCse final : public SimCse {
 public:
  SupervisedSimCse(Module& module, Embed embed, ContrastiveOptions options = {})
      : SimCse(module, std::move(embed), options) {}
  Tensor forward(const data::Batch& batch) override;  // all embeddings, [2B or 3B, D]
  LossParts loss(const Tensor& embeddings, const data::Batch& batch, const RDropOptions& options,
                 int passes) override;
};

// cos(a_i, b_i) of [N, D] and [N, D]. ValueError for a row that is 0 or not finite.
std::vector<double> cosine_similarities(const Tensor& a, const Tensor& b);

// Semantic similarity: Spearman's correlation between the cosines of pairs and human scores. Batches hold the
// two texts as inputs[0] and inputs[1], and the scores as the target. Put the model in eval mode first.
// ValueError as of metrics::spearman.
double similarity_spearman(const Embed& embed, const data::Dataset& pairs, int64_t batch_size = 256);

}  // namespace tandem::nn
