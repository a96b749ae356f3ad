#include "tools/tandem/hints.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "autograd/tell.h"

namespace tandem::command {

void tell_hints(const TrainSettings& s, int64_t valid, const std::string& unit, bool accuracy) {
  if (s.lr == 0) tell("hint: --lr 0: nothing will be learned");
  if (s.trainer.passes > 1 && s.trainer.alpha >= 10)
    tell(
        "hint: --alpha {}: the paper's are 0.3 to 5; other libraries' numbers are in other units (README.md "
        "has a table)",
        s.trainer.alpha);
  constexpr int64_t kEnough = 500, kEnoughTexts = 50;
  if (accuracy && valid < kEnough) {
    // Two independent runs that are right half of the time, at 95 %.
    const double gap = 100 * 1.96 * std::sqrt(2 * 0.25 / static_cast<double>(valid));
    tell(
        "hint: {} {} are few to validate on: accuracies of two runs that differ by less than {:.0f} % are "
        "within noise",
        valid, unit, std::min(gap, 100.0));
  } else if (!accuracy && valid < kEnoughTexts) {
    tell("hint: {} {} are few to validate on: they hardly tell two runs apart", valid, unit);
  }
}

std::string knobs(const TrainSettings& s) {
  std::string text = fmt::format("try a smaller --lr than {}", s.lr);
  if (s.warmup == 0) text += ", --warmup";
  if (s.trainer.clip_norm == 0 || s.trainer.clip_norm > 1) text += ", --clip-norm 1";
  if (s.trainer.passes > 1 && s.trainer.alpha >= 10)
    text += fmt::format(", a smaller --alpha than {}", s.trainer.alpha);
  if (s.precision == "bf16") text += ", --precision f32";
  return text;
}

void LossWatch::see(double loss) {
  constexpr int64_t kFirst = 5, kLeast = 25;
  ++steps_;
  if (steps_ <= kFirst) first_ += (loss - first_) / static_cast<double>(steps_);
  recent_ = steps_ <= kFirst ? first_ : 0.9 * recent_ + 0.1 * loss;
  const bool huge = loss > 1e6 && loss > 10 * first_, rising = steps_ >= kLeast && recent_ > 2 * first_ + 0.1;
  if (huge || rising || first_ > 1e12) tell_rise(first_, huge ? loss : recent_);
}

void LossWatch::end(const nn::FitResult& fit) {
  const double first = fit.train.front().ce, last = fit.train.back().ce;
  if (fit.train.size() > 1 && last > 1.05 * first) tell_rise(first, last);
}

void LossWatch::tell_rise(double from, double to) {
  if (told_ || settings_.quiet) return;
  told_ = true;
  // A bar may stand in the line.
  tell("{}hint: the training loss rises, from {:.3g} to {:.3g}; {}", isatty(STDERR_FILENO) != 0 ? "\n" : "",
       from, to, knobs(settings_));
}

std::string header_hint(const std::string& file, const std::vector<std::string>& first_line) {
  static const std::set<std::string> names{
      "label",     "labels",  "class", "category", "sentiment", "text",   "texts",   "sentence", "sentence1",
      "sentence2", "text1",   "text2", "source",   "target",    "src",    "tgt",     "input",    "output",
      "document",  "summary", "score", "question", "answer",    "title",  "id",      "en",       "de",
      "fr",        "it",      "es",    "english",  "german",    "french", "italian", "spanish"};
  if (first_line.empty()) return "";
  for (std::string field : first_line) {
    std::transform(field.begin(), field.end(), field.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    if (!names.contains(field)) return "";
  }
  return fmt::format("\nhint: {}:1 looks like a header ({}): it is taken as a text", file,
                     fmt::format("{}, {}", first_line[0], first_line.back()));
}

std::string swapped_hint(const std::string& file, const std::vector<std::string>& labels,
                         const std::vector<std::string>& texts) {
  double of_labels = 0, of_texts = 0;
  for (const std::string& label : labels) of_labels += static_cast<double>(label.size());
  for (const std::string& text : texts) of_texts += static_cast<double>(text.size());
  if (labels.empty() ||
      of_labels / static_cast<double>(labels.size()) < of_texts / static_cast<double>(texts.size()))
    return "";
  return fmt::format(
      "\nhint: {}: its labels, such as '{}', are as long as its texts: are the columns swapped "
      "(label, tab, text)?",
      file, labels[0].substr(0, 40));
}

}  // namespace tandem::command
