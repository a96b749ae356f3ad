// What the objectives of text models share whose units are tokens.
#pragma once

#include "nn/train/objective.h"

namespace tandem::models {

// Tokens of batch.target [B, T] count, but for those that are pad_id and those that batch.valid leaves out.
class TokenObjective : public nn::Objective {
 public:
  int64_t valid_units(const data::Batch& batch) const final;

 protected:
  explicit TokenObjective(int64_t pad_id) : pad_id_(pad_id) {}
  Tensor counted(const data::Batch& batch) const;  // bool in the shape of batch.target

 private:
  int64_t pad_id_;
};

}  // namespace tandem::models
