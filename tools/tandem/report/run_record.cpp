#include "tools/tandem/report/run_record.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "autograd/error.h"
#include "nn/io/files.h"
#include "nn/io/text.h"
#include "nn/train/manifest.h"
#include "tools/tandem/metrics_file.h"
#include "tools/tandem/step_log.h"
#include "tools/tandem/toml.h"
#include "tools/tandem/train_report.h"

namespace tandem::report {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// What is larger is no measurement, and sums of it would be no numbers.
bool is_sane(double value) { return std::abs(value) < 1e30; }
bool is_step(double value) { return value >= 0 && value < 0x1p53; }

bool is_run(const fs::path& folder) {
  for (const char* file : {nn::kBestFile, nn::kMetricsFile, command::kStepsFile})
    if (fs::exists(folder / file)) return true;
  return false;
}

// Runs in folders of a folder, by name, but numbers in names by their size: s2 before s10.
std::vector<std::string> runs_in(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() && is_run(entry.path())) found.push_back(entry.path().string());
  const auto key = [](const std::string& name) {
    std::string text, digits;
    for (const char c : name + "/") {
      if (c >= '0' && c <= '9') {
        digits += c;
        continue;
      }
      if (!digits.empty()) text += std::string(std::max<size_t>(20, digits.size()) - digits.size(), '0');
      text += digits + c, digits.clear();
    }
    return text;
  };
  std::sort(found.begin(), found.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  return found;
}

// The settings of a run; one half of a comparison has them in the folder above.
void read_settings(RunRecord& run) {
  const fs::path folder = run.folder, above = folder / "..";
  const bool own = nn::Manifest(folder.string()).lists(nn::kSettingsFile);
  const std::string half = fs::canonical(folder).filename().string();
  const bool is_half =
      !own && (half == "plain" || half == "rdrop") && nn::Manifest(above.string()).lists(nn::kSettingsFile);
  if (!own && !is_half) {
    run.lacks.push_back(fmt::format("{} is missing: the settings are not known.", nn::kSettingsFile));
    return;
  }
  nn::read_run(is_half ? above.string() : folder.string(), [&](const nn::Manifest& manifest) {
    std::ifstream text(manifest.checked(nn::kSettingsFile));
    run.settings.clear();
    for (const command::TomlEntry& entry : command::parse_toml((folder / nn::kSettingsFile).string(), text))
      run.settings[entry.name] = data::join(entry.values, ", ");
  });
  if (is_half && half == "plain") run.settings.insert_or_assign("passes", std::string(1, '1'));
  run.settings.erase("compare");
  if (run.setting("passes") != "1") return;
  for (const char* of_passes : {"alpha", "alpha-schedule", "alpha-warmup", "rates", "rdrop-every"})
    run.settings.erase(of_passes);
}

void read_metrics(RunRecord& run) {
  std::vector<data::MetricsRow> rows;
  const bool there = nn::read_run(run.folder, [&](const nn::Manifest& manifest) {
    if (!manifest.lists(nn::kMetricsFile)) return false;
    rows = data::read_metrics("report", manifest.checked(nn::kMetricsFile));
    return true;
  });
  if (!there) run.lacks.push_back(fmt::format("{} is missing: no epoch has ended.", nn::kMetricsFile));
  double samples = 0, seconds = 0;
  for (const data::MetricsRow& row : rows) {
    const auto number = [&](const char* column) {
      const auto found = row.values.find(column);
      return found != row.values.end() && is_sane(found->second) ? found->second : NAN;
    };
    const double step = number("step"), took = number("seconds"), rate = number("samples_per_s");
    if (!is_step(step)) continue;
    const bool train = row.split == "train";
    for (const char* column : {"loss", "ce", "kl", "accuracy", "metric"})
      if (const double value = number(column); !std::isnan(value))
        (train ? run.train : run.valid)[column].push_back({step, value});
    run.updates = std::max(run.updates, static_cast<int64_t>(step));
    if (!std::isnan(took)) run.seconds += took;
    if (!train) continue;
    ++run.epochs;
    if (!std::isnan(took) && !std::isnan(rate)) samples += took * rate, seconds += took;
  }
  if (seconds > 0) run.samples_per_s = samples / seconds;
}

// A line of steps.jsonl: the numbers that are wanted of it, without a tree of all.
class StepLine {
 public:
  static constexpr const char* kCurves[] = {"loss", "ce", "kl", "accuracy"};

  // False where the line is not such an object.
  bool read(const std::string& line) {
    depth_ = 0, wanted_ = nullptr, step = memory_mb = NAN, split.clear();
    for (double& value : values) value = NAN;
    return line.starts_with('{') && nlohmann::json::sax_parse(line, this) && is_step(step) && !split.empty();
  }

  double step = NAN, memory_mb = NAN;
  double values[std::size(kCurves)] = {};  // of kCurves; NaN: not there
  std::string split;

  // What the parser calls.
  using Text = std::string;
  bool key(Text& name) {
    wanted_ = nullptr, is_split_ = depth_ == 1 && name == "split";
    if (depth_ != 1) return true;
    if (name == "step") wanted_ = &step;
    if (name == "memory_mb") wanted_ = &memory_mb;
    for (size_t i = 0; i < std::size(kCurves); ++i)
      if (name == kCurves[i]) wanted_ = &values[i];
    return true;
  }
  bool number_integer(int64_t value) { return number(static_cast<double>(value)); }
  bool number_unsigned(uint64_t value) { return number(static_cast<double>(value)); }
  bool number_float(double value, const Text&) { return number(value); }
  bool string(Text& value) {
    if (is_split_ && depth_ == 1) split = value;
    return true;
  }
  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool binary(nlohmann::json::binary_t&) { return true; }
  bool start_object(size_t) { return ++depth_; }
  bool end_object() { return depth_-- > 0; }
  bool start_array(size_t) { return ++depth_; }
  bool end_array() { return depth_-- > 0; }
  bool parse_error(size_t, const Text&, const nlohmann::detail::exception&) { return false; }

 private:
  bool number(double value) {
    if (wanted_ != nullptr && depth_ == 1 && is_sane(value)) *wanted_ = value;
    return true;
  }

  int depth_ = 0;
  double* wanted_ = nullptr;
  bool is_split_ = false;
};

// Of every step; the last line may be half of one.
void read_steps(RunRecord& run) {
  const std::string file = run.folder + "/" + command::kStepsFile;
  if (!fs::exists(file)) {
    run.lacks.push_back(fmt::format(
        "{} is missing: training is drawn by epochs, and its memory is not known.", command::kStepsFile));
    return;
  }
  std::ifstream in(file);
  check<IoError>(in.is_open(), "report: {}: cannot be read", file);
  Curves steps;
  StepLine row;
  int64_t number = 1;
  for (std::string line; std::getline(in, line) && !in.eof(); ++number) {
    check<IoError>(row.read(line), "{}: line {}: expected a step as JSON, got '{}'", file, number,
                   line.substr(0, 80));
    if (row.split != "train") continue;
    for (size_t i = 0; i < std::size(StepLine::kCurves); ++i)
      if (!std::isnan(row.values[i])) steps[StepLine::kCurves[i]].push_back({row.step, row.values[i]});
    run.updates = std::max(run.updates, static_cast<int64_t>(row.step));
    run.memory_mb = std::fmax(run.memory_mb, row.memory_mb);
  }
  check<IoError>(!in.bad(), "report: {}: cannot be read to its end", file);
  for (auto& [column, points] : steps) run.train[column] = std::move(points);
}

void read_scores(RunRecord& run) {
  const std::string file = run.folder + "/" + command::kScoresFile;
  if (!fs::exists(file)) {
    run.lacks.push_back(
        fmt::format("{} is missing: the training has not come to its end.", command::kScoresFile));
    return;
  }
  try {
    const Json json = Json::parse(data::read_file("report", file, 1 << 24));
    run.task = json.at("task"), run.training = json.at("training");
    for (const auto& [name, value] : json.at("scores").items()) {
      const double number = value.is_null() ? NAN : value.get<double>();
      run.scores.emplace_back(name, is_sane(number) ? number : NAN);
    }
    const Json& validation = json.at("validation");
    run.measure = validation.at("name");
    if (const Json& value = validation.at("value"); value.is_number() && is_sane(value))
      run.validated = value;
  } catch (const Json::exception&) {
    raise<IoError>("{}: expected the scores of a training", file);
  }
}

}  // namespace

std::string RunRecord::setting(const std::string& name) const {
  const auto found = settings.find(name);
  return found == settings.end() ? "" : found->second;
}

std::vector<std::string> folders_of(const std::string& path) {
  check<IoError>(fs::is_directory(path), "{}: there is no such run folder", path);
  const fs::path folder = path;
  if (is_run(folder)) return {path};
  std::vector<std::string> runs;
  for (const char* half : {"plain", "rdrop"})
    if (is_run(folder / half)) runs.push_back((folder / half).string());
  if (runs.empty() && fs::exists(folder / command::kSweepFile)) runs = runs_in(folder);
  check<IoError>(!runs.empty(),
                 "{}: not a run: expected the folder of a training, of a --compare, or of a sweep, with {}",
                 path, nn::kMetricsFile);
  return runs;
}

RunRecord read_record(const std::string& folder) {
  RunRecord run;
  run.folder = folder;
  read_settings(run);
  read_metrics(run);
  read_steps(run);
  read_scores(run);
  return run;
}

}  // namespace tandem::report
