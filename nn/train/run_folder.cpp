#include "nn/train/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "nn/io/files.h"

namespace tandem::nn {
namespace {

using Json = nlohmann::json;

std::string csv_row(const Metrics& m, const char* split, bool training) {
  const std::string measured =
      fmt::format("{},{},{},{:.6g},{:.6g},", m.epoch + 1, m.step, split, m.loss, m.ce);
  const std::string accuracy = m.accuracy >= 0 ? fmt::format("{:.6g}", m.accuracy) : "";
  const std::string metric = std::isnan(m.metric) ? "" : fmt::format("{:.6g}", m.metric);
  if (!training)
    return measured +
           fmt::format(",{},,,{:.1f},{:.3f},{}\n", accuracy, m.samples_per_second, m.seconds, metric);
  return measured + fmt::format("{:.6g},{},{:.6g},{:.6g},{:.1f},{:.3f},\n", m.kl, accuracy, m.lr, m.alpha,
                                m.samples_per_second, m.seconds);
}

// JSON has no infinities, and null is NaN.
Json to_json(double value) {
  if (std::isnan(value)) return {};
  return std::isinf(value) ? Json(value > 0 ? "inf" : "-inf") : Json(value);
}
double number_of(const Json& value) {
  if (value.is_null()) return NAN;
  return value == "inf" ? INFINITY : value == "-inf" ? -INFINITY : value.get<double>();
}

Json to_json(const Metrics& m) {
  Json row{m.epoch, m.step};
  for (const double value :
       {m.loss, m.ce, m.kl, m.accuracy, m.lr, m.alpha, m.samples_per_second, m.seconds, m.metric})
    row.push_back(to_json(value));
  return row;
}

int64_t count_of(const std::string& file, const Json& value) {
  const bool counts = value.is_number_unsigned() && value.get<uint64_t>() < uint64_t{1} << 62;
  check<IoError>(counts, "{}: its record of epochs: expected a count, got {}", file,
                 value.is_structured() ? value.type_name() : value.dump());
  return value.get<int64_t>();
}

Metrics from_json(const std::string& file, const Json& row) {
  const auto at = [&](size_t i) { return number_of(row.at(i)); };
  return {count_of(file, row.at(0)),
          count_of(file, row.at(1)),
          at(2),
          at(3),
          at(4),
          at(5),
          at(6),
          at(7),
          at(8),
          at(9),
          at(10)};
}

}  // namespace

void make_run_folder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  check<IoError>(!error && std::filesystem::is_directory(dir), "run folder: '{}' cannot be made: {}", dir,
                 error.message());
}

// An open file with the lock; removed when the last of this process lets it go.
struct RunLock::File {
  explicit File(std::string name) : name(std::move(name)) {
    while (!open_and_lock()) ::close(fd);
    // The name of the process is for people: a full disk is no reason not to train.
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    const std::string text = fmt::format("process {} on {}\n", getpid(), host);
    if (ftruncate(fd, 0) == 0) [[maybe_unused]]
      const ssize_t written = ::write(fd, text.data(), text.size());
  }
  ~File() {
    unlink(name.c_str());
    ::close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // False when the file is no longer the one of that name: its holder has just removed it.
  bool open_and_lock() {
    fd = ::open(name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    check<IoError>(fd >= 0, "run folder: {}: cannot be written: {}", name, std::strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      char holder[300] = "";
      const ssize_t size = ::read(fd, holder, sizeof holder - 1);
      ::close(fd);
      const std::string who(holder, size > 1 ? size - 1 : 0);
      raise<IoError>("run folder: '{}' is in use by {}; expected one training at a time",
                     std::filesystem::path(name).parent_path().string(),
                     who.empty() ? "another process" : who);
    }
    struct stat opened = {}, named = {};
    return fstat(fd, &opened) == 0 && stat(name.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
  }

  std::string name;
  int fd = -1;
};

RunLock::RunLock(const std::string& dir) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<File>> held;
  make_run_folder(dir);
  const std::string path = std::filesystem::canonical(dir).string();
  const std::lock_guard guard(mutex);
  file_ = held[path].lock();
  if (file_) return;
  held[path] = file_ = std::make_shared<File>((std::filesystem::path(dir) / kLockFile).string());
  recover_run_folder(dir);
}

void write_metrics(const std::string& file, const FitResult& result) {
  std::string text = "epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric\n";
  size_t epoch = 0;
  for (const Metrics& valid : result.valid) {
    for (; epoch < result.train.size() && result.train[epoch].step <= valid.step; ++epoch)
      text += csv_row(result.train[epoch], "train", true);
    text += csv_row(valid, "valid", false);
  }
  data::write_file(file, text);
}

std::string metrics_to_json(const FitResult& result) {
  Json train = Json::array(), valid = Json::array();
  for (const Metrics& m : result.train) train.push_back(to_json(m));
  for (const Metrics& m : result.valid) valid.push_back(to_json(m));
  return Json{{"train", train},
              {"valid", valid},
              {"best_epoch", result.best_epoch},
              {"best_evaluation", result.best_evaluation}}
      .dump();
}

FitResult metrics_from_json(const std::string& file, const std::string& text) {
  try {
    const Json json = Json::parse(text);
    FitResult result;
    for (const Json& row : json.at("train")) result.train.push_back(from_json(file, row));
    for (const Json& row : json.at("valid")) result.valid.push_back(from_json(file, row));
    result.best_epoch = count_of(file, json.at("best_epoch"));
    result.best_evaluation =
        count_of(file, json.contains("best_evaluation") ? json.at("best_evaluation") : json.at("best_epoch"));
    const int64_t epochs = std::ssize(result.train), evaluations = std::ssize(result.valid);
    const bool fits = evaluations >= epochs && result.best_epoch <= epochs &&
                      result.best_evaluation < std::max<int64_t>(1, evaluations);
    check<IoError>(fits, "{}: its record of epochs is inconsistent", file);
    return result;
  } catch (const Json::exception&) {
    raise<IoError>("{}: its record of epochs is damaged", file);
  }
}

std::string part_to_json(const EpochPart& part) {
  return Json{{"batches", part.batches},
              {"samples", part.samples},
              {"units", part.units},
              {"kl_steps", part.kl_steps},
              {"means", to_json(part.means)}}
      .dump();
}

EpochPart part_from_json(const std::string& file, const std::string& text) {
  try {
    const Json json = Json::parse(text);
    const int64_t samples = json.contains("samples") ? count_of(file, json.at("samples")) : 0;
    return {count_of(file, json.at("batches")), samples, json.at("units"),
            count_of(file, json.at("kl_steps")), from_json(file, json.at("means"))};
  } catch (const Json::exception&) {
    raise<IoError>("{}: its record of the epoch that has begun is damaged", file);
  }
}

}  // namespace tandem::nn
