#include "tools/tandem/train_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "nn/io/files.h"
#include "nn/train/run_folder.h"

namespace tandem::command {

void save_scores(const Outcome& outcome, const std::string& task, const nn::ValidationMetric& metric) {
  using Json = nlohmann::ordered_json;
  const nn::Metrics& best = outcome.fit.best();
  const bool accuracy = metric.name.empty() && best.accuracy >= 0, loss = metric.name.empty() && !accuracy;
  const double value = accuracy ? 100 * best.accuracy : loss ? best.loss : best.metric;
  Json json = Json::parse(scores_to_json({{"task", task}, {"training", outcome.name}}, outcome.scores));
  json["validation"] = {{"name", accuracy ? "accuracy"
                                 : loss   ? "loss"
                                          : metric.name},
                        {"value", value},
                        {"higher_is_better", !loss && metric.higher_is_better}};
  data::write_file(outcome.run + "/" + kScoresFile, json.dump() + "\n");
}

void print_report(const std::vector<Outcome>& outcomes, double alpha, const std::string& metric) {
  std::vector<std::vector<std::string>> rows{{"training", "passes", "alpha"}};
  for (const Score& score : outcomes.front().scores) rows[0].push_back(score.name);
  const bool accuracy = metric.empty() && outcomes.front().fit.best().accuracy >= 0;
  rows[0].push_back("valid " + (metric.empty() ? accuracy ? "accuracy" : "loss" : metric));
  rows[0].insert(rows[0].end(), {"epoch", "time"});
  for (const auto& [name, run, passes, fit, scores] : outcomes) {
    double seconds = 0;
    for (const auto* rows_of : {&fit.train, &fit.valid})
      for (const nn::Metrics& row : *rows_of) seconds += row.seconds;
    std::vector<std::string>& row = rows.emplace_back();
    row = {name, std::to_string(passes), passes == 1 ? "-" : fmt::format("{}", alpha)};
    for (const Score& score : scores) row.push_back(score.value);
    const nn::Metrics& best = fit.best();
    row.push_back(accuracy         ? fmt::format("{:.2f}%", 100 * best.accuracy)
                  : metric.empty() ? fmt::format("{:.4f}", best.loss)
                                   : fmt::format("{:.4g}", best.metric));
    const bool within = fit.valid.size() > fit.train.size();  // evaluations
    row.push_back(fit.averaged ? "mean"
                               : std::to_string(fit.best_epoch + 1) +
                                     (within ? fmt::format(" (step {})", best.step) : ""));
    row.push_back(fmt::format("{:.1f}s", seconds));
  }
  fmt::print("\n");
  print_table(rows);
  for (const Outcome& outcome : outcomes)
    if (outcome.fit.skipped > 0)
      fmt::print("{}: {} steps were left out (--on-nan)\n", outcome.name, outcome.fit.skipped);
  if (outcomes.size() < 2) return;
  if (const auto gap = difference(outcomes[0].scores, outcomes[1].scores)) fmt::print("{}\n", describe(*gap));
}

}  // namespace tandem::command
