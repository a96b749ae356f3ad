// `tandem train similarity`: how alike two texts are, learned from scores, or by SimCSE.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "nn/data/text_files.h"
#include "nn/methods/contrastive.h"
#include "nn/metrics/scores.h"
#include "tools/tandem/method_choice.h"
#include "tools/tandem/recipes/text_encoder_recipe.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

class SimilarityRecipe final : public TextEncoderRecipe {
 public:
  SimilarityRecipe() {
    data_ = "gloss-similarity";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;  // the paper's on STS-B
  }
  std::string unit() const override { return "pairs"; }

  void declare_data(Command& to) override {
    declare_folder(
        to,
        "gloss-similarity, or a folder with train.tsv, valid.tsv and test.tsv (score, tab, text, tab, text)");
    to.option("--limit", limit_, integer(0), "train on N pairs, drawn at random; 0: on all");
    declare_long(to);
    declare_vocabulary(to);
  }
  void declare_model(Command& to) override {
    method_.declare(to, {"rdrop", "simcse", "simcse-supervised"},
                    "; SimCSE learns from texts without scores (its two passes are the two views), or "
                    "supervised from the pairs that are alike");
    to.option("--temperature", temperature_, positive(), "simcse: divides the cosines");
    to.option("--positive", positive_, number(),
              "simcse-supervised: the score from which two texts are alike");
    TextEncoderRecipe::declare_model(to);
    to.option("--encoder", encoder_, one_of({"bi", "cross"}),
              "bi: a vector of each text, compared by their cosine; cross: both texts are read as one");
  }
  std::string training_name(int passes) const override { return method_.training_name(passes); }

  std::string load() override {
    const std::string folder = data_folder();
    const data::ScoredTexts all = data::read_scored(split_file(folder, "train", ".tsv")),
                            valid = data::read_scored(split_file(folder, "valid", ".tsv")),
                            test = data::read_scored(split_file(folder, "test", ".tsv"));
    data::ScoredTexts train;
    for (int64_t i : draw_subset(std::ssize(all.text), limit_)) add(train, all, i);
    set_up(concatenated(train.text, train.second), 1);
    if (pooling_ == "auto" && !has_own_pooling()) config_.pooling = models::Pooling::mean;
    method_.settle(passes_of_method());
    check<ConfigError>(method_.name == "rdrop" || encoder_ == "bi",
                       "--method {}: expected --encoder bi, got {}", method_.name, encoder_);
    check<ConfigError>(method_.name != "simcse" || largest_rate() > 0,
                       "--method simcse: expected a --dropout above 0, the two views are the same without");
    config_.bi_encoder = encoder_ == "bi";
    measure_scores(folder, train.scores);
    check_scores(folder, "valid.tsv", valid.scores), check_scores(folder, "test.tsv", test.scores);
    scored_valid_ = pairs(valid), test_ = pairs(test);
    valid_scores_ = valid.scores, test_scores_ = test.scores;
    if (method_.name == "simcse") {
      train_ = sentences(train, true), valid_ = sentences(valid);
    } else if (method_.name == "simcse-supervised") {
      train_ = pairs(positives(train), true), valid_ = pairs(positives(valid));
    } else {
      train_ = pairs(train, true), valid_ = pairs(valid);
    }
    return sizes(static_cast<const data::TextDataset&>(*train_).cut());
  }

  TaskModel make_model() const override {
    method_.check_settings(settings, passes_of_method());
    auto model = make_encoder();
    if (method_.name == "rdrop") return with_objective<nn::Regression<models::TextEncoder>>(std::move(model));
    const nn::Embed embed = [encoder = model.get()](const Tensor& ids) { return encoder->pooled(ids); };
    const nn::ContrastiveOptions options{.temperature = temperature_};
    if (method_.name == "simcse")
      return with_objective<nn::UnsupervisedSimCse>(std::move(model), embed, options);
    return with_objective<nn::SupervisedSimCse>(std::move(model), embed, options);
  }

  nn::Metadata metadata() const override {
    nn::Metadata all = TextEncoderRecipe::metadata();
    all["mean"] = fmt::format("{}", mean_), all["scale"] = fmt::format("{}", scale_);
    return all;
  }

  nn::ValidationMetric metric(TaskModel& model) const override {
    return {"Spearman", [this, &model](const nn::Metrics&) {
              return correlation(metrics::spearman, predict(model, *scored_valid_), valid_scores_);
            }};
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const std::vector<double> predicted = predict(model, *test_);
    Score spearman = score("test Spearman", correlation(metrics::spearman, predicted, test_scores_), 4);
    spearman.resampled = {std::ssize(predicted), unit(),
                          [predicted, target = test_scores_](const data::Indices& drawn) {
                            std::vector<double> a, b;
                            for (int64_t i : drawn) a.push_back(predicted[i]), b.push_back(target[i]);
                            return constant(b) ? std::nan("") : correlation(metrics::spearman, a, b);
                          }};
    return {spearman, score("Pearson", correlation(metrics::pearson, predicted, test_scores_), 4)};
  }

 private:
  // A sentence encoder, or the run that it became.
  bool has_own_pooling() const {
    if (opened_ != nullptr) return !init_.empty();
    return init_.published() && (init_.model().mean_pooling || init_.model().cls_pooling);
  }
  int passes_of_method() const { return method_.name == "simcse" ? 2 : 1; }

  static void add(data::ScoredTexts& to, const data::ScoredTexts& from, int64_t i) {
    to.text.push_back(from.text[i]);
    to.second.push_back(from.second[i]);
    to.scores.push_back(from.scores[i]);
  }

  // The least and the most. With scores that are all the same there is no correlation.
  static std::pair<double, double> check_scores(const std::string& folder, const char* file,
                                                const std::vector<double>& scores) {
    const auto [least, most] = std::minmax_element(scores.begin(), scores.end());
    check<ValueError>(*least < *most, "{}/{}: all scores are {}, expected different ones", folder, file,
                      *least);
    return {*least, *most};
  }
  static bool constant(const std::vector<double>& numbers) {
    return std::adjacent_find(numbers.begin(), numbers.end(), std::not_equal_to<>()) == numbers.end();
  }
  // 0 for a model that says the same of every pair: that is no reason to end a training.
  static double correlation(double (*of)(const metrics::Numbers&, const metrics::Numbers&),
                            const std::vector<double>& predicted, const std::vector<double>& scores) {
    return constant(predicted) ? 0 : of(predicted, scores);
  }

  // score = mean + scale * output. A cosine covers the scores' whole range (SimCSE knows of none); what reads
  // both texts at once learns numbers of mean 0 and deviation 1.
  void measure_scores(const std::string& folder, const std::vector<double>& scores) {
    const auto [least, most] = check_scores(folder, "train.tsv", scores);
    if (method_.name != "rdrop") return;
    if (encoder_ == "bi") {
      mean_ = (least + most) / 2, scale_ = (most - least) / 2;
      return;
    }
    const auto n = static_cast<double>(scores.size());
    double sum = 0, squares = 0;
    for (double x : scores) sum += x;
    mean_ = sum / n;
    for (double x : scores) squares += (x - mean_) * (x - mean_);
    scale_ = std::sqrt(squares / n);
  }

  std::unique_ptr<data::TextDataset> pairs(const data::ScoredTexts& texts, bool training = false) {
    std::vector<double> targets;
    for (double x : texts.scores) targets.push_back((x - mean_) / scale_);
    return dataset(texts.text, texts.second, targets,
                   encoder_ == "bi" ? data::PairLayout::separate : data::PairLayout::joined, training);
  }
  // What SimCSE learns from without scores: every text once.
  std::unique_ptr<data::TextDataset> sentences(const data::ScoredTexts& pairs, bool training = false) {
    std::set<std::string> all(pairs.text.begin(), pairs.text.end());
    all.insert(pairs.second.begin(), pairs.second.end());
    return dataset({all.begin(), all.end()}, {}, std::vector<double>(all.size()), data::PairLayout::joined,
                   training);
  }
  // Its pairs with scores: those that are alike.
  data::ScoredTexts positives(const data::ScoredTexts& pairs) const {
    data::ScoredTexts alike;
    for (size_t i = 0; i < pairs.text.size(); ++i) {
      if (pairs.scores[i] >= positive_) add(alike, pairs, static_cast<int64_t>(i));
    }
    check<ConfigError>(!alike.text.empty(), "--positive: expected a score that pairs reach, got {}",
                       positive_);
    return alike;
  }

  static std::vector<double> predict(TaskModel& model, const data::Dataset& texts) {
    std::vector<double> numbers;
    for (const std::vector<double>& row : outputs_of(encoder(model), texts)) numbers.push_back(row[0]);
    return numbers;
  }

  MethodChoice method_;
  std::string encoder_ = "bi";
  int64_t limit_ = 0;
  double temperature_ = 0.05, positive_ = 4;
  double mean_ = 0, scale_ = 1;
  std::unique_ptr<data::TextDataset> scored_valid_;
  std::vector<double> valid_scores_, test_scores_;
};

const RegisterTask similarity({"similarity", "how alike two texts are, a number: an encoder",
                               make<SimilarityRecipe>});

}  // namespace
}  // namespace tandem::command
