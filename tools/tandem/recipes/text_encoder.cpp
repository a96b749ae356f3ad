// `tandem train classify` and `tandem train similarity`: language understanding, by an encoder.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/method_choice.h"
#include "tools/tandem/recipes/text_options.h"

namespace tandem::command {
namespace {

class TextEncoderRecipe : public Recipe {
 public:
  double largest_rate() const override { return model_choice_.largest_rate(); }
  const data::Dataset& train() const override { return *train_; }
  const data::Dataset& valid() const override { return *valid_; }
  void save_parts(const std::string& run) const override { vocabulary_->save(run + "/" + kVocabularyFile); }
  void declare_model(OptionAdder& to) override {
    model_choice_.declare(to, models::text_encoder_preset_names());
  }

 protected:
  TextEncoderRecipe() {
    settings.trainer.batch_size = 64;
    settings.lr = 1e-3, settings.warmup = -1, settings.usual_warmup = 200, settings.weight_decay = 0.01;
    vocabulary_choice_.size = 4000;
  }

  // Before the data sets.
  void set_up(const std::vector<std::string>& first, const std::vector<std::string>& second,
              int64_t outputs) {
    std::vector<std::string> lines = first;
    lines.insert(lines.end(), second.begin(), second.end());
    vocabulary_ = vocabulary_choice_.get(settings, lines);
    config_ = models::text_encoder_preset(model_choice_.preset);
    config_.vocab = vocabulary_->size(), config_.outputs = outputs;
    model_choice_.apply(config_);
    override_size(config_.layers, model_choice_.layers);
  }

  template <class Target>
  std::unique_ptr<data::TextDataset> dataset(const std::vector<std::string>& first,
                                             const std::vector<std::string>& second,
                                             const Target& target) const {
    return std::make_unique<data::TextDataset>(
        encode_all(*vocabulary_, first), encode_all(*vocabulary_, second), target, config_.max_positions);
  }

  std::string sizes() const {
    std::string text = fmt::format("{} training, {} validation and {} test texts, vocabulary of {}",
                                   train_->size(), valid_->size(), test_->size(), vocabulary_->size());
    if (train_->cut() > 0)
      text += fmt::format("\n{} training texts were cut to {} tokens", train_->cut(), config_.max_positions);
    return text;
  }

  template <class Objective>
  std::unique_ptr<TaskModel> make() const {
    auto model = std::make_unique<models::TextEncoder>(config_);
    auto objective = std::make_unique<Objective>(*model);
    return std::make_unique<TaskModel>(TaskModel{std::move(model), std::move(objective)});
  }
  static models::TextEncoder& encoder(TaskModel& model) {
    return static_cast<models::TextEncoder&>(*model.module);
  }

  nn::Metadata common_metadata(const std::string& task) const {
    return {{"task", task},
            {"config", to_json(config_)},
            {"vocabulary", vocabulary_->fingerprint()},
            {"data", data_}};
  }

  std::string data_;
  VocabularyChoice vocabulary_choice_;
  ModelChoice model_choice_;
  std::optional<data::Vocabulary> vocabulary_;
  models::TextEncoderConfig config_;
  std::unique_ptr<data::TextDataset> train_, valid_, test_;
};

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
    set_up(train.text, train.second, std::ssize(classes_));
    train_ = dataset(train.text, train.second, train.labels);
    valid_ = dataset(valid.text, valid.second, valid.labels);
    test_ = dataset(test.text, test.second, test.labels);
    test_labels_ = test.labels;
    skipped_ = train.skipped + valid.skipped + test.skipped;
  }

  std::string summary() const override {
    return sizes() + fmt::format(", {} classes", classes_.size()) +
           (skipped_ > 0 ? fmt::format("\n{} lines without a text were left out", skipped_) : "");
  }
  void declare_model(OptionAdder& to) override {
    method_.declare(to);
    TextEncoderRecipe::declare_model(to);
  }
  std::string training_name(int passes) const override { return method_.training_name(passes); }
  std::unique_ptr<TaskModel> make_model() const override {
    auto model = std::make_unique<models::TextEncoder>(config_);
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
  int64_t per_class_ = 0, skipped_ = 0;
  std::vector<std::string> classes_;
  std::vector<int64_t> test_labels_;
};

class SimilarityRecipe final : public TextEncoderRecipe {
 public:
  SimilarityRecipe() {
    settings.run = "runs/similarity", data_ = "gloss-similarity";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;  // the paper's on STS-B
  }
  std::string unit() const override { return "pairs"; }

  void declare_data(OptionAdder& to) override {
    to.group("Data");
    to.add(
        "--data", data_, not_empty(),
        "gloss-similarity, or a folder with train.tsv, valid.tsv and test.tsv (score, tab, text, tab, text)");
    to.add("--limit", limit_, integer(0), "train on N pairs, drawn by lot; 0: on all");
    vocabulary_choice_.declare(to);
  }

  void load() override {
    const std::string folder = data_folder(data_);
    const data::ScoredTexts all = data::read_scored(split_file(folder, "train", ".tsv")),
                            valid = data::read_scored(split_file(folder, "valid", ".tsv")),
                            test = data::read_scored(split_file(folder, "test", ".tsv"));
    data::ScoredTexts train;
    for (int64_t i : draw_subset(std::ssize(all.text), limit_)) {
      train.text.push_back(all.text[i]);
      train.second.push_back(all.second[i]);
      train.scores.push_back(all.scores[i]);
    }
    set_up(train.text, train.second, 1);
    // The model learns scores of mean 0 and deviation 1.
    const auto n = static_cast<double>(train.scores.size());
    mean_ = std::accumulate(train.scores.begin(), train.scores.end(), 0.0) / n;
    double squares = 0;
    for (double x : train.scores) squares += (x - mean_) * (x - mean_);
    check<ValueError>(squares > 0, "{}: all scores are {}, expected different ones", folder, train.scores[0]);
    scale_ = std::sqrt(squares / n);
    train_ = dataset(train.text, train.second, standardised(train.scores));
    valid_ = dataset(valid.text, valid.second, standardised(valid.scores));
    test_ = dataset(test.text, test.second, standardised(test.scores));
    valid_scores_ = valid.scores, test_scores_ = test.scores;
  }

  std::string summary() const override { return sizes(); }
  std::unique_ptr<TaskModel> make_model() const override { return make<models::TextRegression>(); }

  nn::Metadata metadata() const override {
    nn::Metadata all = common_metadata("similarity");
    all["mean"] = fmt::format("{}", mean_), all["scale"] = fmt::format("{}", scale_);
    return all;
  }

  nn::ValidationMetric metric(TaskModel& model) const override {
    return {"Spearman", [this, &model](const nn::Metrics&) {
              return metrics::spearman(predict(model, *valid_), valid_scores_);
            }};
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const std::vector<double> predicted = predict(model, *test_);
    return {{"test Spearman", fmt::format("{:.4f}", metrics::spearman(predicted, test_scores_))},
            {"Pearson", fmt::format("{:.4f}", metrics::pearson(predicted, test_scores_))}};
  }

 private:
  std::vector<double> standardised(std::vector<double> scores) const {
    for (double& x : scores) x = (x - mean_) / scale_;
    return scores;
  }
  static std::vector<double> predict(TaskModel& model, const data::Dataset& texts) {
    std::vector<double> numbers;
    for (const std::vector<double>& row : outputs_of(encoder(model), texts)) numbers.push_back(row[0]);
    return numbers;
  }

  int64_t limit_ = 0;
  double mean_ = 0, scale_ = 1;
  std::vector<double> valid_scores_, test_scores_;
};

}  // namespace

std::unique_ptr<Recipe> make_classify_recipe() { return std::make_unique<ClassifyRecipe>(); }
std::unique_ptr<Recipe> make_similarity_recipe() { return std::make_unique<SimilarityRecipe>(); }

}  // namespace tandem::command
