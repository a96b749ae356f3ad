#include "nn/train/run_folder.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
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

Json to_json(const Metrics& m) {
  return {m.epoch,
          m.step,
          m.loss,
          m.ce,
          m.kl,
          m.accuracy,
          m.lr,
          m.alpha,
          m.samples_per_second,
          m.seconds,
          std::isnan(m.metric) ? Json() : Json(m.metric)};
}

Metrics from_json(const Json& row) {
  Metrics m{row.at(0), row.at(1), row.at(2), row.at(3), row.at(4),
            row.at(5), row.at(6), row.at(7), row.at(8), row.at(9)};
  if (!row.at(10).is_null()) m.metric = row.at(10);
  return m;
}

}  // namespace

void make_run_folder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  check<IoError>(!error && std::filesystem::is_directory(dir), "run folder: '{}' cannot be made: {}", dir,
                 error.message());
}

void write_metrics(const std::string& dir, const FitResult& result) {
  std::string text = "epoch,step,split,loss,ce,kl,accuracy,lr,alpha,samples_per_s,seconds,metric\n";
  for (size_t i = 0; i < result.valid.size(); ++i) {
    text += csv_row(result.train[i], "train", true) + csv_row(result.valid[i], "valid", false);
  }
  data::write_file(dir + "/" + kMetricsFile, text);
}

std::string metrics_to_json(const FitResult& result) {
  Json train = Json::array(), valid = Json::array();
  for (const Metrics& m : result.train) train.push_back(to_json(m));
  for (const Metrics& m : result.valid) valid.push_back(to_json(m));
  return Json{{"train", train}, {"valid", valid}, {"best_epoch", result.best_epoch}}.dump();
}

FitResult metrics_from_json(const std::string& file, const std::string& text) {
  try {
    const Json json = Json::parse(text);
    FitResult result;
    for (const Json& row : json.at("train")) result.train.push_back(from_json(row));
    for (const Json& row : json.at("valid")) result.valid.push_back(from_json(row));
    result.best_epoch = json.at("best_epoch");
    const bool fits = result.train.size() == result.valid.size() && result.best_epoch >= 0 &&
                      result.best_epoch < static_cast<int64_t>(result.valid.size());
    check<IoError>(fits, "{}: its record of epochs is inconsistent", file);
    return result;
  } catch (const Json::exception& error) {
    raise<IoError>("{}: its record of epochs cannot be read: {}", file, error.what());
  }
}

}  // namespace tandem::nn
