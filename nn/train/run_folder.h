// A run folder: metrics.csv, best.safetensors, last.safetensors (nn/train/checkpoint.h) and earlier ones of
// its kind, step-000500.safetensors, which change as one (nn/train/manifest.h); the command adds
// settings.toml, vocab.model and curves.png.
#pragma once

#include <memory>
#include <string>

#include "nn/train/checkpoint.h"
#include "nn/train/manifest.h"
#include "nn/train/trainer.h"

namespace tandem::nn {

inline constexpr const char* kLockFile = "lock";  // of RunLock

// Makes the folder. IoError when it cannot be made.
void make_run_folder(const std::string& dir);

// One process at a time trains in a folder, which it makes if need be: flock on its file kLockFile, which
// names the process. What a killed run left there is removed. IoError when another process holds the lock;
// within a process it may be held several times. Where a file system knows no locks, there is none.
class RunLock {
 public:
  explicit RunLock(const std::string& dir);

 private:
  struct File;
  std::shared_ptr<File> file_;
};

// The rows of `result` as metrics.csv, by their steps: one for the training of each epoch, when it has ended,
// and one for each validation, those within an epoch included. IoError when the file cannot be written.
void write_metrics(const std::string& file, const FitResult& result);
// The rows as JSON and back, bit for bit. IoError naming `file` for text that is not such a record.
std::string metrics_to_json(const FitResult& result);
FitResult metrics_from_json(const std::string& file, const std::string& text);
std::string part_to_json(const EpochPart& part);
EpochPart part_from_json(const std::string& file, const std::string& text);

}  // namespace tandem::nn
