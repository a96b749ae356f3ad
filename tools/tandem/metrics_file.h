// The rows of a run's metrics.csv (nn/train/run_folder.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

struct MetricsRow {
  std::string split;                     // "train" or "valid"
  std::map<std::string, double> values;  // by column: those that are finite numbers
};
// In a field, accuracy is a fraction, and nothing where there is none. IoError naming the line when the file
// is missing, lacks a column or has a row that cannot be read; `reader` opens the message.
std::vector<MetricsRow> read_metrics(std::string_view reader, const std::string& file);

}  // namespace tandem::data
