// `tandem train tag`: tags of words, as of names or of terms in a text.
#include <fmt/format.h>

#include <algorithm>

#include "models/transformer/token_classification.h"
#include "nn/io/text.h"
#include "nn/metrics/entities.h"
#include "tools/tandem/class_weights.h"
#include "tools/tandem/recipes/text_encoder_recipe.h"
#include "tools/tandem/tagger.h"

namespace tandem::command {
namespace {

class TagRecipe final : public TextEncoderRecipe {
 public:
  TagRecipe() {
    data_ = "genus";
    settings.trainer.epochs = 10;
    settings.trainer.alpha = 1;
  }
  std::string unit() const override { return "sentences"; }

  void declare_data(Command& to) override {
    declare_folder(
        to,
        "genus, or a folder with train.conll, valid.conll and test.conll (a word a line, in columns: the "
        "first is the word, the last its tag; a blank line after each sentence)");
    to.option("--limit", limit_, integer(0), "train on N sentences, drawn at random; 0: on all");
    declare_vocabulary(to);
  }
  void declare_model(Command& to) override {
    TextEncoderRecipe::declare_model(to);
    declare_class_weights(to, class_weights_);
  }

  std::string load() override {
    const std::string folder = data_folder();
    const data::TaggedTexts train = few(data::read_tagged(split_file(folder, "train", ".conll")));
    valid_texts_ = data::read_tagged(split_file(folder, "valid", ".conll"));
    test_texts_ = data::read_tagged(split_file(folder, "test", ".conll"));
    names_ = names_of(train, split_file(folder, "train", ".conll"));
    check<IoError>(names_.size() > 1, "{}: expected at least 2 tags, got '{}' alone",
                   split_file(folder, "train", ".conll"), names_.front());
    std::vector<std::string> lines;
    for (const auto& words : train.words) lines.push_back(data::join(words, " "));
    set_up(lines, std::ssize(names_), names_);
    config_.pooler = models::Pooler::none;
    auto texts = tagged(train);
    const int64_t cut = texts->cut();
    labels_ = texts->labels();
    train_ = std::move(texts), valid_ = tagged(valid_texts_), test_ = tagged(test_texts_);
    return sizes(cut) + fmt::format(", {} tags", names_.size());
  }

  TaskModel make_model() const override {
    return with_objective<models::TokenClassification>(make_encoder(),
                                                       make_class_weights(class_weights_, names_, labels_));
  }
  nn::Metadata metadata() const override {
    nn::Metadata all = TextEncoderRecipe::metadata();
    all["tags"] = to_json(names_);
    return all;
  }

  nn::ValidationMetric metric(TaskModel& model) const override {
    if (!mark_spans(names_)) return {};
    return {"F1", [this, &encoder = encoder(model)](const nn::Metrics&) {
              return 100 *
                     metrics::entity_scores(predicted(encoder, *valid_, valid_texts_), valid_texts_.tags).f1;
            }};
  }

  std::vector<Score> scores(TaskModel& model, const std::string&) const override {
    const std::vector<metrics::Tags> found = predicted(encoder(model), *test_, test_texts_);
    int64_t right = 0, words = 0;
    for (size_t i = 0; i < found.size(); ++i)
      for (size_t k = 0; k < found[i].size(); ++k, ++words) right += found[i][k] == test_texts_.tags[i][k];
    const Score accuracy =
        score("word accuracy", 100 * static_cast<double>(right) / static_cast<double>(words), 2, "%");
    if (!mark_spans(names_)) return {accuracy};
    const metrics::EntityScores spans = metrics::entity_scores(found, test_texts_.tags);
    Score f1 = score("test F1", 100 * spans.f1, 2);
    const auto of_drawn = [found, tags = test_texts_.tags](const data::Indices& drawn) {
      std::vector<metrics::Tags> ours, theirs;
      for (const int64_t i : drawn) ours.push_back(found[i]), theirs.push_back(tags[i]);
      return 100 * metrics::entity_scores(ours, theirs).f1;
    };
    if (settings.compare) f1.resampled = Resampled{std::ssize(found), unit(), of_drawn};
    return {f1, score("precision", 100 * spans.precision, 2), score("recall", 100 * spans.recall, 2),
            accuracy};
  }

  bool has_examples() const override { return true; }
  Examples examples(const Run&) const override {
    // The sentence, with the word that the token begins between brackets.
    const auto text = [this](int64_t sentence, int64_t token) {
      const std::vector<int64_t> places = dynamic_cast<const data::TaggedDataset&>(*test_).places(sentence);
      std::vector<std::string> words = test_texts_.words[sentence];
      const auto at = std::find(places.begin(), places.end(), token) - places.begin();
      if (at < std::ssize(words)) words[at] = "[" + words[at] + "]";
      return data::join(words, " ");
    };
    return {.samples = test_.get(), .classes = names_, .unit = "words", .text = text};
  }

 private:
  // The tags of the training; those of a run that is opened, which has to know them.
  std::vector<std::string> names_of(const data::TaggedTexts& train, const std::string& file) const {
    std::vector<std::string> found = data::tag_names(train);
    if (opened_ == nullptr) return found;
    std::vector<std::string> own = opened_->entry_as<std::vector<std::string>>("tags");
    for (const std::string& name : found)
      check<IoError>(std::find(own.begin(), own.end(), name) != own.end(),
                     "{}: tag '{}' is none of the {} that training has", file, name, own.size());
    return own;
  }
  std::unique_ptr<data::TaggedDataset> tagged(const data::TaggedTexts& texts) const {
    return std::make_unique<data::TaggedDataset>(texts, names_, *vocabulary_, longest());
  }
  std::vector<metrics::Tags> predicted(models::TextEncoder& model, const data::Dataset& dataset,
                                       const data::TaggedTexts& texts) const {
    return tags_of(model, dynamic_cast<const data::TaggedDataset&>(dataset), texts, names_);
  }
  data::TaggedTexts few(const data::TaggedTexts& all) const {
    data::TaggedTexts part;
    for (const int64_t i : draw_subset(std::ssize(all.words), limit_))
      part.words.push_back(all.words[i]), part.tags.push_back(all.tags[i]);
    return part;
  }

  int64_t limit_ = 0;
  std::string class_weights_;
  std::vector<std::string> names_;
  std::vector<int64_t> labels_;
  data::TaggedTexts valid_texts_, test_texts_;
};

const RegisterTask tag({"tag", "tags of words (token classification): an encoder", make<TagRecipe>});

}  // namespace
}  // namespace tandem::command
