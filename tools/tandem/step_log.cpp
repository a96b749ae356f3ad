#include "tools/tandem/step_log.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "autograd/error.h"
#include "autograd/tell.h"
#include "nn/io/files.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// The bytes of this process in memory; NaN where Linux does not tell.
double resident_megabytes() {
  std::ifstream statm("/proc/self/statm");
  double size = 0, resident = NAN;
  statm >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

// Leaves the lines of the first `done` steps; a killed run may have left half a line, too.
void cut(const std::string& file, int64_t done) {
  if (!fs::exists(file)) return;
  std::ifstream in(file);
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const Json row = Json::parse(line, nullptr, false);
    if (row.is_discarded() || !row.contains("step") || !row["step"].is_number_integer() ||
        row["step"].get<int64_t>() > done)
      break;
    kept += line + "\n";
  }
  data::write_file(file, kept);
}

}  // namespace

StepLog::StepLog(const std::string& run, int64_t done, int64_t every)
    : file_name_(run + "/" + kStepsFile), every_(every), events_(run, done) {
  cut(file_name_, done);
  file_.reset(std::fopen(file_name_.c_str(), "ae"));
  check<IoError>(file_ != nullptr, "{}: cannot be written: {}", file_name_, std::strerror(errno));
}

void StepLog::step(const nn::Metrics& now) {
  if (now.step % every_ != 0 && !now.skipped) return;
  write(now, "train",
        {{"loss", now.loss},
         {"ce", now.ce},
         {"kl", now.kl},
         {"accuracy", now.accuracy >= 0 ? now.accuracy : NAN},
         {"lr", now.lr},
         {"alpha", now.alpha},
         {"gradient_norm", now.gradient_norm},
         {"samples_per_s", now.samples_per_second},
         {"seconds", now.seconds},
         {"data_wait", now.data_wait},
         {"rank_wait", now.rank_wait},
         {"skipped", now.skipped ? 1 : NAN},
         {"memory_mb", resident_megabytes()}});
}

void StepLog::validation(const nn::Metrics& validated, const std::string& metric) {
  write(validated, "valid",
        {{"ce", validated.ce},
         {"accuracy", validated.accuracy >= 0 ? validated.accuracy : NAN},
         {metric.empty() ? "metric" : metric, validated.metric},
         {"seconds", validated.seconds}});
}

void StepLog::write(const nn::Metrics& at, const std::string& split, const Numbers& numbers) {
  if (failed_) return;
  Json line{{"step", at.step}, {"epoch", at.epoch + 1}, {"split", split}};
  Numbers tagged;
  for (const auto& [name, value] : numbers) {
    if (std::isnan(value)) continue;
    line[name] = value;
    tagged.emplace_back(split + "/" + name, value);
  }
  const std::string text = line.dump() + "\n";
  const bool written = std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() &&
                       std::fflush(file_.get()) == 0 && events_.write(at.step, tagged);
  if (written) return;
  failed_ = true;
  tell("{}: cannot be written: {}; training goes on without it", file_name_, std::strerror(errno));
}

void cut_step_log(const std::string& run, int64_t done) {
  if (fs::exists(fs::path(run) / kStepsFile)) StepLog(run, done, 1);
}

void remove_step_log(const std::string& run) {
  fs::remove(fs::path(run) / kStepsFile);
  for (const auto& entry : fs::directory_iterator(run))
    if (EventFile::is_name(entry.path().filename().string())) fs::remove(entry.path());
}

}  // namespace tandem::command
