// `tandem train classify`: language understanding, classes of texts or of pairs of them.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "nn/data/text_files.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/method_choice.h"
#include "tools/tandem/recipes/text_encoder.h"

namespace tandem::command {
namespace {

class ClassifyRecipe final : public TextEncoderRecipe {
 public:
  ClassifyRecipe() {
    settings.run = "runs/classify", data_ = "supersense";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;  // the paper's, on most of GLUE
  }
  std::string unit() const override { return "texts"; }

  void declare_data(OptionAdder& to) override {
    to.group("Data");
    to.add("--data", data_, not_empty(),
           "supersense, or a folder with train.tsv, valid.tsv and test.tsv (label, tab, text[, tab, second "
           "text])");
    to.add("--per-class", per_class_, integer(0), "train on N texts of each class, drawn by lot; 0: on all");
    vocabulary_choice_.declare(to);
  }

  void load() override {
    const std::string folder = data_folder(data_);
    data::LabelledTexts all = data::read_labelled(split_file(folder, "train", ".tsv"));
    const data::LabelledTexts train = few(std::move(all)),
                              valid = data::read_labelled(split_file(folder, "valid", ".tsv"), train.classes),
                              test = data::read_labelled(split_file(folder, "test", ".tsv"), train.classes);
    classes_ = train.classes;
    std::vector<std::string> lines = train.text;
    lines.insert(lines.end(), train.second.begin(), train.second.end());
    set_up(lines, std::ssize(classes_));
    method_.settle(settings);
    auto texts = dataset(train.text, train.second, train.labels);
    cut_ = texts->cut();
    train_ = std::move(texts);
    valid_ = dataset(valid.text, valid.second, valid.labels);
    test_ = dataset(test.text, test.second, test.labels);
    test_labels_ = test.labels;
    skipped_ = train.skipped + valid.skipped + test.skipped;
  }

  std::string summary() const override {
    return sizes(train_->size(), valid_->size(), test_->size(), cut_) +
           fmt::format(", {} classes", classes_.size()) +
           (skipped_ > 0 ? fmt::format("\n{} lines without a text were left out", skipped_) : "");
  }
  void declare_model(OptionAdder& to) override {
    method_.declare(to);
    TextEncoderRecipe::declare_model(to);
  }
  std::string training_name(int passes) const override { return method_.training_name(passes); }
  std::unique_ptr<TaskModel> make_model() const override {
    auto model = make_encoder();
    auto objective = method_.make(models::hookable(*model), settings);
    return std::make_unique<TaskModel>(TaskModel{std::move(model), std::move(objective)});
  }

  nn::Metadata metadata() const override {
    nn::Metadata all = common_metadata("classify");
    all["classes"] = nlohmann::json(classes_).dump();
    return all;
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    std::vector<int64_t> predicted;
    for (const std::vector<double>& row : outputs_of(encoder(model), *test_))
      predicted.push_back(std::max_element(row.begin(), row.end()) - row.begin());
    return {{"test accuracy", fmt::format("{:.2f}%", 100 * metrics::accuracy(predicted, test_labels_))},
            {"macro-F1", fmt::format("{:.2f}", 100 * metrics::macro_f1(predicted, test_labels_))},
            {"Matthews", fmt::format("{:.4f}", metrics::matthews_correlation(predicted, test_labels_))}};
  }

 private:
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

  MethodChoice method_;
  int64_t per_class_ = 0, skipped_ = 0, cut_ = 0;
  std::vector<std::string> classes_;
  std::vector<int64_t> test_labels_;
};

}  // namespace

std::unique_ptr<Recipe> make_classify_recipe() { return std::make_unique<ClassifyRecipe>(); }

}  // namespace tandem::command
