// `tandem train mlm`: pre-training of a text encoder by hidden words, to start the other recipes from.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "models/transformer/masked_language_modeling.h"
#include "nn/data/masked_texts.h"
#include "nn/data/text_files.h"
#include "tools/tandem/recipes/text_encoder_recipe.h"

namespace tandem::command {
namespace {

class MaskedLanguageModelRecipe final : public TextEncoderRecipe {
 public:
  MaskedLanguageModelRecipe() {
    data_ = "supersense";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;
  }
  std::string unit() const override { return "texts"; }

  void declare_data(Command& to) override {
    declare_folder(
        to,
        "a folder with train.txt, valid.txt and test.txt (a text a line), or supersense, or a folder of "
        "labelled texts, whose labels are not read");
    to.option("--mask-rate", rate_, positive_fraction(), "share of the words that are hidden");
    declare_long(to);
    declare_vocabulary(to);
  }

  std::string load() override {
    const std::string folder = data_folder();
    const std::vector<std::string> train = texts_of(folder, "train"), valid = texts_of(folder, "valid"),
                                   test = texts_of(folder, "test");
    set_up(train, 1);
    train_ = masked(0, train), valid_ = masked(1, valid), test_ = masked(2, test);
    return sizes(texts_[0]->cut());
  }

  TaskModel make_model() const override {
    return with_objective<models::MaskedLanguageModeling>(make_encoder());
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const nn::Metrics test = nn::evaluate(*model.objective, *test_);
    Score found = score("hidden words found", 100 * test.accuracy, 2, "%");
    if (settings.compare)
      found.resampled = resample_batches(*model.objective, *test_, 16, "batches of 16 texts",
                                         [](double, double accuracy) { return 100 * accuracy; });
    return {found, score("perplexity", std::exp(test.ce), 2)};
  }

 private:
  static std::vector<std::string> texts_of(const std::string& folder, const std::string& split) {
    const std::string plain = folder + "/" + split + ".txt";
    if (!std::filesystem::exists(plain)) {
      data::LabelledTexts labelled = data::read_labelled(split_file(folder, split, ".tsv"));
      return concatenated(std::move(labelled.text), labelled.second);
    }
    std::vector<std::string> texts = data::read_lines(plain);
    std::erase(texts, "");
    check<IoError>(!texts.empty(), "{}: no texts, expected one a line", plain);
    return texts;
  }

  std::unique_ptr<data::Dataset> masked(int part, const std::vector<std::string>& texts) {
    texts_[part] =
        dataset(texts, {}, std::vector<int64_t>(texts.size()), data::PairLayout::joined, part == 0);
    return std::make_unique<data::MaskedTexts>(*texts_[part], config_.vocab, rate_);
  }

  double rate_ = 0.15;
  std::unique_ptr<data::TextDataset> texts_[3];  // of train, valid and test
};

const RegisterTask mlm({"mlm", "pre-training of an encoder: masked language modelling",
                        make<MaskedLanguageModelRecipe>});

}  // namespace
}  // namespace tandem::command
