// The files of a run: metrics.csv, best.safetensors and last.safetensors (nn/train/checkpoint.h); the command
// adds settings.toml and curves.png.
#pragma once

#include <string>

#include "nn/train/trainer.h"

namespace tandem::nn {

inline constexpr const char* kMetricsFile = "metrics.csv";
inline constexpr const char* kBestFile = "best.safetensors";
inline constexpr const char* kLastFile = "last.safetensors";

// Makes the folder. IoError when it cannot be made or written to.
void make_run_folder(const std::string& dir);

// Replaces metrics.csv by the rows of `result`: one for the training and one for the validation of each
// epoch. IoError when it cannot be written.
void write_metrics(const std::string& dir, const FitResult& result);
// The rows as JSON and back, bit for bit. IoError naming `file` for text that is not such a record.
std::string metrics_to_json(const FitResult& result);
FitResult metrics_from_json(const std::string& file, const std::string& text);

}  // namespace tandem::nn
