// Published models in and out: a folder as the hub lays it out, read into the model that is here, and written
// back as the tools that it came from read it.
//
//   const models::Pretrained bert = models::open_pretrained("bert-base-uncased");
//   models::TextEncoderConfig config = models::text_encoder_config(bert);
//   config.outputs = 3;
//   models::TextEncoder model(config);
//   fmt::print("{}\n", models::load_pretrained(model, bert));
//   models::save_pretrained(model, "for-others", {.labels = {"bad", "fair", "good"}});
//
// Families, by the model_type of config.json: vit, deit, dinov2, dinov2_with_registers, and timm's vit_* and
// deit_* (Vit); bert and its sentence encoders, roberta (TextEncoder); gpt2 (LanguageModel); bart
// (Transformer).
#pragma once

#include <string>
#include <vector>

#include "models/transformer/language_model.h"
#include "models/transformer/text_encoder.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "nn/model_file.h"

namespace tandem::models {

// A folder that was read.
struct Pretrained {
  std::string folder;               // where it is
  std::string family;               // of the list above; "timm" for all of timm's
  std::string config;               // the text of config.json
  nn::NamedTensors tensors;         // under their names there
  std::vector<std::string> labels;  // names of classes in their order; empty where there are none
  // Of the pixels of an image model, by channel; empty where it does not say.
  std::vector<double> mean;
  std::vector<double> stddev;  // likewise
  // What a sentence encoder (1_Pooling) takes of its tokens: their mean, or the first, as it is.
  bool mean_pooling = false;
  bool cls_pooling = false;  // likewise
};

// A folder with config.json and model.safetensors, or shards with model.safetensors.index.json; or the path
// of its model.safetensors. IoError for a file that is missing or damaged, for a shard, and for weights in a
// pickle (with the lines that convert it); ConfigError for a family that is not known, or a sentence encoder
// with other modules than Transformer, Pooling (of one kind) and Normalize.
Pretrained open_pretrained(const std::string& path);

// The configuration of the model that these weights make, with the rates of dropout that it names.
// ConfigError for another model's family, or an option that ours lacks. Images of another size, other classes
// and rates may be set in it afterwards.
VitConfig vit_config(const Pretrained& from);
TextEncoderConfig text_encoder_config(const Pretrained& from);
LanguageModelConfig language_model_config(const Pretrained& from);
TransformerConfig transformer_config(const Pretrained& from);

// Whether they are the same names, each once, in whatever order.
bool same_classes(const std::vector<std::string>& a, const std::vector<std::string>& b);

// The options of load_pretrained().
struct LoadPretrainedOptions {
  std::string allow = {};  // names whose shapes may differ, or that may be missing: a pattern as "head.*"
  bool new_head = false;   // the output layer stays as it is made, whatever the file has
  // Names of the model's classes: an output layer whose classes have these names in another order is put into
  // this one. Empty: it is taken as it is.
  std::vector<std::string> classes = {};
};
// Fills a model; its positions are interpolated to its images' size as the reference does it (transformers:
// bicubic; timm: bicubic, antialiased). What the file has for other tasks is unused, and an output layer that
// it lacks is new. ConfigError with a table when anything else does not fit: the model is then as it was.
nn::Loaded load_pretrained(nn::Module& model, const Pretrained& from,
                           const LoadPretrainedOptions& options = {});

// What save_pretrained() writes beside the weights.
struct SavePretrainedOptions {
  std::string family = {};                     // empty: the one that has all of the model's options
  std::vector<std::string> labels = {};        // names of classes
  std::vector<double> mean = {}, stddev = {};  // of the pixels, by channel
  bool of_tokens = false;                      // a text encoder's head is of each token, not of the text
  int64_t bos = -1, eos = -1;  // ids of a text model's vocabulary; -1: what the reference takes them for
};
// Writes config.json and model.safetensors (F32) into a folder, which is made if need be; for images also
// preprocessor_config.json, for a sentence encoder its modules. Returns the names of the files. ConfigError
// when no family, or not the one asked for, has the model's options; IoError.
std::vector<std::string> save_pretrained(const Vit& model, const std::string& folder,
                                         const SavePretrainedOptions& options = {});
std::vector<std::string> save_pretrained(const TextEncoder& model, const std::string& folder,
                                         const SavePretrainedOptions& options = {});
std::vector<std::string> save_pretrained(const LanguageModel& model, const std::string& folder,
                                         const SavePretrainedOptions& options = {});
std::vector<std::string> save_pretrained(const Transformer& model, const std::string& folder,
                                         const SavePretrainedOptions& options = {});

}  // namespace tandem::models
