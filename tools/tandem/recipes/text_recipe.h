// What the recipes of text share: where the data and the vocabulary come from, the options of a model, and
// what is kept of them in a run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nn/data/vocabulary.h"
#include "tools/tandem/init_choice.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {

// The file of a split, which must be there.
std::string split_file(const std::string& folder, const std::string& split, const std::string& ending);

// 0 .. count-1 in a random order, the same for every seed.
std::vector<int64_t> draw_order(int64_t count);
// `limit` of them, sorted; 0: all.
std::vector<int64_t> draw_subset(int64_t count, int64_t limit);

// Those of `a`, then those of `b`.
std::vector<std::string> concatenated(std::vector<std::string> a, const std::vector<std::string>& b);

std::vector<data::Ids> encode_all(const data::Vocabulary& vocabulary, const std::vector<std::string>& texts);

// --vocab, --vocab-size and --vocab-kind.
struct VocabularyChoice {
  std::string file, kind = "bpe";
  int64_t size = 4000;
};

// The sizes and rates that all models have. Those that are not given are the preset's.
struct ModelChoice {
  std::string preset = "small";
  int64_t dim = 0, heads = 0, mlp_dim = 0, layers = 0;
  double dropout = 0.1, attention_dropout = 0, layer_drop = 0, word_dropout = 0;
  bool norm_first = false;  // the recipe's default
  bool other_norm = false;  // --norm-first or --norm-last

  bool has_sizes() const { return dim != 0 || heads != 0 || mlp_dim != 0 || layers != 0; }
  template <class Config> void apply_sizes(Config& c) const {
    override_size(c.dim, dim), override_size(c.heads, heads), override_size(c.mlp_dim, mlp_dim);
    if constexpr (requires { c.layers; }) override_size(c.layers, layers);
    if constexpr (requires { c.encoder_layers; })
      override_size(c.encoder_layers, layers), override_size(c.decoder_layers, layers);
    c.norm_first = norm_first != other_norm;
  }
  template <class Config> void apply_rates(Config& c) const {
    c.dropout = dropout, c.attention_dropout = attention_dropout;
    c.layer_drop = layer_drop, c.word_dropout = word_dropout;
  }
};

class TextRecipe : public Recipe {
 public:
  double largest_rate() const override;
  void find_options(const Command& of) override { init_.find_options(of); }
  void save_parts(nn::Commit& to) const override { vocabulary_->save(to.add(nn::kVocabularyFile)); }

 protected:
  void declare_folder(Command& to, const std::string& description);  // --data
  void declare_vocabulary(Command& to);
  void declare_long(Command& to);  // --long
  void declare_sizes(Command& to, const std::vector<std::string>& presets);

  // The folder of train, valid and test files that --data names: a folder, or a data set of `tandem data`,
  // which is fetched when it is not there.
  std::string data_folder() const;
  // What is to be said of a vocabulary that the text made smaller than asked: a line, or "".
  std::string vocabulary_hint() const;
  // Makes vocabulary_: --vocab's, or the run's own where it goes on, or one that is trained on these lines,
  // of training data only.
  void make_vocabulary(const std::vector<std::string>& lines);
  // --long reject: IoError for a text of more tokens than fit.
  void check_length(const std::string& text, int64_t tokens, int64_t most) const;
  // Opens --init's published model, and takes its vocabulary. ConfigError beside sizes or a vocabulary of
  // one's own.
  void open_init();
  // ConfigError for sizes or a vocabulary beside --init, which has its own.
  void check_only_init() const;
  // Its configuration, with the rates that were given; the others are its own.
  template <class Config> Config of_init(Config config) {
    check_vocabulary(config.vocab, config.pad_id);
    dropout_.default_to(config.dropout), attention_dropout_.default_to(config.attention_dropout);
    layer_drop_.default_to(config.layer_drop);
    model_choice_.apply_rates(config);
    return config;
  }
  // The configuration of the run that --init names, likewise; takes its vocabulary, and keeps its weights for
  // made(). So is a run evaluated, too.
  template <class Model> auto of_run() {
    check_only_init();
    init_run_ = open_run(init_.path(), {task});
    vocabulary_ = init_run_->vocabulary();
    return of_init(init_run_->model<Model>()->config());
  }
  // A model of that configuration, with the weights of --init where it is given.
  template <class Model, class Config> std::unique_ptr<Model> made(const Config& config) const {
    auto model = std::make_unique<Model>(config);
    if (init_.published()) init_.fill(*model, false);
    if (init_run_) model->load_state_dict(init_run_->tensors);
    return model;
  }
  // The configuration of a preset, with the vocabulary's size and what the options say.
  template <class Config> Config configured(Config preset) const {
    preset.vocab = vocabulary_->size(), preset.pad_id = vocabulary_->special().pad;
    model_choice_.apply_sizes(preset), model_choice_.apply_rates(preset);
    return preset;
  }
  // The positions of the model: those of the run that is opened or goes on, or `made`. Of learned ones a new
  // model has as many as its training reads: no other would learn anything.
  int64_t positions_of_run(int64_t made) const;
  // What the checkpoints of all text tasks have: `config` is the model's.
  template <class Config> nn::Metadata metadata_with(const Config& config) const {
    return {{"config", to_json(config)}, {"vocabulary", vocabulary_->fingerprint()}, {"data", data_}};
  }

  std::string data_, long_ = "cut";
  VocabularyChoice vocabulary_choice_;
  ModelChoice model_choice_;
  InitChoice init_;
  std::optional<Run> init_run_;                      // that --init names, where it names one
  Option dropout_, attention_dropout_, layer_drop_;  // of model_choice_
  std::optional<data::Vocabulary> vocabulary_;
  bool makes_vocabulary_ = false;  // from the training text

 private:
  // ConfigError where the model has fewer ids, or pads with another one (-1: with none).
  void check_vocabulary(int64_t ids, int64_t pad) const;
};

}  // namespace tandem::command
