#include "tools/tandem/report/curve_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/tandem/report/html.h"

namespace tandem::report {
namespace {

using Json = nlohmann::ordered_json;

struct Sum {
  double value = 0, last_step = 0;
  int64_t count = 0;
};

// Five digits are finer than any screen.
Json rounded(double value) { return Json::parse(fmt::format("{:.5g}", value)); }

// The mean of several runs' curves, each bin's by each run first: a longer run weighs no more.
Json mean_curve(const std::vector<const std::vector<Point>*>& runs) {
  double last = 0;
  for (const auto* points : runs)
    for (const Point& point : *points) last = std::max(last, point.step);
  size_t most = 0;
  for (const auto* points : runs) most = std::max(most, points->size());
  const double width =
      most > kMostPoints ? std::max(1.0, std::ceil(last / static_cast<double>(kMostPoints))) : 1;
  struct Bin {
    double sum = 0, low = INFINITY, high = -INFINITY, step = 0;
    int64_t runs = 0;
  };
  std::map<int64_t, Bin> bins;
  for (const auto* points : runs) {
    std::map<int64_t, Sum> own;
    for (const Point& point : *points) {
      Sum& sum = own[static_cast<int64_t>(std::ceil(point.step / width))];
      sum.value += point.value, ++sum.count, sum.last_step = std::max(sum.last_step, point.step);
    }
    for (const auto& [at, sum] : own) {
      Bin& bin = bins[at];
      const double value = sum.value / static_cast<double>(sum.count);
      bin.sum += value, ++bin.runs, bin.step = std::max(bin.step, sum.last_step);
      bin.low = std::min(bin.low, value), bin.high = std::max(bin.high, value);
    }
  }
  Json x = Json::array(), y = Json::array(), low = Json::array(), high = Json::array();
  for (const auto& [at, bin] : bins) {
    x.push_back(static_cast<int64_t>(bin.step));
    y.push_back(rounded(bin.sum / static_cast<double>(bin.runs)));
    low.push_back(rounded(bin.low)), high.push_back(rounded(bin.high));
  }
  Json curve{{"x", x}, {"y", y}};
  if (runs.size() > 1) curve["low"] = low, curve["high"] = high;
  return curve;
}

struct Chart {
  const char* key;
  const char* title;
  const char* unit;
  bool percent;
};

// What all runs were validated by, beside accuracy; "" where they differ.
std::string metric_of(const Groups& groups) {
  std::string name;
  for (const Group& group : groups.all)
    for (const RunRecord* run : group.runs) {
      if (run->measure.empty() || !run->valid.contains("metric")) continue;
      if (!name.empty() && name != run->measure) return "validation metric";
      name = run->measure;
    }
  return name.empty() ? "validation metric" : name;
}

// Whether there is more in some training loss than the cross-entropy.
bool loss_differs(const Groups& groups) {
  for (const Group& group : groups.all)
    for (const RunRecord* run : group.runs) {
      const auto loss = run->train.find("loss"), ce = run->train.find("ce");
      if (loss == run->train.end() || ce == run->train.end()) continue;
      const size_t size = std::min(loss->second.size(), ce->second.size());
      for (size_t i = 0; i < size; ++i)
        if (loss->second[i].value != ce->second[i].value) return true;
    }
  return false;
}

// Whether the loss is of numbers: squared errors, and between the passes squared differences.
bool is_regression(const Groups& groups) {
  return std::all_of(groups.all.begin(), groups.all.end(),
                     [](const Group& group) { return group.first().task == "similarity"; });
}

}  // namespace

std::string curves_to_json(const Groups& groups) {
  const std::string metric = metric_of(groups);
  const bool squares = is_regression(groups);
  const char* unit = squares ? "" : "nats";
  const std::array charts{
      Chart{"loss", squares ? "Training loss" : "Training loss with its KL term", "", false},
      Chart{"ce", squares ? "Squared error" : "Cross-entropy", unit, false},
      Chart{"kl", squares ? "Squared difference of the passes" : "KL between the passes", unit, false},
      Chart{"accuracy", "Accuracy", "", true}, Chart{"metric", metric.c_str(), "", false}};
  const bool with_loss = loss_differs(groups);
  Json json{{"charts", Json::array()}, {"groups", Json::array()}};
  for (const Group& group : groups.all)
    json["groups"].push_back(
        {{"name", group.name}, {"seeds", group.runs.size()}, {"curves", Json::object()}});
  for (const Chart& chart : charts) {
    const std::string key = chart.key;
    if (key == "loss" && !with_loss) continue;
    bool any = false;
    for (size_t i = 0; i < groups.all.size(); ++i) {
      for (const bool train : {true, false}) {
        if (key == "loss" && !train) continue;  // evaluation's is the cross-entropy
        std::vector<const std::vector<Point>*> curves;
        for (const RunRecord* run : groups.all[i].runs) {
          const Curves& all = train ? run->train : run->valid;
          if (const auto found = all.find(key); found != all.end()) curves.push_back(&found->second);
        }
        if (curves.empty()) continue;
        any = true;
        json["groups"][i]["curves"][key][train ? "train" : "valid"] = mean_curve(curves);
      }
    }
    if (any)
      json["charts"].push_back(
          {{"key", key}, {"title", chart.title}, {"unit", chart.unit}, {"percent", chart.percent}});
  }
  return script_json(json.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace tandem::report
