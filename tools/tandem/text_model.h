// What commands and recipes do with a trained text model.
#pragma once

#include <string>
#include <vector>

#include "models/transformer/decoding.h"
#include "models/transformer/text_encoder.h"
#include "nn/data/dataset.h"
#include "nn/data/vocabulary.h"
#include "tools/tandem/checkpoint.h"

namespace tandem::command {

// A text from each line. IoError naming the line when it is not UTF-8, or when there is none.
std::vector<std::string> read_standard_input();

// What beam search makes of the sources, in their order; those of no token give "". `label` is shown on a
// progress bar, "" for none. Begin and end are the vocabulary's.
std::vector<std::string> decode_texts(models::Transformer& model, const data::Vocabulary& vocabulary,
                                      const std::vector<data::Ids>& sources, models::BeamOptions options,
                                      const std::string& label);

// Ids of the longest text that an encoder's run reads, with those around it: as in its training and test.
// All positions of a run that does not say; IoError for a number out of their range.
int64_t longest_text(const Run& run, const models::TextEncoderConfig& config);

// Outputs [outputs] of each sample, in the data set's order.
std::vector<std::vector<double>> outputs_of(models::TextEncoder& model, const data::Dataset& texts);

}  // namespace tandem::command
