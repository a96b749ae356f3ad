// `tandem train classify`: language understanding, classes of texts or of pairs of them.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "nn/data/label_sets.h"
#include "nn/data/text_files.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/class_weights.h"
#include "tools/tandem/hints.h"
#include "tools/tandem/method_choice.h"
#include "tools/tandem/multi_label.h"
#include "tools/tandem/recipes/text_encoder_recipe.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

class ClassifyRecipe final : public TextEncoderRecipe {
 public:
  ClassifyRecipe() {
    data_ = "supersense";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;  // the paper's, on most of GLUE
  }
  std::string unit() const override { return "texts"; }

  void declare_data(Command& to) override {
    declare_folder(
        to,
        "supersense, or a folder with train.tsv, valid.tsv and test.tsv (label, tab, text[, tab, second "
        "text])");
    to.option("--per-class", per_class_, integer(0),
              "train on N texts of each class, drawn at random; 0: on all");
    to.flag(
        "--multi-label", multi_label_,
        "several labels of a text in its field, '|' between ('|' alone: none), each with a probability of "
        "its own");
    declare_long(to);
    declare_vocabulary(to);
  }

  void declare_model(Command& to) override {
    method_.declare(to);
    TextEncoderRecipe::declare_model(to);
    declare_class_weights(to, class_weights_);
  }
  std::string training_name(int passes) const override { return method_.training_name(passes); }

  std::string load() override {
    const std::string folder = data_folder();
    const std::string file = split_file(folder, "train", ".tsv");
    using Names = std::vector<std::string>;
    const Names own = opened_ != nullptr ? opened_->entry_as<Names>("classes") : Names();
    data::LabelledTexts all = data::read_labelled(file, multi_label_ ? Names() : own);
    const std::string hints = header_hint(file, {all.classes[all.labels[0]], all.text[0]}) +
                              swapped_hint(file, all.classes, all.text);
    const data::LabelledTexts train = few(std::move(all));
    // Sets of labels may be others than in training.
    const Names known = multi_label_ ? Names() : train.classes;
    const data::LabelledTexts valid = data::read_labelled(split_file(folder, "valid", ".tsv"), known),
                              test = data::read_labelled(split_file(folder, "test", ".tsv"), known);
    classes_ = !own.empty() ? own : multi_label_ ? data::labels_of(train.classes) : train.classes;
    check<IoError>(!classes_.empty(), "{}: no text has a label", file);
    pairs_ = !train.second.empty();
    for (const auto& [split, texts] : {std::pair{"valid", &valid}, std::pair{"test", &test}})
      check<IoError>(texts->second.empty() != pairs_, "{}: texts {}, those of training {}",
                     split_file(folder, split, ".tsv"), pairs_ ? "alone" : "in pairs",
                     pairs_ ? "in pairs" : "alone");
    set_up(concatenated(train.text, train.second), std::ssize(classes_), classes_);
    method_.settle();
    auto texts = dataset(train.text, train.second, train.labels, data::PairLayout::joined, true);
    const int64_t cut = texts->cut(), skipped = train.skipped + valid.skipped + test.skipped;
    train_ = std::move(texts);
    valid_ = dataset(valid.text, valid.second, valid.labels);
    test_ = dataset(test.text, test.second, test.labels);
    test_labels_ = test.labels, train_labels_ = train.labels;
    test_texts_ = test.text, test_second_ = test.second;
    if (multi_label_) {
      train_ = with_sets(std::move(train_), train, folder, "train");
      valid_ = with_sets(std::move(valid_), valid, folder, "valid");
      test_ = with_sets(std::move(test_), test, folder, "test");
    }
    return sizes(cut) + fmt::format(", {} classes", classes_.size()) +
           (skipped > 0 ? fmt::format("\n{} lines without a text were left out", skipped) : "") + hints;
  }

  TaskModel make_model() const override {
    auto model = make_encoder();
    if (multi_label_) {
      check<ConfigError>(method_.name == "rdrop" && class_weights_.empty(),
                         "--multi-label: expected --method rdrop and no --class-weights");
      return with_objective<nn::MultiLabel<models::TextEncoder>>(std::move(model));
    }
    auto objective = method_.make(models::hookable(*model), settings,
                                  make_class_weights(class_weights_, classes_, train_labels_));
    return {std::move(model), std::move(objective)};
  }
  nn::Metadata metadata() const override {
    nn::Metadata all = TextEncoderRecipe::metadata();
    all["classes"] = to_json(classes_);
    all["texts"] = pairs_ ? "2" : "1";  // a line's
    if (multi_label_) all["labels"] = "several";
    return all;
  }
  nn::ValidationMetric metric(TaskModel& model) const override {
    if (!multi_label_) return {};
    return multi_label_metric([this, &encoder = encoder(model)] { return outputs_of(encoder, *valid_); },
                              *valid_);
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    if (multi_label_)
      return multi_label_scores(outputs_of(encoder(model), *test_), target_labels(*test_), unit(),
                                settings.compare);
    std::vector<int64_t> predicted;
    for (const std::vector<double>& row : outputs_of(encoder(model), *test_))
      predicted.push_back(std::max_element(row.begin(), row.end()) - row.begin());
    std::vector<double> found;
    for (size_t i = 0; i < predicted.size(); ++i) found.push_back(100 * (predicted[i] == test_labels_[i]));
    return {mean_score("test accuracy", found, 2, "%", unit()),
            score("macro-F1", 100 * metrics::macro_f1(predicted, test_labels_), 2),
            score("Matthews", metrics::matthews_correlation(predicted, test_labels_), 4)};
  }

  bool has_examples() const override { return true; }
  Examples examples(const Run&) const override {
    if (multi_label_) return {};
    return {.samples = test_.get(),
            .classes = classes_,
            .unit = unit(),
            .has_passes = method_.name == "rdrop",
            .text = [this](int64_t sample, int64_t) {
              return test_texts_[sample] + (pairs_ ? "\n" + test_second_[sample] : "");
            }};
  }

 private:
  std::unique_ptr<data::Dataset> with_sets(std::unique_ptr<data::Dataset> samples,
                                           const data::LabelledTexts& texts, const std::string& folder,
                                           const std::string& split) const {
    return std::make_unique<data::LabelSetDataset>(
        std::move(samples), data::label_table(texts.classes, classes_, split_file(folder, split, ".tsv")));
  }

  // per_class_ texts of each class, or all a class has.
  data::LabelledTexts few(data::LabelledTexts all) const {
    if (per_class_ == 0) return all;
    data::LabelledTexts part;
    part.classes = all.classes, part.skipped = all.skipped;
    std::map<int64_t, int64_t> taken;
    for (int64_t i : draw_order(std::ssize(all.text))) {
      if (taken[all.labels[i]]++ >= per_class_) continue;
      part.text.push_back(all.text[i]);
      if (!all.second.empty()) part.second.push_back(all.second[i]);
      part.labels.push_back(all.labels[i]);
    }
    return part;
  }

  ClassifierMethod method_;
  int64_t per_class_ = 0;
  bool pairs_ = false, multi_label_ = false;
  std::vector<std::string> classes_, test_texts_, test_second_;
  std::vector<int64_t> test_labels_, train_labels_;
  std::string class_weights_;
};

const RegisterTask classify({"classify", "classification of texts, or of pairs of them: an encoder",
                             make<ClassifyRecipe>});

}  // namespace
}  // namespace tandem::command
