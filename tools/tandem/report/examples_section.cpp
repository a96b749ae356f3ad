#include "tools/tandem/report/examples_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "models/vit/vit.h"
#include "ops/ops.h"
#include "tools/tandem/report/class_tables.h"
#include "tools/tandem/report/html.h"
#include "tools/tandem/report/pictures.h"
#include "tools/tandem/report/predictions.h"

namespace tandem::report {
namespace {

constexpr size_t kShown = 8;           // of every kind of example
constexpr size_t kLongestText = 1000;  // bytes of a text that are shown

std::string percent(double share) { return fmt::format("{:.1f}\u00A0%", 100 * share); }

std::string short_text(const std::string& text) {
  if (text.size() <= kLongestText) return escape(text);
  size_t end = kLongestText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // between characters
  return escape(text.substr(0, end)) + "…";
}

// The samples of one run: how they look, and what their classes are called.
class Gallery {
 public:
  Gallery(const command::Examples& examples, nn::Module& module)
      : examples_(examples), vit_(dynamic_cast<models::Vit*>(&module)), device_(module.device()) {}

  bool has_pictures() const { return examples_.pixels.has_value(); }
  bool has_attention() const { return has_pictures() && vit_ != nullptr; }

  // A picture or a text for each, and below it what `describe` says: HTML.
  template <class Describe> std::string html(const std::vector<Prediction>& of, Describe describe) const {
    std::string out = has_pictures() ? "<ul class=\"pictures\">\n" : "<ol class=\"texts\">\n";
    for (const Prediction& p : of) {
      if (has_pictures()) {
        out += "<li>" + image(picture(input_of(p), *examples_.pixels), alt(p)) + "<p>" + describe(p) +
               "</p></li>\n";
      } else {
        out += "<li><p dir=\"auto\">" + short_text(examples_.text(p.sample, p.token)) +
               "</p><p class=\"verdict\">" + describe(p) + "</p></li>\n";
      }
    }
    return out + (has_pictures() ? "</ul>\n" : "</ol>\n");
  }

  std::string attention(const std::vector<Prediction>& of) const {
    std::string out = "<ul class=\"pictures attention\">\n";
    for (const Prediction& p : of) {
      const Tensor input = input_of(p);
      const Tensor heat = attention_rollout(*vit_, input.unsqueeze(0).to(device_)).to(kCpu).select(0, 0);
      const data::Image seen = picture(input, *examples_.pixels);
      out += "<li><div class=\"both\">" + image(seen, alt(p)) +
             image(heat_map(seen, heat), "Attention to that picture: " + where(heat), "smooth") +
             "</div><p>" + verdict(p) + "</p></li>\n";
    }
    return out + "</ul>\n";
  }

  std::string name(int64_t label) const { return escape(examples_.classes[label]); }
  std::string verdict(const Prediction& p) const {
    return "<b>" + name(p.target) + "</b>, " +
           (p.target == p.predicted ? "found" : "taken for <b>" + name(p.predicted) + "</b>");
  }

 private:
  Tensor input_of(const Prediction& p) const {
    return examples_.samples->batch(std::span(&p.sample, 1), {}).to(kCpu).inputs[0].select(0, 0);
  }
  std::string alt(const Prediction& p) const {
    return name(p.target) + (p.target == p.predicted ? ", found" : ", taken for " + name(p.predicted));
  }
  static std::string image(const data::Image& image, const std::string& alt, const std::string& style = "") {
    return fmt::format("<img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"{}\" class=\"{}\">", data_uri(image),
                       image.width, image.height, alt, style);
  }
  // In words: which ninth of the picture has most of it.
  static std::string where(const Tensor& heat) {
    const std::vector<float> values = heat.to_vector<float>();
    const int64_t columns = heat.size(1),
                  at = std::max_element(values.begin(), values.end()) - values.begin();
    const int64_t row = 3 * (at / columns) / heat.size(0), column = 3 * (at % columns) / columns;
    constexpr const char* kRows[] = {"top", "middle", "bottom"};
    constexpr const char* kColumns[] = {"left", "centre", "right"};
    return fmt::format("most at the {} {}", kRows[row], kColumns[column]);
  }

  const command::Examples& examples_;
  models::Vit* vit_;
  Device device_;
};

// Of the run's own passes, where its settings tell.
NoiseOptions noise_of(const RunRecord& run) {
  NoiseOptions noise;
  if (const std::string scale = run.setting("rate-scale"); !scale.empty())
    noise.rate_scale = std::atof(scale.c_str());
  std::string rates = run.setting("rates");
  while (!rates.empty() && noise.rates.size() < 2) {
    noise.rates.push_back(std::atof(rates.c_str()));
    const size_t comma = rates.find(',');
    rates = comma == std::string::npos ? "" : rates.substr(comma + 1);
  }
  if (noise.rates.size() < 2) noise.rates.clear();
  if (!noise.rates.empty()) noise.rate_scale = 1;
  return noise;
}

// "All 10,000 test images", or which part of them.
std::string counted(const Predictions& predictions, int64_t size, const std::string& unit) {
  const int64_t units = std::ssize(predictions.all);
  if (predictions.samples == size) return fmt::format("All {} test {}", count(units), unit);
  if (units == predictions.samples)
    return fmt::format("{} of the {} test {}, drawn at random", count(units), count(size), unit);
  return fmt::format("{} {} of {} test samples, drawn at random from {}", count(units), unit,
                     count(predictions.samples), count(size));
}

std::string classified(const RunRecord& run, const command::Examples& examples, nn::Objective& objective,
                       int64_t most) {
  const Predictions predictions = predict(objective, examples, most, noise_of(run));
  if (predictions.all.empty()) return "";
  const Gallery gallery(examples, objective.module());
  const int64_t size = examples.samples->size(), classes = std::ssize(examples.classes);
  const metrics::Confusion confusion = predictions.confusion(classes);
  const auto bins = predictions.reliability();
  const auto right = std::count_if(predictions.all.begin(), predictions.all.end(),
                                   [](const Prediction& p) { return p.predicted == p.target; });
  const double accuracy = static_cast<double>(right) / static_cast<double>(predictions.all.size());
  std::string out = fmt::format(
      "<p>{}, by the run’s best weights: <strong>{:.2f}\u00A0%</strong> right, expected calibration error "
      "<strong>{:.2f}\u00A0%</strong>.</p>\n",
      escape(counted(predictions, size, examples.unit)), 100 * accuracy,
      100 * metrics::expected_calibration_error(bins));
  out += "<div class=\"two\">\n<div>\n<h3>Confusion</h3>\n" + confusion_html(confusion, examples.classes) +
         "</div>\n<div>\n<h3>Reliability</h3>\n" + reliability_html(bins) + "</div>\n</div>\n";
  out += "<h3>By class</h3>\n" + class_scores_html(confusion, examples.classes);
  const auto add = [&](const std::string& title, const std::string& note, const std::string& body) {
    out += "<h3>" + title + "</h3>\n<p class=\"note\">" + note + "</p>\n" + body;
  };
  if (const auto worst = predictions.worst(kShown); !worst.empty())
    add("Worst mistakes", "Those whose right class was least likely.",
        gallery.html(worst, [&](const Prediction& p) {
          return fmt::format("{} <span>at {}; {} for the right class</span>", gallery.verdict(p),
                             percent(p.confidence), percent(p.of_target));
        }));
  if (const auto noisy = predictions.disagreeing(kShown); !noisy.empty())
    add("Where the passes disagree most",
        "The KL divergence between two passes with dropout, as R-Drop’s loss has it.",
        gallery.html(noisy, [&](const Prediction& p) {
          const auto [first, second] = p.passes;
          const std::string found =
              gallery.name(first) + (first == second
                                         ? " in both passes"
                                         : " in one pass, " + gallery.name(second) + " in the other");
          return fmt::format("<b>{}</b>: {} <span>KL {:.3f}</span>", gallery.name(p.target), found,
                             p.disagreement);
        }));
  if (gallery.has_attention()) {
    std::vector<Prediction> some;
    const size_t shown = std::min(kShown, predictions.all.size());
    for (size_t i = 0; i < shown; ++i) some.push_back(predictions.all[i * predictions.all.size() / shown]);
    add("Attention",
        "Which patches reach the prediction, by attention rollout over all blocks: dark is little, yellow\n"
        "most.",
        gallery.attention(some));
  }
  return out;
}

std::string made(command::Examples examples) {
  std::stable_sort(examples.made.begin(), examples.made.end(),
                   [](const auto& a, const auto& b) { return a.score < b.score; });
  std::string out = fmt::format(
      "<h3>Worst of {} {}</h3>\n<p class=\"note\">By the {} of each, as they were made when the "
      "training ended.</p>\n<ol class=\"texts\">\n",
      count(std::ssize(examples.made)), escape(examples.unit), escape(examples.score));
  for (size_t i = 0; i < std::min(kShown, examples.made.size()); ++i) {
    const command::MadeText& text = examples.made[i];
    out += fmt::format(
        "<li><dl><dt>source</dt><dd dir=\"auto\">{}</dd><dt>expected</dt><dd dir=\"auto\">{}</dd>"
        "<dt>made</dt><dd dir=\"auto\">{}</dd><dt>{}</dt><dd>{:.1f}</dd></dl></li>\n",
        short_text(text.source), short_text(text.expected), short_text(text.made), escape(examples.score),
        text.score);
  }
  return out + "</ol>\n";
}

}  // namespace

ExamplesSection examples_of(const RunRecord& run, int64_t most, const std::string& id) {
  std::vector<std::string> known;
  for (const command::Task& task : command::tasks()) known.push_back(task.in_metadata);
  const command::Run opened = command::open_run(run.folder, known);
  const auto task = std::find_if(command::tasks().begin(), command::tasks().end(),
                                 [&](const command::Task& t) { return t.in_metadata == opened.task; });
  const std::unique_ptr<command::Recipe> recipe = command::make_recipe(*task);
  ExamplesSection section{id, "Test examples: " + run.name, ""};
  if (!recipe->has_examples()) return section;
  const command::TaskModel model = recipe->open(opened, "");
  const NoGradGuard no_grad;
  const command::Examples examples = recipe->examples(opened);
  if (examples.samples != nullptr) section.body = classified(run, examples, *model.objective, most);
  if (!examples.made.empty()) section.body += made(examples);
  return section;
}

}  // namespace tandem::report
