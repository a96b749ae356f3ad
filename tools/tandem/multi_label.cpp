#include "tools/tandem/multi_label.h"

#include <numeric>

#include "nn/io/text.h"

namespace tandem::command {

metrics::LabelSets predicted_labels(const Logits& logits) {
  metrics::LabelSets sets;
  for (const std::vector<double>& row : logits) {
    sets.emplace_back();
    for (const double x : row) sets.back().push_back(x > 0);
  }
  return sets;
}

metrics::LabelSets target_labels(const data::Dataset& dataset) {
  data::Indices all(dataset.size());
  std::iota(all.begin(), all.end(), 0);
  metrics::LabelSets sets;
  for (const data::Indices& part : data::cut_batches(all, 256)) {
    const Tensor target = dataset.batch(part, {}).target;
    const auto values = target.to_vector<float>();
    for (auto row = values.begin(); row != values.end(); row += target.size(1)) {
      sets.emplace_back();
      for (int64_t k = 0; k < target.size(1); ++k) sets.back().push_back(row[k] > 0.5F);
    }
  }
  return sets;
}

std::string join_labels(const std::vector<bool>& there, const std::vector<std::string>& labels) {
  std::vector<std::string> names;
  for (size_t i = 0; i < labels.size(); ++i)
    if (there[i]) names.push_back(labels[i]);
  return names.empty() ? "|" : data::join(names, "|");
}

std::vector<Score> multi_label_scores(const Logits& logits, const metrics::LabelSets& target,
                                      const std::string& unit, bool compare) {
  const metrics::LabelSets found = predicted_labels(logits);
  Score micro = score("micro-F1", 100 * metrics::micro_label_f1(found, target), 2);
  const auto of_drawn = [found, target](const data::Indices& drawn) {
    metrics::LabelSets ours, theirs;
    for (const int64_t i : drawn) ours.push_back(found[i]), theirs.push_back(target[i]);
    return 100 * metrics::micro_label_f1(ours, theirs);
  };
  if (compare) micro.resampled = Resampled{std::ssize(found), unit, of_drawn};
  return {micro, score("macro-F1", 100 * metrics::macro_label_f1(found, target), 2),
          score("mAP", 100 * metrics::mean_average_precision(logits, target), 2),
          score("exact match", 100 * metrics::exact_match(found, target), 2, "%")};
}

nn::ValidationMetric multi_label_metric(std::function<Logits()> logits, const data::Dataset& valid) {
  return {"micro-F1", [logits = std::move(logits), target = target_labels(valid)](const nn::Metrics&) {
            return 100 * metrics::micro_label_f1(predicted_labels(logits()), target);
          }};
}

}  // namespace tandem::command
