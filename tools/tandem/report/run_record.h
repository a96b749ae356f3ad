// What a run folder says of a training, without its weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tandem::report {

struct Point {
  double step = 0, value = 0;
};
using Curves = std::map<std::string, std::vector<Point>>;  // by what is measured: "ce", "kl", "accuracy"

struct RunRecord {
  std::string folder;                           // with the weights
  std::string name;                             // in the report
  std::string task, training;                   // "vit"; "plain", "R-Drop" or a method; "" where not known
  std::map<std::string, std::string> settings;  // by option: those that a training of its passes has
  std::vector<std::pair<std::string, double>> scores;  // of its test data
  std::string measure;                                 // what validation was judged by
  double validated = NAN;                              // the best
  Curves train, valid;                                 // train: of steps, or else of epochs

  int64_t epochs = 0, updates = 0;
  double seconds = 0;              // of training and validation
  double samples_per_s = NAN;      // in training
  double memory_mb = NAN;          // most that the process held
  std::vector<std::string> lacks;  // what is not there: a sentence for each

  std::string setting(const std::string& name) const;  // "" where there is none
};

// The folders of runs that a path stands for: itself, both halves of a comparison, or those of a sweep.
// IoError when it holds no run.
std::vector<std::string> folders_of(const std::string& path);

// IoError naming the file when it is damaged. What is missing is in `lacks`.
RunRecord read_record(const std::string& folder);

}  // namespace tandem::report
