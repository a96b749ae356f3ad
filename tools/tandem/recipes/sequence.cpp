// `tandem train translate` and `tandem train summarize`: pairs of texts, by an encoder-decoder.
#include <fmt/format.h>

#include <filesystem>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/io/files.h"
#include "nn/io/text.h"
#include "nn/metrics/bleu.h"
#include "nn/metrics/chrf.h"
#include "nn/metrics/rouge.h"
#include "tools/tandem/recipes/text_options.h"

namespace tandem::command {
namespace {

class SequenceRecipe final : public Recipe {
 public:
  explicit SequenceRecipe(bool summarize) : summarize_(summarize) {
    settings.run = summarize ? "runs/summarize" : "runs/translate";
    settings.trainer.epochs = 12, settings.trainer.batch_size = 2048, settings.trainer.label_smoothing = 0.1;
    settings.trainer.eval_batch_size = 8192;
    settings.trainer.alpha = summarize ? 0.7 : 5;  // the paper's
    settings.optimizer = "adam", settings.beta2 = 0.98, settings.weight_decay = 0;
    settings.schedule = "inverse_sqrt", settings.lr = 2e-3, settings.warmup = -1, settings.usual_warmup = 500;
    data_ = summarize ? "summaries" : "synopses";
    vocabulary_choice_.size = 3000;
  }

  std::string unit() const override { return "pairs"; }
  std::string batch_unit() const override { return "tokens (of the longer side, with padding)"; }
  double largest_rate() const override { return model_choice_.largest_rate(); }
  const data::Dataset& train() const override { return *train_; }
  const data::Dataset& valid() const override { return *valid_; }

  void declare_data(OptionAdder& to) override {
    to.group("Data");
    to.add("--data", data_, not_empty(),
           fmt::format("{}, or a folder with train.tsv, valid.tsv and test.tsv (source, tab, target) or "
                       "train.source, train.target and so on",
                       summarize_ ? "summaries" : "synopses, libreoffice-help"));
    to.add("--limit", limit_, integer(0), "train on N pairs, drawn by lot; 0: on all");
    to.add("--long", long_, one_of({"cut", "skip"}), "texts longer than the model's positions: cut or skip");
    to.add("--valid-decode", valid_decode_, integer(1), "validation pairs that are decoded for the metric");
    vocabulary_choice_.declare(to);
  }

  void declare_model(OptionAdder& to) override {
    model_choice_.declare(to, models::transformer_preset_names());
    to.add("--activation-dropout", activation_dropout_, fraction(),
           "dropout rate inside of the feed-forward networks");
    to.add("--decoder-dropout", decoder_dropout_, CLI::Range(-1.0, 0.999),
           "the decoder's dropout rate; -1: --dropout");
    to.add("--positions", positions_, one_of({"sinusoidal", "learned"}), "sinusoidal or learned");
    to.flag("--copy", copy_, "words of the source may be copied (pointer-generator)");
    to.add("--beam", beam_.beam, integer(1, 1000), "hypotheses of the test's beam search; 1: greedy");
    to.add("--length-penalty", beam_.length_penalty, CLI::Number, "exponent of the test's length penalty");
  }

  void load() override {
    const std::string folder = data_folder(data_);
    data::TextPairs train = read(folder, "train"), valid = read(folder, "valid"), test = read(folder, "test");
    skipped_ = train.skipped + valid.skipped + test.skipped;
    data::TextPairs kept;
    for (int64_t i : draw_subset(std::ssize(train.source), limit_)) {
      kept.source.push_back(train.source[i]);
      kept.target.push_back(train.target[i]);
    }
    std::vector<std::string> lines = kept.source;
    lines.insert(lines.end(), kept.target.begin(), kept.target.end());
    vocabulary_ = vocabulary_choice_.get(settings, lines);
    config_ = models::transformer_preset(model_choice_.preset);
    config_.vocab = vocabulary_->size();
    model_choice_.apply(config_);
    override_size(config_.encoder_layers, model_choice_.layers);
    override_size(config_.decoder_layers, model_choice_.layers);
    config_.copy = copy_;
    config_.activation_dropout = activation_dropout_;
    if (decoder_dropout_ >= 0) config_.decoder_dropout = decoder_dropout_;
    config_.positions = models::parse_positions(positions_);
    train_ = dataset(kept);
    valid_ = dataset(valid);
    valid_sources_ = encode(valid.source), valid_targets_ = valid.target;
    valid_sources_.resize(std::min<size_t>(valid_sources_.size(), valid_decode_));
    valid_targets_.resize(valid_sources_.size());
    test_sources_ = encode(test.source), test_targets_ = test.target;
  }

  std::string summary() const override {
    std::string text = fmt::format("{} training, {} validation and {} test pairs, vocabulary of {}",
                                   train_->size(), valid_->size(), test_sources_.size(), vocabulary_->size());
    if (skipped_ > 0) text += fmt::format("\n{} pairs with an empty side were left out", skipped_);
    if (train_->cut() > 0)
      text += fmt::format("\n{} training pairs were cut to {} tokens", train_->cut(), config_.max_positions);
    if (train_->left_out() > 0)
      text += fmt::format("\n{} training pairs of more than {} tokens were left out", train_->left_out(),
                          config_.max_positions);
    return text;
  }

  std::unique_ptr<TaskModel> make_model() const override {
    auto model = std::make_unique<models::Transformer>(config_);
    auto objective = std::make_unique<models::SequenceToSequence>(*model);
    return std::make_unique<TaskModel>(TaskModel{std::move(model), std::move(objective)});
  }

  nn::Metadata metadata() const override {
    return {{"task", summarize_ ? "summarize" : "translate"},
            {"config", to_json(config_)},
            {"vocabulary", vocabulary_->fingerprint()},
            {"data", data_}};
  }

  void save_parts(const std::string& run) const override { vocabulary_->save(run + "/" + kVocabularyFile); }

  nn::ValidationMetric metric(TaskModel& model) const override {
    return {summarize_ ? "ROUGE-1" : "BLEU", [this, &model](const nn::Metrics&) {
              const auto texts = decode(model, valid_sources_, {.beam = 1}, "");
              return summarize_ ? metrics::rouge(texts, valid_targets_).rouge1
                                : metrics::corpus_bleu(texts, valid_targets_).score;
            }};
  }

  std::vector<Score> scores(TaskModel& model, const std::string& run) const override {
    const auto texts = decode(model, test_sources_, beam_, settings.quiet ? "" : "test");
    if (!run.empty()) data::write_file(run + "/test.txt", data::join(texts, "\n") + "\n");
    if (summarize_) {
      const metrics::Rouge r = metrics::rouge(texts, test_targets_);
      return {{"test ROUGE-1", fmt::format("{:.2f}", r.rouge1)},
              {"ROUGE-2", fmt::format("{:.2f}", r.rouge2)},
              {"ROUGE-L", fmt::format("{:.2f}", r.rougeL)}};
    }
    const metrics::Bleu bleu = metrics::corpus_bleu(texts, test_targets_);
    return {{"test BLEU", fmt::format("{:.2f}", bleu.score)},
            {"chrF", fmt::format("{:.2f}", metrics::corpus_chrf(texts, test_targets_).score)}};
  }

  std::string footnote() const override {
    return summarize_ ? "" : "BLEU: " + metrics::Bleu{}.signature() + fmt::format(", beam {}", beam_.beam);
  }

 private:
  data::TextPairs read(const std::string& folder, const std::string& split) const {
    const std::string stem = folder + "/" + split;
    if (std::filesystem::exists(stem + ".source"))
      return data::read_pairs(stem + ".source", split_file(folder, split, ".target"));
    return data::read_pairs(split_file(folder, split, ".tsv"));
  }

  // Sources cut to the model's positions: every test text gets an answer.
  std::vector<data::Ids> encode(const std::vector<std::string>& texts) const {
    std::vector<data::Ids> all = encode_all(*vocabulary_, texts);
    for (data::Ids& ids : all) ids.resize(std::min<size_t>(ids.size(), config_.max_positions - 1));
    return all;
  }

  std::unique_ptr<data::PairDataset> dataset(const data::TextPairs& pairs) const {
    return std::make_unique<data::PairDataset>(encode_all(*vocabulary_, pairs.source),
                                               encode_all(*vocabulary_, pairs.target), config_.max_positions,
                                               long_ == "cut" ? data::TooLong::cut : data::TooLong::skip);
  }

  std::vector<std::string> decode(TaskModel& model, const std::vector<data::Ids>& sources,
                                  const models::BeamOptions& options, const std::string& label) const {
    return decode_texts(static_cast<models::Transformer&>(*model.module), *vocabulary_, sources, options,
                        label);
  }

  const bool summarize_;
  std::string data_, long_ = "cut", positions_ = "sinusoidal";
  int64_t limit_ = 0, valid_decode_ = 500, skipped_ = 0;
  bool copy_ = false;
  double activation_dropout_ = 0, decoder_dropout_ = -1;
  VocabularyChoice vocabulary_choice_;
  ModelChoice model_choice_;
  models::BeamOptions beam_;

  std::optional<data::Vocabulary> vocabulary_;
  models::TransformerConfig config_;
  std::unique_ptr<data::PairDataset> train_, valid_;
  std::vector<data::Ids> valid_sources_, test_sources_;
  std::vector<std::string> valid_targets_, test_targets_;
};

}  // namespace

std::unique_ptr<Recipe> make_translate_recipe() { return std::make_unique<SequenceRecipe>(false); }
std::unique_ptr<Recipe> make_summarize_recipe() { return std::make_unique<SequenceRecipe>(true); }

}  // namespace tandem::command
