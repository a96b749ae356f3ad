// What recipes and commands do with a model of words' tags.
#pragma once

#include <string>
#include <vector>

#include "models/transformer/text_encoder.h"
#include "nn/data/tagged_texts.h"
#include "nn/metrics/entities.h"

namespace tandem::command {

// The likeliest tag of each word of each sentence; of words that were cut off "O", or else the first name.
std::vector<metrics::Tags> tags_of(models::TextEncoder& model, const data::TaggedDataset& dataset,
                                   const data::TaggedTexts& texts, const std::vector<std::string>& names);

// Whether the tags mark spans: "O", or B, I, E or S, alone or with a hyphen and a type.
bool mark_spans(const std::vector<std::string>& names);

}  // namespace tandem::command
