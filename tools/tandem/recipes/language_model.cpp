// `tandem train lm`: language modelling.
#include <fmt/format.h>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/recipes/text_options.h"

namespace tandem::command {
namespace {

class LanguageModelRecipe final : public Recipe {
 public:
  LanguageModelRecipe() {
    settings.run = "runs/lm";
    settings.trainer.epochs = 10, settings.trainer.batch_size = 16, settings.trainer.eval_batch_size = 32;
    settings.trainer.alpha = 1;  // the paper's
    settings.lr = 2e-3, settings.warmup = -1, settings.usual_warmup = 200, settings.beta2 = 0.98,
    settings.weight_decay = 0.01;
    vocabulary_choice_.size = 2000;
    model_choice_.norm_first = true;
  }

  std::string unit() const override { return "blocks"; }
  double largest_rate() const override { return model_choice_.largest_rate(); }
  const data::Dataset& train() const override { return *train_; }
  const data::Dataset& valid() const override { return *valid_.blocks; }

  void declare_data(OptionAdder& to) override {
    to.group("Data");
    to.add("--data", data_, not_empty(), "austen, or a folder with train.txt, valid.txt and test.txt");
    to.add("--block", block_, integer(2, 1 << 20), "tokens of a training block");
    vocabulary_choice_.declare(to);
  }
  void declare_model(OptionAdder& to) override {
    model_choice_.declare(to, models::language_model_preset_names());
    to.add("--cutoffs", cutoffs_, integer(1),
           "adaptive input and softmax: where the clusters of rarer words begin, as 500,1500; without: plain "
           "ones")
        ->delimiter(',');
    to.add("--adaptive-factor", factor_, integer(1),
           "how much shorter each cluster's vectors are than those before");
  }

  void load() override {
    const std::string folder = data_folder(data_);
    const auto train = data::read_lines(split_file(folder, "train", ".txt"));
    vocabulary_ = vocabulary_choice_.get(settings, train);
    config_ = models::language_model_preset(model_choice_.preset);
    config_.vocab = vocabulary_->size();
    model_choice_.apply(config_);
    override_size(config_.layers, model_choice_.layers);
    if (!cutoffs_.empty()) config_.cutoffs = cutoffs_;
    config_.factor = factor_;
    check<ConfigError>(block_ <= config_.max_positions,
                       "--block: expected at most the model's {} positions, got {}", config_.max_positions,
                       block_);
    train_ = std::make_unique<data::LanguageModelDataset>(stream(train).ids, block_);
    valid_ = split(folder, "valid"), test_ = split(folder, "test");
  }

  std::string summary() const override {
    return fmt::format("{} training, {} validation and {} test tokens, vocabulary of {}", train_->targets(),
                       valid_.blocks->targets(), test_.blocks->targets(), vocabulary_->size());
  }

  std::unique_ptr<TaskModel> make_model() const override {
    auto model = std::make_unique<models::LanguageModel>(config_);
    auto objective = std::make_unique<models::LanguageModeling>(*model);
    return std::make_unique<TaskModel>(TaskModel{std::move(model), std::move(objective)});
  }

  nn::Metadata metadata() const override {
    return {{"task", "lm"},
            {"config", to_json(config_)},
            {"vocabulary", vocabulary_->fingerprint()},
            {"data", data_}};
  }
  void save_parts(const std::string& run) const override { vocabulary_->save(run + "/" + kVocabularyFile); }

  nn::ValidationMetric metric(TaskModel&) const override {
    return {"bits/char", [this](const nn::Metrics& m) { return valid_.bits(m.ce); }, false};
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const nn::Metrics test = nn::evaluate(*model.objective, *test_.blocks, settings.trainer.eval_batch_size);
    return {{"test bits/char", fmt::format("{:.4f}", test_.bits(test.ce))},
            {"perplexity", fmt::format("{:.2f}", metrics::perplexity(test.ce))}};
  }

 private:
  struct Stream {
    data::Ids ids;  // every line ends with eos: its line break
    int64_t characters = 0;
  };
  struct Split {
    std::unique_ptr<data::LanguageModelDataset> blocks;
    int64_t characters = 0;
    double bits(double nats) const {
      return metrics::bits_per_character(nats, blocks->targets(), characters);
    }
  };

  Stream stream(const std::vector<std::string>& lines) const {
    Stream all{{data::Vocabulary::eos}, 0};  // the text begins after a line break
    for (const std::string& line : lines) {
      const data::Ids ids = vocabulary_->encode(line);
      all.ids.insert(all.ids.end(), ids.begin(), ids.end());
      all.ids.push_back(data::Vocabulary::eos);
      for (char c : line) all.characters += (c & 0xC0) != 0x80;
      ++all.characters;
    }
    return all;
  }
  // Half of an evaluation block is context.
  Split split(const std::string& folder, const std::string& name) const {
    const std::string file = split_file(folder, name, ".txt");
    Stream text = stream(data::read_lines(file));
    check<IoError>(text.characters > 0, "{}: no lines", file);
    return {std::make_unique<data::LanguageModelDataset>(std::move(text.ids), block_, block_ / 2),
            text.characters};
  }

  std::string data_ = "austen";
  int64_t block_ = 128, factor_ = 4;
  std::vector<int64_t> cutoffs_;
  VocabularyChoice vocabulary_choice_;
  ModelChoice model_choice_;

  std::optional<data::Vocabulary> vocabulary_;
  models::LanguageModelConfig config_;
  std::unique_ptr<data::LanguageModelDataset> train_;
  Split valid_, test_;
};

}  // namespace

std::unique_ptr<Recipe> make_lm_recipe() { return std::make_unique<LanguageModelRecipe>(); }

}  // namespace tandem::command
