#include "tools/tandem/recipes/text_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "nn/io/text.h"
#include "tools/corpora/corpus.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

namespace fs = std::filesystem;

std::string split_file(const std::string& folder, const std::string& split, const std::string& ending) {
  const std::string file = folder + "/" + split + ending;
  check<IoError>(fs::is_regular_file(file), "{}: missing, expected {}{} in {}", file, split, ending, folder);
  return file;
}

std::vector<int64_t> draw_order(int64_t count) {
  return permutation(noise_key(0, 0, site_hash("subset"), 0, Purpose::shuffle), count);
}

std::vector<int64_t> draw_subset(int64_t count, int64_t limit) {
  check<ConfigError>(limit <= count, "--limit: expected at most the {} there are, got {}", count, limit);
  if (limit == 0) {
    std::vector<int64_t> all(count);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::vector<int64_t> drawn = draw_order(count);
  drawn.resize(limit);
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

std::vector<std::string> concatenated(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<data::Ids> encode_all(const data::Vocabulary& vocabulary, const std::vector<std::string>& texts) {
  std::vector<data::Ids> ids;
  for (const std::string& text : texts) ids.push_back(vocabulary.encode(text));
  return ids;
}

double TextRecipe::largest_rate() const {
  return std::max(model_choice_.dropout, model_choice_.attention_dropout);
}

void TextRecipe::declare_folder(Command& to, const std::string& description) {
  to.group("Data");
  to.option("--data", data_, not_empty(), description);
}

void TextRecipe::declare_vocabulary(Command& to) {
  VocabularyChoice& v = vocabulary_choice_;
  to.option("--vocab", v.file, existing_path(),
            "a vocabulary of `tandem data vocab` or of another run, or a published one: its folder, "
            "tokenizer.json, "
            "vocab.txt, or vocab.json beside merges.txt");
  to.option("--vocab-size", v.size, integer(6, 1 << 24), "pieces of the vocabulary that is made otherwise");
  to.option("--vocab-kind", v.kind, one_of({"bpe", "unigram"}), "bpe or unigram");
}

void TextRecipe::declare_long(Command& to) {
  to.option(
      "--long", long_, one_of({"cut", "reject", "skip"}),
      "texts longer than the model's positions: cut, reject, or skip (in training; the test's are cut)");
}

void TextRecipe::check_length(const std::string& text, int64_t tokens, int64_t most) const {
  check<IoError>(long_ != "reject" || tokens <= most,
                 "--long reject: a text of {} tokens, the model takes {}: '{}...'", tokens, most,
                 text.substr(0, text.find(' ', 40)).substr(0, 80));
}

void TextRecipe::declare_sizes(Command& to, const std::vector<std::string>& presets) {
  ModelChoice& m = model_choice_;
  to.group("Model");
  to.option("--preset", m.preset, one_of(presets), "sizes: " + data::join(presets, ", "));
  to.option("--dim", m.dim, integer(0, 1 << 20), "embedding width; 0: the preset's");
  to.option("--heads", m.heads, integer(0, 1 << 20), "attention heads; 0: the preset's");
  to.option("--mlp-dim", m.mlp_dim, integer(0, 1 << 20),
            "hidden width of the feed-forward networks; 0: the preset's");
  to.option("--layers", m.layers, integer(0, 10'000), "layers of each stack; 0: the preset's");
  dropout_ = to.option("--dropout", m.dropout, fraction(), "dropout rate");
  attention_dropout_ = to.option("--attention-dropout", m.attention_dropout, fraction(),
                                 "dropout rate of attention probabilities");
  layer_drop_ =
      to.option("--layer-drop", m.layer_drop, fraction(), "rate at which whole layers are left out");
  to.option("--word-dropout", m.word_dropout, fraction(), "rate at which whole words are left out");
  m.norm_first ? to.flag("--norm-last", m.other_norm, "layer norm after each branch, not before it")
               : to.flag("--norm-first", m.other_norm, "layer norm before each branch, not after it");
}

std::string TextRecipe::data_folder() const {
  if (fs::is_directory(data_)) return data_;
  std::string known;
  for (const data::Corpus& corpus : data::corpora()) known += corpus.name + ", ";
  const data::Corpus* corpus = data::find_corpus(data_);
  check<ConfigError>(corpus != nullptr, "--data: expected {}or a folder, got '{}'", known, data_);
  const std::string folder = "data/" + data_;
  data::make_corpus(*corpus, folder);
  return folder;
}

void TextRecipe::check_only_init() const {
  check<ConfigError>(!model_choice_.has_sizes() && vocabulary_choice_.file.empty(),
                     "--init: the sizes and the vocabulary are those of '{}', expected no --dim, --heads, "
                     "--mlp-dim, --layers or --vocab",
                     init_.path());
}

void TextRecipe::open_init() {
  check_only_init();
  vocabulary_ = data::Vocabulary::load(init_.open().folder);
}

void TextRecipe::check_vocabulary(int64_t ids, int64_t pad) const {
  check<ConfigError>(vocabulary_->size() <= ids,
                     "--init: '{}': its vocabulary has {} ids, its model {}: the vocabulary of another model",
                     init_.path(), vocabulary_->size(), ids);
  check<ConfigError>(pad < 0 || pad == vocabulary_->special().pad,
                     "--init: '{}': its vocabulary pads with the id {}, its model expects {} (pad_token_id)",
                     init_.path(), vocabulary_->special().pad, pad);
}

std::string TextRecipe::vocabulary_hint() const {
  const VocabularyChoice& v = vocabulary_choice_;
  if (!makes_vocabulary_ || vocabulary_->size() >= v.size) return "";
  return fmt::format("\nhint: --vocab-size {}: the training text gives {} pieces", v.size,
                     vocabulary_->size());
}

void TextRecipe::make_vocabulary(const std::vector<std::string>& lines) {
  const VocabularyChoice& v = vocabulary_choice_;
  const nn::Manifest run(settings.run);
  const bool own = settings.resume && run.lists(nn::kVocabularyFile) &&
                   fs::exists(settings.run + "/" + nn::kVocabularyFile);
  makes_vocabulary_ = !own && v.file.empty();
  vocabulary_ = own               ? data::Vocabulary::load(run.checked(nn::kVocabularyFile))
                : !v.file.empty() ? data::Vocabulary::load(v.file)
                                  : data::Vocabulary::train(lines, {.size = v.size, .kind = v.kind});
}

int64_t TextRecipe::positions_of_run(int64_t made) const {
  const std::optional<nn::Metadata> metadata = opened_ != nullptr ? std::optional(opened_->metadata)
                                               : settings.resume  ? metadata_of(settings.run)
                                                                  : std::nullopt;
  if (!metadata || !metadata->contains("config")) return made;
  const auto config = nlohmann::json::parse(metadata->at("config"), nullptr, false);
  const bool says =
      config.is_object() && config.contains("max_positions") && config["max_positions"].is_number_unsigned();
  return says ? config["max_positions"].get<int64_t>() : made;
}

}  // namespace tandem::command
