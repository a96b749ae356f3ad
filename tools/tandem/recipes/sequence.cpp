// `tandem train translate` and `tandem train summarize`: pairs of texts, by an encoder-decoder.
#include <fmt/format.h>

#include <filesystem>
#include <numeric>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/io/files.h"
#include "nn/io/text.h"
#include "nn/metrics/bleu.h"
#include "nn/metrics/chrf.h"
#include "nn/metrics/rouge.h"
#include "tools/tandem/hints.h"
#include "tools/tandem/recipes/text_recipe.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

constexpr const char* kTestFile = "/test.txt";  // in a run folder: what was made of the test texts

class SequenceRecipe final : public TextRecipe {
 public:
  explicit SequenceRecipe(bool summarize) : summarize_(summarize) {
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

  void declare_data(Command& to) override {
    declare_folder(
        to, fmt::format("{}, or a folder with train.tsv, valid.tsv and test.tsv (source, tab, target) or "
                        "train.source, train.target and so on",
                        summarize_ ? "summaries" : "synopses, libreoffice-help"));
    to.option("--limit", limit_, integer(0), "train on N pairs, drawn at random; 0: on all");
    declare_long(to);
    to.option("--valid-decode", valid_decode_, integer(1),
              "validation pairs, drawn at random, that are decoded for the metric");
    declare_vocabulary(to);
  }

  void declare_model(Command& to) override {
    declare_sizes(to, models::transformer_preset_names());
    activation_dropout_option_ = to.option("--activation-dropout", activation_dropout_, fraction(),
                                           "dropout rate inside of the feed-forward networks");
    to.option("--decoder-dropout", decoder_dropout_, number_in(-1, 0.999),
              "the decoder's dropout rate; -1: --dropout");
    to.option("--positions", positions_, one_of({"sinusoidal", "learned"}), "sinusoidal or learned");
    to.flag("--copy", copy_, "words of the source may be copied (pointer-generator)");
    to.option("--beam", beam_.beam, integer(1, 1000), "hypotheses of the test's beam search; 1: greedy");
    to.option("--length-penalty", beam_.length_penalty, number(), "exponent of the test's length penalty");
    init_.declare(to, "bart",
                  fmt::format(", or a run of {}; with its sizes and vocabulary",
                              summarize_ ? "summarize" : "translate"));
  }

  std::string load() override {
    const std::string folder = data_folder();
    const data::TextPairs all = read(folder, "train"), valid = read(folder, "valid"),
                          test = read(folder, "test");
    data::TextPairs kept;
    for (int64_t i : draw_subset(std::ssize(all.source), limit_)) {
      kept.source.push_back(all.source[i]);
      kept.target.push_back(all.target[i]);
    }
    if (init_.empty()) {
      make_vocabulary(concatenated(kept.source, kept.target));
      config_ = configured(models::transformer_preset(model_choice_.preset));
      config_.copy = copy_;
      config_.positions = models::parse_positions(positions_);
    } else {
      if (init_.published()) open_init();
      config_ = init_.published() ? of_init(models::transformer_config(init_.model()))
                                  : of_run<models::Transformer>();
      check<ConfigError>(!copy_ || config_.copy, "--copy: --init's model does not copy");
      activation_dropout_option_.default_to(config_.activation_dropout);
    }
    config_.activation_dropout = activation_dropout_;
    if (decoder_dropout_ >= 0) config_.decoder_dropout = decoder_dropout_;
    auto train = dataset(kept);
    valid_ = dataset(valid);
    const auto decoded = std::min<int64_t>(std::ssize(valid.source), valid_decode_);
    for (const int64_t i : draw_subset(std::ssize(valid.source), decoded)) {
      valid_sources_.push_back(encode({valid.source[i]}).front());
      valid_targets_.push_back(valid.target[i]);
    }
    test_texts_ = test.source, test_sources_ = encode(test.source), test_targets_ = test.target;
    const std::string summary = describe(*train, all.skipped + valid.skipped + test.skipped) +
                                header_hint(folder + "/train", {all.source[0], all.target[0]}) +
                                init_.table<models::Transformer>(config_, false);
    train_ = std::move(train);
    return summary;
  }

  TaskModel make_model() const override {
    return with_objective<models::SequenceToSequence>(made<models::Transformer>(config_));
  }
  nn::Metadata metadata() const override { return metadata_with(config_); }

  nn::ValidationMetric metric(TaskModel& model) const override {
    return {summarize_ ? "ROUGE-1" : "BLEU", [this, &model](const nn::Metrics&) {
              const auto texts = decode(model, valid_sources_, {.beam = 1}, "");
              return summarize_ ? metrics::rouge(texts, valid_targets_).rouge1
                                : metrics::corpus_bleu(texts, valid_targets_).score;
            }};
  }

  std::vector<Score> scores(TaskModel& model, const std::string& run) const override {
    const auto texts = decode(model, test_sources_, beam_, settings.quiet ? "" : "test");
    if (!run.empty()) data::write_file(run + kTestFile, data::join(texts, "\n") + "\n");
    if (summarize_) {
      std::vector<double> each[3];
      for (const metrics::Rouge& r : metrics::rouge_of_pairs(texts, test_targets_))
        each[0].push_back(r.rouge1), each[1].push_back(r.rouge2), each[2].push_back(r.rougeL);
      return {mean_score("test ROUGE-1", each[0], 2, "", unit()),
              mean_score("ROUGE-2", each[1], 2, "", unit()), mean_score("ROUGE-L", each[2], 2, "", unit())};
    }
    return {bleu(texts), score("chrF", metrics::corpus_chrf(texts, test_targets_).score, 2)};
  }

  bool has_examples() const override { return true; }
  // What was made of the test texts when the training ended.
  Examples examples(const Run& run) const override {
    const std::string file = run.folder + kTestFile;
    if (!std::filesystem::exists(file)) return {};
    const std::vector<std::string> made = data::read_lines(file);
    if (made.size() != test_targets_.size()) return {};
    Examples all{.unit = unit(), .score = summarize_ ? "ROUGE-1" : "chrF"};
    const auto rouge =
        summarize_ ? metrics::rouge_of_pairs(made, test_targets_) : std::vector<metrics::Rouge>();
    for (size_t i = 0; i < made.size(); ++i)
      all.made.push_back(
          {test_texts_[i], test_targets_[i], made[i],
           summarize_ ? rouge[i].rouge1 : metrics::corpus_chrf({made[i]}, {test_targets_[i]}).score});
    return all;
  }

  std::string footnote() const override {
    return summarize_ ? "" : "BLEU: " + metrics::Bleu{}.signature() + fmt::format(", beam {}", beam_.beam);
  }

 private:
  Score bleu(const std::vector<std::string>& texts) const {
    const auto counts = metrics::bleu_counts(texts, {test_targets_});
    const auto of = [counts](const data::Indices& drawn) {
      metrics::BleuCounts sum;
      for (int64_t i : drawn) sum += counts[i];
      return metrics::bleu_of(sum).score;
    };
    data::Indices all(counts.size());
    std::iota(all.begin(), all.end(), 0);
    Score made = score("test BLEU", of(all), 2);
    made.resampled = {std::ssize(all), unit(), of};
    return made;
  }

  std::string describe(const data::PairDataset& train, int64_t skipped) const {
    std::string text = fmt::format("{} training, {} validation and {} test pairs, vocabulary of {}",
                                   train.size(), valid_->size(), test_sources_.size(), vocabulary_->size());
    text += vocabulary_hint();
    if (skipped > 0) text += fmt::format("\n{} pairs with an empty side were left out", skipped);
    if (train.cut() > 0)
      text += fmt::format("\n{} training pairs were cut to {} tokens", train.cut(), config_.max_positions);
    if (train.left_out() > 0)
      text += fmt::format("\n{} training pairs of more than {} tokens were left out", train.left_out(),
                          config_.max_positions);
    return text;
  }

  data::TextPairs read(const std::string& folder, const std::string& split) const {
    const std::string stem = folder + "/" + split;
    if (std::filesystem::exists(stem + ".source"))
      return data::read_pairs(stem + ".source", split_file(folder, split, ".target"));
    return data::read_pairs(split_file(folder, split, ".tsv"));
  }

  int64_t most() const { return config_.max_positions - vocabulary_->special().around_side(); }
  std::vector<data::Ids> encode_checked(const std::vector<std::string>& texts) const {
    std::vector<data::Ids> all = encode_all(*vocabulary_, texts);
    for (size_t i = 0; i < all.size(); ++i) check_length(texts[i], std::ssize(all[i]), most());
    return all;
  }
  // Sources cut to the model's positions: every test text gets an answer.
  std::vector<data::Ids> encode(const std::vector<std::string>& texts) const {
    std::vector<data::Ids> all = encode_checked(texts);
    for (data::Ids& ids : all) ids.resize(std::min<size_t>(ids.size(), most()));
    return all;
  }

  std::unique_ptr<data::PairDataset> dataset(const data::TextPairs& pairs) const {
    return std::make_unique<data::PairDataset>(
        encode_checked(pairs.source), encode_checked(pairs.target), config_.max_positions,
        long_ == "skip" ? data::TooLong::skip : data::TooLong::cut, vocabulary_->special());
  }

  std::vector<std::string> decode(TaskModel& model, const std::vector<data::Ids>& sources,
                                  const models::BeamOptions& options, const std::string& label) const {
    return decode_texts(static_cast<models::Transformer&>(*model.module), *vocabulary_, sources, options,
                        label);
  }

  const bool summarize_;
  std::string positions_ = "sinusoidal";
  int64_t limit_ = 0, valid_decode_ = 500;
  bool copy_ = false;
  Option activation_dropout_option_;
  double activation_dropout_ = 0, decoder_dropout_ = -1;
  models::BeamOptions beam_;

  models::TransformerConfig config_;
  std::vector<data::Ids> valid_sources_, test_sources_;
  std::vector<std::string> valid_targets_, test_texts_, test_targets_;
};

const RegisterTask translate({"translate", "translation: an encoder-decoder Transformer",
                              [] { return std::make_unique<SequenceRecipe>(false); }});
const RegisterTask summarize({"summarize", "summarization: an encoder-decoder Transformer",
                              [] { return std::make_unique<SequenceRecipe>(true); }});

}  // namespace
}  // namespace tandem::command
