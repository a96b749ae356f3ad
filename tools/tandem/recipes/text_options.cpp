#include "tools/tandem/recipes/text_options.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "nn/io/text.h"
#include "tools/corpora/corpus.h"

namespace tandem::command {

namespace fs = std::filesystem;

std::string data_folder(const std::string& data) {
  if (fs::is_directory(data)) return data;
  std::string known;
  for (const data::Corpus& corpus : data::corpora()) known += corpus.name + ", ";
  const data::Corpus* corpus = data::find_corpus(data);
  check<ConfigError>(corpus != nullptr, "--data: expected {}or a folder, got '{}'", known, data);
  const std::string folder = "data/" + data;
  data::make_corpus(*corpus, folder);
  return folder;
}

std::string split_file(const std::string& folder, const std::string& split, const std::string& ending) {
  const std::string file = folder + "/" + split + ending;
  check<IoError>(fs::is_regular_file(file), "{}: missing, expected {}{} in {}", file, split, ending, folder);
  return file;
}

void VocabularyChoice::declare(OptionAdder& to) {
  to.add("--vocab", file, existing_file(), "a vocabulary of `tandem data vocab`, or of another run");
  to.add("--vocab-size", size, integer(6, 1 << 24), "pieces of the vocabulary that is made otherwise");
  to.add("--vocab-kind", kind, one_of({"bpe", "unigram"}), "bpe or unigram");
}

data::Vocabulary VocabularyChoice::get(const TrainSettings& settings,
                                       const std::vector<std::string>& lines) const {
  const std::string own = settings.run + "/" + kVocabularyFile;
  if (settings.resume && fs::exists(own)) return data::Vocabulary::load(own);
  if (!file.empty()) return data::Vocabulary::load(file);
  return data::Vocabulary::train(lines, {.size = size, .kind = kind});
}

void ModelChoice::declare(OptionAdder& to, const std::vector<std::string>& presets) {
  to.group("Model");
  to.add("--preset", preset, one_of(presets), "sizes: " + data::join(presets, ", "));
  to.add("--dim", dim, integer(0, 1 << 20), "embedding width; 0: the preset's");
  to.add("--heads", heads, integer(0, 1 << 20), "attention heads; 0: the preset's");
  to.add("--mlp-dim", mlp_dim, integer(0, 1 << 20),
         "hidden width of the feed-forward networks; 0: the preset's");
  to.add("--layers", layers, integer(0, 10'000), "layers of each stack; 0: the preset's");
  to.add("--dropout", dropout, fraction(), "dropout rate");
  to.add("--attention-dropout", attention_dropout, fraction(), "dropout rate of attention probabilities");
  to.add("--layer-drop", layer_drop, fraction(), "rate at which whole layers are left out");
  to.add("--word-dropout", word_dropout, fraction(), "rate at which whole words are left out");
  norm_first ? to.flag("--norm-last", other_norm, "layer norm after each branch, not before it")
             : to.flag("--norm-first", other_norm, "layer norm before each branch, not after it");
}

double ModelChoice::largest_rate() const { return std::max(dropout, attention_dropout); }

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

std::vector<data::Ids> encode_all(const data::Vocabulary& vocabulary, const std::vector<std::string>& texts) {
  std::vector<data::Ids> ids;
  for (const std::string& text : texts) ids.push_back(vocabulary.encode(text));
  return ids;
}

}  // namespace tandem::command
