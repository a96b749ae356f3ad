// What every step of a training came to, in its run folder: steps.jsonl, a line of JSON for each step and
// validation, and a file that TensorBoard reads (tensorboard.h).
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/train/evaluate.h"
#include "tools/tandem/tensorboard.h"

namespace tandem::command {

inline constexpr const char* kStepsFile = "steps.jsonl";  // its name

class StepLog {
 public:
  // Of a training that goes on after `done` steps: what is there of later ones is removed. Writes a line
  // every `every` steps. IoError when the files cannot be made. What cannot be written later is told once: no
  // training ends for it.
  StepLog(const std::string& run, int64_t done, int64_t every);

  void step(const nn::Metrics& now);
  void validation(const nn::Metrics& validated, const std::string& metric);

 private:
  using Numbers = std::vector<std::pair<std::string, double>>;
  void write(const nn::Metrics& at, const std::string& split, const Numbers& numbers);

  std::string file_name_;
  int64_t every_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
  EventFile events_;
  bool failed_ = false;
};

// Of a training that goes on after `done` steps and logs no more: removes what is there of later ones.
void cut_step_log(const std::string& run, int64_t done);

// Removes the log of another run from a folder.
void remove_step_log(const std::string& run);

}  // namespace tandem::command
