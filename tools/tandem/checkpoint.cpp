#include "tools/tandem/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "autograd/error.h"
#include "autograd/tell.h"
#include "nn/io/text.h"
#include "nn/train/manifest.h"

template <> struct nlohmann::adl_serializer<std::optional<double>> {
  static void to_json(nlohmann::json& json, const std::optional<double>& value) {
    json = value ? nlohmann::json(*value) : nlohmann::json();
  }
  static void from_json(const nlohmann::json& json, std::optional<double>& value) {
    value = json.is_null() ? std::nullopt : std::optional(json.get<double>());
  }
};

namespace tandem {
NLOHMANN_JSON_SERIALIZE_ENUM(Activation, {{Activation::relu, "relu"},
                                          {Activation::gelu, "gelu"},
                                          {Activation::gelu_tanh, "gelu_tanh"}})
}  // namespace tandem

namespace tandem::models {

NLOHMANN_JSON_SERIALIZE_ENUM(Positions,
                             {{Positions::sinusoidal, "sinusoidal"}, {Positions::learned, "learned"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Pooling, {{Pooling::cls, "cls"}, {Pooling::mean, "mean"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Pooler, {{Pooler::none, "none"}, {Pooler::tanh, "tanh"}, {Pooler::relu, "relu"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(VitConfig, image_size, channels, classes, patch_size, dim,
                                                depth, heads, mlp_dim, dropout, attention_dropout, drop_path,
                                                dropout_from, zero_head, head_dropout, image_width, norm_eps,
                                                activation, qkv_bias, patch_bias, pre_norm, layer_scale,
                                                pooling, class_token, registers, distillation, class_position)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CnnConfig, image_size, channels, classes, width, dropout)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TransformerConfig, vocab, target_vocab, dim, heads, mlp_dim,
                                                encoder_layers, decoder_layers, max_positions, pad_id,
                                                positions, dropout, decoder_dropout, attention_dropout,
                                                activation_dropout, layer_drop, word_dropout, activation,
                                                norm_first, copy, tie_output, norm_eps, scale_embedding,
                                                embedding_norm, separate_positions, position_offset,
                                                final_norm, logits_bias)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(LanguageModelConfig, vocab, dim, heads, mlp_dim, layers,
                                                max_positions, pad_id, positions, dropout, attention_dropout,
                                                activation_dropout, layer_drop, word_dropout, activation,
                                                norm_first, cutoffs, factor, norm_eps, scale_embedding,
                                                tie_output)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(TextEncoderConfig, vocab, segments, outputs, dim, heads,
                                                mlp_dim, layers, max_positions, pad_id, dropout,
                                                attention_dropout, layer_drop, word_dropout, norm_eps,
                                                norm_first, pooling, bi_encoder, activation, pooler,
                                                pooler_dropout, head_dropout, position_offset, masked_lm_head,
                                                dropout_from)

}  // namespace tandem::models

namespace tandem::command {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// The library casts numbers to what is asked for, whatever they are.
void check_numbers(const Json& json, int depth = 0) {
  constexpr double kMost = 0x1p62;
  if (json.is_number())
    check<ValueError>(std::abs(json.get<double>()) < kMost, "expected numbers below 2^62, got {}",
                      json.dump());
  if (json.is_structured() && depth < 2)
    for (const Json& part : json) check_numbers(part, depth + 1);
}

std::string short_text(const Json& json) {  // writing is recursive, what is read can be deep
  return json.is_structured() ? json.type_name() : json.dump();
}

// It also cuts 2.5 to a size of 2, and takes an unknown name for the first of an enumeration.
void check_kept(const Json& read, const Json& written) {
  if (!read.is_object()) {
    check<ValueError>(read == written, "{} is none of its values", short_text(written));
    return;
  }
  for (const auto& [key, value] : read.items())
    check<ValueError>(value == written.at(key), "{}: {} is none of its values", key,
                      short_text(written.at(key)));
}

// A configuration that the file does not hold takes no memory: ShapeError.
void check_shape(const nn::NamedTensors& tensors, const char* name, const Shape& shape) {
  const Tensor* found = nn::find(tensors, name);
  check<ShapeError>(found != nullptr && found->shape() == shape, "{}: expected {}, got {}", name, shape,
                    found != nullptr ? to_string(found->shape()) : "none");
}
void check_sizes(const models::VitConfig& c, const nn::NamedTensors& tensors) {
  check<ShapeError>(c.depth <= std::ssize(tensors), "{} blocks, but only {} tensors", c.depth,
                    tensors.size());
  check_shape(tensors, "patch_embed.weight", {c.dim, c.channels, c.patch_size, c.patch_size});
  check_shape(tensors, "head.weight", {c.classes, c.dim});
  if (c.depth > 0) check_shape(tensors, "blocks.0.mlp.fc1.weight", {c.mlp_dim, c.dim});
  const Tensor* positions = nn::find(tensors, "positions");
  check<ShapeError>(positions != nullptr && c.patch_size > 0 &&
                        std::max(c.height(), c.width()) / c.patch_size <= positions->numel(),
                    "positions: too few for images of {}x{} pixels", c.width(), c.height());
  check_shape(tensors, "positions", {1, c.positions(), c.dim});
}
void check_sizes(const models::CnnConfig& c, const nn::NamedTensors& tensors) {
  check_shape(tensors, "conv1.weight", {c.width, c.channels, 3, 3});
  const Tensor* head = nn::find(tensors, "head.weight");
  check<ShapeError>(head != nullptr && c.image_size <= head->numel(),
                    "head.weight: too small for images of {} pixels", c.image_size);
  const int64_t side = c.image_size / 4;
  check_shape(tensors, "head.weight", {c.classes, 2 * c.width * side * side});
}
template <class Config>  // of a text model
void check_sizes(const Config& c, const nn::NamedTensors& tensors) {
  double elements = 0;
  for (const auto& [name, tensor] : tensors) elements += static_cast<double>(tensor.numel());
  const auto has_weights = [&](const char* what, int64_t count, int64_t size) {
    check<ShapeError>(static_cast<double>(count) * static_cast<double>(size) <= elements,
                      "too few weights for {} {} of size {}", count, what, size);
  };
  const auto has_layers = [&](int64_t count) {
    check<ShapeError>(count <= std::ssize(tensors), "{} layers, but only {} tensors", count, tensors.size());
  };
  bool tails = false, sinusoids = false;
  if constexpr (requires { c.cutoffs; }) tails = !c.cutoffs.empty();
  if constexpr (requires { c.positions; }) sinusoids = c.positions == models::Positions::sinusoidal;
  has_weights("tokens", c.vocab, tails ? 1 : c.dim);  // tails have shorter vectors
  has_weights("hidden units", c.mlp_dim, c.dim);
  if (sinusoids) {  // no weights, but memory
    constexpr double kMost = 1 << 28;
    check<ShapeError>(static_cast<double>(c.max_positions) * static_cast<double>(c.dim) <= kMost,
                      "{} positions of size {}, expected at most {} numbers", c.max_positions, c.dim, kMost);
  } else {
    has_weights("positions", c.max_positions, c.dim);
  }
  if constexpr (requires { c.target_vocab; }) {
    has_weights("tokens of the target", c.target_vocab, c.dim);
    has_layers(c.encoder_layers);
    has_layers(c.decoder_layers);
  } else {
    has_layers(c.layers);
  }
  if constexpr (requires { c.outputs; }) {
    has_weights("segments", c.segments, c.dim);
    has_weights("outputs", c.outputs, c.dim);
  }
}

template <class T> constexpr const char* kind_of = "a model's configuration as JSON";
template <> constexpr const char* kind_of<double> = "a number";
template <> constexpr const char* kind_of<int64_t> = "an integer";
template <> constexpr const char* kind_of<std::vector<double>> = "a list of numbers";
template <> constexpr const char* kind_of<std::vector<std::string>> = "a list of names";

}  // namespace

const std::string& Run::entry(const std::string& key) const {
  const auto found = metadata.find(key);
  check<IoError>(found != metadata.end(), "{}: not a checkpoint of the task '{}': it has no '{}'", file, task,
                 key);
  return found->second;
}

template <class T> T Run::entry_as(const std::string& key) const {
  try {
    const Json json = Json::parse(entry(key));
    check_numbers(json);
    const T value = json.get<T>();
    check_kept(Json(value), json);
    return value;
  } catch (const ValueError& error) {
    raise<IoError>("{}: {}: {}", file, key, error.what());
  } catch (const Json::exception&) {
    raise<IoError>("{}: its '{}' is damaged: expected {}, got '{}'", file, key, kind_of<T>,
                   entry(key).substr(0, 100));
  }
}
template std::vector<std::string> Run::entry_as(const std::string&) const;
template std::vector<double> Run::entry_as(const std::string&) const;
template double Run::entry_as(const std::string&) const;
template int64_t Run::entry_as(const std::string&) const;
template models::VitConfig Run::entry_as(const std::string&) const;
template models::CnnConfig Run::entry_as(const std::string&) const;

const data::Vocabulary& Run::vocabulary() const {
  entry("vocabulary");
  return *tokens;
}

template <class Model> std::unique_ptr<Model> Run::model() const {
  using Config = std::decay_t<decltype(std::declval<Model>().config())>;
  const auto config = entry_as<Config>("config");
  try {
    if constexpr (requires { config.vocab; })
      check<ShapeError>(config.vocab >= vocabulary().size(), "a model of {} tokens, but a vocabulary of {}",
                        config.vocab, vocabulary().size());
    check_sizes(config, tensors);
    auto model = std::make_unique<Model>(config);
    model->load_state_dict(tensors);
    model->eval();
    return model;
  } catch (const DeviceError&) {
    throw;
  } catch (const Error& error) {
    raise<IoError>("{}: its weights do not make a model: {}", file, error.what());
  }
}
template std::unique_ptr<models::Vit> Run::model() const;
template std::unique_ptr<models::Cnn> Run::model() const;
template std::unique_ptr<models::Transformer> Run::model() const;
template std::unique_ptr<models::LanguageModel> Run::model() const;
template std::unique_ptr<models::TextEncoder> Run::model() const;

void warn_unchecked(const std::string& folder) {
  if (!nn::Manifest(folder).exists())
    tell("tandem: warning: {}: made before runs had a {}: its files are not checked", folder,
         nn::kManifestFile);
}

namespace {

Run open_weights(const std::string& folder, const std::string& file, nn::Alignment alignment,
                 const std::vector<std::string>& tasks) {
  auto [tensors, metadata] = nn::load_safetensors(file, alignment);
  check<IoError>(!metadata.contains("epochs_done"),
                 "{}: a checkpoint for --resume, expected one of weights such as {}", file, nn::kBestFile);
  const std::string task = metadata.contains("task") ? metadata["task"] : "none";
  check<IoError>(std::find(tasks.begin(), tasks.end(), task) != tasks.end(),
                 "{}: a model for the task '{}', expected {}; for a task of your own, --load its library",
                 file, task, data::join(tasks, " or "));
  return {folder, file, task, std::move(tensors), std::move(metadata), {}};
}

void open_vocabulary(Run& run, const nn::Manifest& manifest, const std::string& folder) {
  if (!run.metadata.contains("vocabulary")) return;
  std::string file = folder + "/" + nn::kVocabularyFile;
  check<IoError>(fs::exists(file), "{}: its vocabulary is missing, expected it as {}", run.file, file);
  if (manifest.lists(nn::kVocabularyFile)) file = manifest.checked(nn::kVocabularyFile);
  run.tokens = data::Vocabulary::load(file);
  check<IoError>(run.entry("vocabulary") == run.tokens->fingerprint(),
                 "{}: the vocabulary of another run: its fingerprint is {}, expected {}", file,
                 run.tokens->fingerprint(), run.entry("vocabulary"));
}

}  // namespace

Run open_run(const std::string& path, const std::vector<std::string>& tasks) {
  check<IoError>(fs::exists(path), "{}: there is no such run folder or checkpoint", path);
  const bool is_folder = fs::is_directory(path);
  const fs::path beside = fs::path(path).parent_path();
  const std::string folder = is_folder        ? path
                             : beside.empty() ? "."
                                              : beside.string(),
                    name = is_folder ? nn::kBestFile : fs::path(path).filename().string();
  return nn::read_run(folder, [&](const nn::Manifest& manifest) {
    check<IoError>(!is_folder || manifest.lists(name),
                   "{}: not the folder of a run with weights: it has no {}{}", path, name,
                   manifest.lists(nn::kLastFile) ? ", since no epoch has ended; `tandem train TASK --run "
                                                   "FOLDER --resume` goes on"
                                                 : "");
    // Of the files beside a manifest, those that it does not list are their own.
    const bool listed = manifest.exists() && manifest.lists(name);
    const std::string file = listed ? manifest.checked(name) : is_folder ? folder + "/" + name : path;
    Run run = open_weights(path, file, is_folder ? nn::Alignment::any : nn::Alignment::required, tasks);
    open_vocabulary(run, manifest, folder);
    if (is_folder) warn_unchecked(folder);
    return run;
  });
}

template <class T> std::string to_json(const T& value) { return Json(value).dump(); }
template std::string to_json(const double&);
template std::string to_json(const int64_t&);
template std::string to_json(const models::VitConfig&);
template std::string to_json(const models::CnnConfig&);
template std::string to_json(const models::TransformerConfig&);
template std::string to_json(const models::LanguageModelConfig&);
template std::string to_json(const models::TextEncoderConfig&);
template std::string to_json(const std::vector<std::string>&);
template std::string to_json(const std::vector<double>&);

}  // namespace tandem::command
