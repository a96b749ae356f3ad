// Several labels of a sample, in one field with '|' between: "beach|sunset".
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nn/data/dataset.h"

namespace tandem::data {

// The labels of a set; none of "|", the set of a sample without any.
std::vector<std::string> labels_in(std::string_view set);
// All labels of these sets, sorted.
std::vector<std::string> labels_of(const std::vector<std::string>& sets);
// f32 [sets, labels]: 1 where a label is in a set. IoError naming `where` for a label that is not known.
Tensor label_table(const std::vector<std::string>& sets, const std::vector<std::string>& labels,
                   const std::string& where);

// Samples whose target [B] is a set's number: target becomes the rows [B, labels] of that table.
class LabelSetDataset final : public Dataset {
 public:
  LabelSetDataset(std::unique_ptr<Dataset> samples, Tensor table)
      : samples_(std::move(samples)), table_(std::move(table)) {}

  int64_t size() const override { return samples_->size(); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const override {
    return samples_->shuffled_batches(seed, epoch, batch_size);
  }
  std::vector<Indices> ordered_batches(int64_t batch_size) const override {
    return samples_->ordered_batches(batch_size);
  }

 private:
  std::unique_ptr<Dataset> samples_;
  Tensor table_;
};

}  // namespace tandem::data
