#include "tools/tandem/text_model.h"

#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "autograd/grad_mode.h"
#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/io/text.h"
#include "nn/train/progress.h"
#include "nn/train/run_folder.h"
#include "ops/ops.h"

template <>
struct nlohmann::adl_serializer<std::optional<double>> {
  static void to_json(nlohmann::json& json, const std::optional<double>& value) {
    json = value ? nlohmann::json(*value) : nlohmann::json();
  }
  static void from_json(const nlohmann::json& json, std::optional<double>& value) {
    value = json.is_null() ? std::nullopt : std::optional(json.get<double>());
  }
};

namespace tandem {
NLOHMANN_JSON_SERIALIZE_ENUM(Activation, {{Activation::relu, "relu"}, {Activation::gelu, "gelu"}})
}  // namespace tandem

namespace tandem::models {

NLOHMANN_JSON_SERIALIZE_ENUM(Positions,
                             {{Positions::sinusoidal, "sinusoidal"}, {Positions::learned, "learned"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Pooling, {{Pooling::cls, "cls"}, {Pooling::mean, "mean"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TransformerConfig, vocab, target_vocab, dim, heads, mlp_dim,
                                   encoder_layers, decoder_layers, max_positions, pad_id, positions, dropout,
                                   decoder_dropout, attention_dropout, activation_dropout, layer_drop,
                                   word_dropout, activation, norm_first, copy, tie_output)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LanguageModelConfig, vocab, dim, heads, mlp_dim, layers, max_positions,
                                   pad_id, positions, dropout, attention_dropout, activation_dropout,
                                   layer_drop, word_dropout, activation, norm_first, cutoffs, factor)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TextEncoderConfig, vocab, segments, outputs, dim, heads, mlp_dim, layers,
                                   max_positions, pad_id, dropout, attention_dropout, layer_drop,
                                   word_dropout, norm_eps, norm_first, pooling, bi_encoder)

}  // namespace tandem::models

namespace tandem::command {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

template <class Model, class Config>
std::unique_ptr<Model> make_model(const TextRun& run) {
  try {
    const auto config = Json::parse(run.entry("config")).get<Config>();
    check<IoError>(config.vocab == run.vocabulary.size(), "{}: a model of {} tokens, but a vocabulary of {}",
                   run.file, config.vocab, run.vocabulary.size());
    // A configuration that the file does not hold takes no memory.
    double units = static_cast<double>(config.dim) * static_cast<double>(config.vocab);
    if constexpr (requires { config.cutoffs; }) {
      if (!config.cutoffs.empty()) units = static_cast<double>(config.vocab);  // tails have shorter vectors
    }
    double elements = 0;
    for (const auto& [name, tensor] : run.tensors) elements += static_cast<double>(tensor.numel());
    check<IoError>(units <= elements, "{}: its weights are too few for {} tokens of size {}", run.file,
                   config.vocab, config.dim);
    auto model = std::make_unique<Model>(config);
    model->load_state_dict(run.tensors);
    model->eval();
    return model;
  } catch (const Json::exception& error) {
    raise<IoError>("{}: its model configuration cannot be read: {}", run.file, error.what());
  } catch (const ConfigError& error) {
    raise<IoError>("{}: its weights do not make a model: {}", run.file, error.what());
  } catch (const ShapeError& error) {
    raise<IoError>("{}: its weights do not make a model: {}", run.file, error.what());
  }
}

}  // namespace

std::string to_json(const models::TransformerConfig& config) { return Json(config).dump(); }
std::string to_json(const models::LanguageModelConfig& config) { return Json(config).dump(); }
std::string to_json(const models::TextEncoderConfig& config) { return Json(config).dump(); }

const std::string& TextRun::entry(const std::string& key) const {
  const auto found = metadata.find(key);
  check<IoError>(found != metadata.end(), "{}: not a checkpoint of a text model: it has no '{}'", file, key);
  return found->second;
}

std::vector<std::string> TextRun::list(const std::string& key) const {
  try {
    return Json::parse(entry(key)).get<std::vector<std::string>>();
  } catch (const Json::exception& error) {
    raise<IoError>("{}: {}: {}", file, key, error.what());
  }
}

TextRun load_text_run(const std::string& run, const std::vector<std::string>& tasks) {
  check<IoError>(fs::exists(run), "{}: there is no such run folder or checkpoint", run);
  const std::string file = fs::is_directory(run) ? run + "/" + nn::kBestFile : run;
  check<IoError>(fs::exists(file), "{}: not the folder of a run with weights: it has no {}", run,
                 nn::kBestFile);
  auto [tensors, metadata] = nn::load_safetensors(file);
  check<IoError>(!metadata.contains("epochs_done"),
                 "{}: a checkpoint for --resume, expected one of weights such as {}", file, nn::kBestFile);
  const std::string task = metadata.contains("task") ? metadata["task"] : "none";
  check<IoError>(std::find(tasks.begin(), tasks.end(), task) != tasks.end(),
                 "{}: a model for the task '{}', expected {}", file, task, data::join(tasks, " or "));
  const std::string beside = (fs::path(file).parent_path() / kVocabularyFile).string();
  check<IoError>(fs::exists(beside), "{}: its vocabulary is missing, expected it as {}", file, beside);
  TextRun loaded{file, std::move(tensors), std::move(metadata), data::Vocabulary::load(beside)};
  check<IoError>(loaded.entry("vocabulary") == loaded.vocabulary.fingerprint(),
                 "{}: the vocabulary of another run: its fingerprint is {}, expected {}", beside,
                 loaded.vocabulary.fingerprint(), loaded.entry("vocabulary"));
  return loaded;
}

std::unique_ptr<models::Transformer> make_transformer(const TextRun& run) {
  return make_model<models::Transformer, models::TransformerConfig>(run);
}
std::unique_ptr<models::LanguageModel> make_language_model(const TextRun& run) {
  return make_model<models::LanguageModel, models::LanguageModelConfig>(run);
}
std::unique_ptr<models::TextEncoder> make_text_encoder(const TextRun& run) {
  return make_model<models::TextEncoder, models::TextEncoderConfig>(run);
}

std::vector<std::string> read_standard_input() {
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) {
    if (line.ends_with('\r')) line.pop_back();
    const size_t bad = data::invalid_utf8(line);
    check<IoError>(bad == std::string::npos, "standard input:{}: byte {} of the line is not UTF-8",
                   lines.size() + 1, bad + 1);
    lines.push_back(std::move(line));
  }
  check<IoError>(!lines.empty(), "standard input: no lines, expected a text on each");
  return lines;
}

std::vector<std::string> decode_texts(models::Transformer& model, const data::Vocabulary& vocabulary,
                                      const std::vector<data::Ids>& sources,
                                      const models::BeamOptions& options, const std::string& label) {
  constexpr int64_t kTokens = 4000;  // of sources at a time, with padding
  std::vector<int64_t> lengths;
  for (const data::Ids& ids : sources) lengths.push_back(std::ssize(ids));
  std::vector<std::string> texts(sources.size());
  nn::Progress progress(label, std::ssize(sources), "texts", !label.empty());
  int64_t done = 0;
  for (const data::Indices& batch : data::ordered_by_length(lengths, kTokens, true)) {
    std::vector<data::Ids> group;
    data::Indices from;
    for (int64_t i : batch) {
      if (sources[i].empty()) continue;
      group.push_back(sources[i]);
      from.push_back(i);
    }
    const std::vector<models::Hypothesis> best = models::beam_search(model, group, options);
    for (size_t i = 0; i < best.size(); ++i) texts[from[i]] = vocabulary.decode(best[i].ids);
    done += std::ssize(batch);
    const double left =
        progress.seconds() / static_cast<double>(done) * static_cast<double>(std::ssize(sources) - done);
    progress.update(done, "", left);
  }
  return texts;
}

std::vector<std::vector<double>> outputs_of(models::TextEncoder& model, const data::Dataset& texts) {
  const NoGradGuard no_grad;
  std::vector<std::vector<double>> outputs(texts.size());
  for (const data::Indices& batch : texts.ordered_batches(256)) {
    const data::Batch texts_of_batch = texts.batch(batch, {}).to(model.device());
    const Tensor out = model.forward(texts_of_batch);
    const auto values = out.to_vector<double>();
    const int64_t width = out.size(1);
    for (size_t i = 0; i < batch.size(); ++i)
      outputs[batch[i]].assign(values.begin() + i * width, values.begin() + (i + 1) * width);
  }
  return outputs;
}

}  // namespace tandem::command
