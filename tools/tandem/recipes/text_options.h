// What the recipes of text share: where the data and the vocabulary come from, and the options of a model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nn/data/vocabulary.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {

// The folder of train, valid and test files that --data names: a folder, or a data set of `tandem data`,
// which is fetched when it is not there.
std::string data_folder(const std::string& data);
// The file of a split, which must be there.
std::string split_file(const std::string& folder, const std::string& split, const std::string& ending);

struct VocabularyChoice {
  std::string file, kind = "bpe";
  int64_t size = 4000;

  void declare(OptionAdder& to);
  // --vocab's, or the run's own where it goes on, or one that is trained on these lines: of training data
  // only.
  data::Vocabulary get(const TrainSettings& settings, const std::vector<std::string>& lines) const;
};

// The sizes and rates that all models have. Those that are not given are the preset's.
struct ModelChoice {
  std::string preset = "small";
  int64_t dim = 0, heads = 0, mlp_dim = 0, layers = 0;
  double dropout = 0.1, attention_dropout = 0, layer_drop = 0, word_dropout = 0;
  bool norm_first = false;  // where the recipe begins
  bool other_norm = false;  // --norm-first or --norm-last

  void declare(OptionAdder& to, const std::vector<std::string>& presets);
  double largest_rate() const;
  bool has_sizes() const { return dim != 0 || heads != 0 || mlp_dim != 0 || layers != 0; }
  bool first_norm() const { return norm_first != other_norm; }
  template <class Config>
  void apply_sizes(Config& c) const {
    override_size(c.dim, dim), override_size(c.heads, heads), override_size(c.mlp_dim, mlp_dim);
  }
  template <class Config>
  void apply_rates(Config& c) const {
    c.dropout = dropout, c.attention_dropout = attention_dropout;
    c.layer_drop = layer_drop, c.word_dropout = word_dropout;
  }
  template <class Config>
  void apply(Config& c) const {
    apply_sizes(c), apply_rates(c);
    c.norm_first = first_norm();
  }
};

// 0 .. count-1 in an order drawn by lot, the same for every seed.
std::vector<int64_t> draw_order(int64_t count);
// `limit` of them, sorted; 0: all.
std::vector<int64_t> draw_subset(int64_t count, int64_t limit);

std::vector<data::Ids> encode_all(const data::Vocabulary& vocabulary, const std::vector<std::string>& texts);

}  // namespace tandem::command
