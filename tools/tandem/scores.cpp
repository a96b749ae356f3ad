#include "tools/tandem/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

namespace tandem::command {

Score score(std::string name, double number, int digits, const std::string& unit) {
  return {std::move(name), fmt::format("{:.{}f}{}", number, digits, unit), number};
}

Score mean_score(std::string name, const std::vector<double>& of_samples, int digits, const std::string& unit,
                 const std::string& counted) {
  const auto mean = [of_samples](const data::Indices& drawn) {
    double sum = 0;
    for (int64_t i : drawn) sum += of_samples[i];
    return sum / static_cast<double>(drawn.size());
  };
  data::Indices all(of_samples.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  Score made = score(std::move(name), mean(all), digits, unit);
  made.resampled = {std::ssize(all), counted, mean};
  return made;
}

std::optional<Difference> difference(const Score& first, const Score& second) {
  if (!first.resampled || !second.resampled || first.resampled->size != second.resampled->size)
    return std::nullopt;
  constexpr int kDraws = 1000;
  const int64_t size = first.resampled->size;
  std::mt19937_64 random(0);  // always the same draws
  std::vector<double> differences;
  data::Indices drawn(size);
  for (int i = 0; i < kDraws; ++i) {
    for (int64_t& at : drawn) at = static_cast<int64_t>(random() % static_cast<uint64_t>(size));
    const double d = second.resampled->score(drawn) - first.resampled->score(drawn);
    if (std::isfinite(d)) differences.push_back(d);
  }
  if (differences.empty()) return std::nullopt;
  std::sort(differences.begin(), differences.end());
  const auto at = [&](double share) {
    return differences[static_cast<size_t>(share * static_cast<double>(differences.size() - 1) + 0.5)];
  };
  return Difference{second.name, first.resampled->unit, second.number - first.number, at(0.025), at(0.975),
                    size};
}

std::optional<Difference> difference(const std::vector<Score>& first, const std::vector<Score>& second) {
  for (size_t i = 0; i < std::min(first.size(), second.size()); ++i)
    if (const auto found = difference(first[i], second[i])) return found;
  return std::nullopt;
}

std::string describe(const Difference& d) {
  const std::string range =
      fmt::format("{} {:+.3g}, 95 % interval {:+.3g} to {:+.3g}", d.name, d.value, d.low, d.high);
  return fmt::format("R-Drop - plain: {} over the {} test {}{}", range, d.samples, d.unit,
                     d.within_noise() ? ": within noise" : "");
}

std::string scores_to_json(const Names& about, const std::vector<Score>& scores,
                           const std::optional<Difference>& interval) {
  nlohmann::ordered_json json, numbers;
  for (const auto& [name, value] : about) json[name] = value;
  for (const Score& score : scores) {
    const double number = std::isnan(score.number) ? std::atof(score.value.c_str()) : score.number;
    numbers[score.name] = number;
  }
  if (!scores.empty()) json["scores"] = numbers;
  if (interval)
    json["difference"] = {{"of", interval->name},
                          {"value", interval->value},
                          {"low", interval->low},
                          {"high", interval->high},
                          {"within_noise", interval->within_noise()}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[i].size());
      i == 0 ? fmt::print("{:<{}}", row[i], width) : fmt::print("  {:>{}}", row[i], width);
    }
    fmt::print("\n");
  }
}

}  // namespace tandem::command
