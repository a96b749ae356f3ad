// `tandem train lm`: language modelling.
#include <fmt/format.h>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/recipes/text_recipe.h"

namespace tandem::command {
namespace {

class LanguageModelRecipe final : public TextRecipe {
 public:
  LanguageModelRecipe() {
    data_ = "austen";
    settings.trainer.epochs = 10, settings.trainer.batch_size = 16, settings.trainer.eval_batch_size = 32;
    settings.trainer.alpha = 1;  // the paper's
    settings.lr = 2e-3, settings.warmup = -1, settings.usual_warmup = 200, settings.beta2 = 0.98,
    settings.weight_decay = 0.01;
    vocabulary_choice_.size = 2000;
    model_choice_.norm_first = true;
  }

  std::string unit() const override { return "blocks"; }

  void declare_data(Command& to) override {
    declare_folder(to, "austen, or a folder with train.txt, valid.txt and test.txt");
    to.option("--block", block_, integer(2, 1 << 20), "tokens of a training block");
    declare_vocabulary(to);
  }
  void declare_model(Command& to) override {
    declare_sizes(to, models::language_model_preset_names());
    to.option(
        "--cutoffs", cutoffs_, integer(1),
        "adaptive input and softmax: where the clusters of rarer words begin, as 500,1500; without: plain "
        "ones");
    to.option("--adaptive-factor", factor_, integer(1),
              "how much shorter each cluster's vectors are than those before");
    init_.declare(to, "gpt2", ", or a run of lm; with its sizes and vocabulary");
  }

  std::string load() override {
    const std::string folder = data_folder();
    const auto lines = data::read_lines(split_file(folder, "train", ".txt"));
    if (init_.empty()) {
      make_vocabulary(lines);
      config_ = configured(models::language_model_preset(model_choice_.preset));
      if (!cutoffs_.empty()) config_.cutoffs = cutoffs_;
      config_.factor = factor_;
      // Ends of lines are text, also where a vocabulary pads with them, as many do that are made of GPT-2's.
      if (config_.pad_id == vocabulary_->special().eos) config_.pad_id = -1;
    } else {
      check<ConfigError>(cutoffs_.empty(), "--cutoffs: --init's model has an output layer of its own");
      if (init_.published()) open_init();
      config_ = init_.published() ? of_init(models::language_model_config(init_.model()))
                                  : of_run<models::LanguageModel>();
    }
    check<ConfigError>(block_ <= config_.max_positions,
                       "--block: expected at most the model's {} positions, got {}", config_.max_positions,
                       block_);
    if (init_.empty() && config_.positions == models::Positions::learned)
      config_.max_positions = positions_of_run(block_);
    auto train = std::make_unique<Blocks>(stream(lines).ids, block_, 0, config_.pad_id);
    auto valid = split(folder, "valid", valid_text_);
    test_ = split(folder, "test", test_text_);
    const std::string summary =
        fmt::format("{} training, {} validation and {} test tokens, vocabulary of {}", train->targets(),
                    valid->targets(), test_->targets(), vocabulary_->size()) +
        vocabulary_hint() + init_.table<models::LanguageModel>(config_, false);
    train_ = std::move(train), valid_ = std::move(valid);
    return summary;
  }

  TaskModel make_model() const override {
    return with_objective<models::LanguageModeling>(made<models::LanguageModel>(config_));
  }
  nn::Metadata metadata() const override { return metadata_with(config_); }

  nn::ValidationMetric metric(TaskModel&) const override {
    return {"bits/char", [this](const nn::Metrics& m) { return valid_text_.bits(m.ce); }, false};
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const nn::Metrics test = nn::evaluate(*model.objective, *test_, settings.trainer.eval_batch_size);
    Score bits = score("test bits/char", test_text_.bits(test.ce), 4);
    if (settings.compare)
      bits.resampled = resample_batches(*model.objective, *test_, 4, "batches of 4 blocks",
                                        [this](double ce, double) { return test_text_.bits(ce); });
    return {bits, score("perplexity", metrics::perplexity(test.ce), 2)};
  }

 private:
  using Blocks = data::LanguageModelDataset;
  struct Stream {
    data::Ids ids;  // every line ends with eos: its line break
    int64_t characters = 0;
  };
  struct Length {
    int64_t tokens = 0, characters = 0;
    double bits(double nats) const { return metrics::bits_per_character(nats, tokens, characters); }
  };

  Stream stream(const std::vector<std::string>& lines) const {
    const int64_t eos = vocabulary_->special().eos;
    Stream all{{eos}, 0};  // the text begins after a line break
    for (const std::string& line : lines) {
      const data::Ids ids = vocabulary_->encode(line);
      all.ids.insert(all.ids.end(), ids.begin(), ids.end());
      all.ids.push_back(eos);
      for (char c : line) all.characters += (c & 0xC0) != 0x80;
      ++all.characters;
    }
    return all;
  }
  // Half of an evaluation block is context.
  std::unique_ptr<Blocks> split(const std::string& folder, const std::string& name, Length& length) const {
    const std::string file = split_file(folder, name, ".txt");
    Stream text = stream(data::read_lines(file));
    check<IoError>(text.characters > 0, "{}: no lines", file);
    auto blocks = std::make_unique<Blocks>(std::move(text.ids), block_, block_ / 2, config_.pad_id);
    length = {blocks->targets(), text.characters};
    return blocks;
  }

  int64_t block_ = 128, factor_ = 4;
  std::vector<int64_t> cutoffs_;
  models::LanguageModelConfig config_;
  std::unique_ptr<Blocks> test_;
  Length valid_text_, test_text_;
};

const RegisterTask lm({"lm", "language modelling: a decoder-only Transformer", make<LanguageModelRecipe>});

}  // namespace
}  // namespace tandem::command
