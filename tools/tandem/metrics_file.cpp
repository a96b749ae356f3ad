#include "tools/tandem/metrics_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>

#include "autograd/error.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 28;
constexpr std::array kColumns{"epoch",    "step", "split", "loss",          "ce",      "kl",
                              "accuracy", "lr",   "alpha", "samples_per_s", "seconds", "metric"};

std::vector<std::string> split_row(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
  if (line.ends_with(',')) fields.emplace_back();
  return fields;
}

}  // namespace

std::vector<MetricsRow> read_metrics(std::string_view reader, const std::string& file) {
  std::istringstream lines(read_file(reader, file, kMaxBytes));
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> names = split_row(line);
  for (const char* column : kColumns) {
    check<IoError>(std::count(names.begin(), names.end(), column) == 1,
                   "{}: {}: line 1: expected one column {}", reader, file, column);
  }
  std::vector<MetricsRow> rows;
  for (int64_t number = 2; std::getline(lines, line); number++) {
    const std::vector<std::string> fields = split_row(line);
    check<IoError>(fields.size() == names.size(), "{}: {}: line {}: {} fields, expected {}", reader, file,
                   number, fields.size(), names.size());
    MetricsRow& row = rows.emplace_back();
    for (size_t i = 0; i < names.size(); i++) {
      const std::string& text = fields[i];
      if (names[i] == "split") {
        check<IoError>(text == "train" || text == "valid",
                       "{}: {}: line {}: split is {}, expected train or valid", reader, file, number, text);
        row.split = text;
        continue;
      }
      if (text.empty()) continue;
      double value = 0;
      const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
      check<IoError>(failure == std::errc() && end == text.data() + text.size(),
                     "{}: {}: line {}: {} is {}, expected a number", reader, file, number, names[i], text);
      if (std::isfinite(value)) row.values[names[i]] = value;
    }
  }
  return rows;
}

}  // namespace tandem::data
