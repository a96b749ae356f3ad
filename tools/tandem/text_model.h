// A text model as a run keeps it: weights with the model's configuration and the vocabulary's fingerprint in
// their metadata, and the vocabulary beside them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/transformer/decoding.h"
#include "models/transformer/language_model.h"
#include "models/transformer/text_encoder.h"
#include "models/transformer/transformer.h"
#include "nn/data/vocabulary.h"
#include "nn/io/safetensors.h"

namespace tandem::command {

inline constexpr const char* kVocabularyFile = "vocab.model";  // in the run folder of a text model

// The configurations as JSON, for the metadata.
std::string to_json(const models::TransformerConfig& config);
std::string to_json(const models::LanguageModelConfig& config);
std::string to_json(const models::TextEncoderConfig& config);

// The best weights of a run folder (or of a .safetensors file), with what is needed to use them.
struct TextRun {
  std::string file;
  nn::NamedTensors tensors;
  nn::Metadata metadata;
  data::Vocabulary vocabulary;

  const std::string& entry(const std::string& key) const;  // of the metadata; IoError when it is missing
  std::vector<std::string> list(const std::string& key) const;
};
// IoError when the run is of another task than `tasks`, or its vocabulary is missing or another's.
TextRun load_text_run(const std::string& run, const std::vector<std::string>& tasks);

// The model of a run in eval mode. IoError when weights and configuration do not make one.
std::unique_ptr<models::Transformer> make_transformer(const TextRun& run);
std::unique_ptr<models::LanguageModel> make_language_model(const TextRun& run);
std::unique_ptr<models::TextEncoder> make_text_encoder(const TextRun& run);

// A text from each line. IoError naming the line when it is not UTF-8, or when there is none.
std::vector<std::string> read_standard_input();

// What beam search makes of the sources, in their order; those of no token give "". `label` is shown on a
// progress bar, "" for none.
std::vector<std::string> decode_texts(models::Transformer& model, const data::Vocabulary& vocabulary,
                                      const std::vector<data::Ids>& sources,
                                      const models::BeamOptions& options, const std::string& label);

// Outputs [outputs] of each sample, in the data set's order.
std::vector<std::vector<double>> outputs_of(models::TextEncoder& model, const data::Dataset& texts);

}  // namespace tandem::command
