// Data for masked language modelling: texts with some words hidden (BERT: Devlin et al. 2019, arXiv
// 1810.04805, section 3.1).
#pragma once

#include "nn/data/text_datasets.h"

namespace tandem::data {

// The texts of another data set, whose inputs are {ids, segments}; target i64 [B, T] has the id of each
// hidden word, and the padding elsewhere. Of the words (not special ids) a share `rate` is chosen, at
// least one of each text: 80 % of them become <mask>, 10 % another word, 10 % stay.
//
// The choice is a pure function: in training of (seed, step, place in the global batch), so that all passes
// see the same; in evaluation of the sample's index.
class MaskedTexts final : public Dataset {
 public:
  // `texts` must outlive this. ConfigError for a rate outside of (0, 1), or a vocabulary of this size without
  // words or without a mask.
  MaskedTexts(const TextDataset& texts, int64_t vocabulary, double rate = 0.15);

  int64_t size() const override { return texts_.size(); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const override {
    return texts_.shuffled_batches(seed, epoch, batch_size);
  }
  std::vector<Indices> ordered_batches(int64_t batch_size) const override {
    return texts_.ordered_batches(batch_size);
  }

 private:
  const TextDataset& texts_;
  Ids words_;  // that are not special
  double rate_;
};

}  // namespace tandem::data
