#include "tools/tandem/class_weights.h"

#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "autograd/error.h"
#include "autograd/tensor.h"
#include "nn/data/text_files.h"

namespace tandem::command {
namespace {

std::optional<double> weight_in(const std::string& text) {
  double weight = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), weight);
  const bool whole = failure == std::errc() && end == text.data() + text.size();
  return whole && std::isfinite(weight) && weight >= 0 ? std::optional(weight) : std::nullopt;
}

std::vector<double> balanced(size_t classes, const std::vector<int64_t>& labels) {
  std::vector<double> weights(classes);
  for (const int64_t label : labels)
    if (label >= 0) ++weights[label];
  double samples = 0;
  for (const double count : weights) samples += count;
  for (double& weight : weights)  // of a class that nothing has: no unit asks for it
    if (weight > 0) weight = samples / (static_cast<double>(classes) * weight);
  return weights;
}

std::vector<double> listed(const std::string& list, size_t classes) {
  std::vector<double> weights;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::optional<double> weight = weight_in(list.substr(begin, end - begin));
    check<ConfigError>(
        weight.has_value(),
        "--class-weights: expected balanced, numbers >= 0 with commas between, or a file, got '{}'", list);
    weights.push_back(*weight);
    begin = end + 1;
  }
  check<ConfigError>(weights.size() == classes,
                     "--class-weights: expected a number for each of the {} classes, got {}", classes,
                     weights.size());
  return weights;
}

std::vector<double> read(const std::string& file, const std::vector<std::string>& names) {
  std::map<std::string, double> found;
  const std::vector<std::string> lines = data::read_lines(file);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (data::is_blank(lines[i])) continue;
    const size_t tab = lines[i].find('\t');
    const std::optional<double> weight =
        tab == std::string::npos ? std::nullopt : weight_in(lines[i].substr(tab + 1));
    check<IoError>(weight.has_value(), "{}:{}: expected class<TAB>weight, got '{}'", file, i + 1, lines[i]);
    check<IoError>(found.emplace(lines[i].substr(0, tab), *weight).second,
                   "{}:{}: class '{}' has two weights", file, i + 1, lines[i].substr(0, tab));
  }
  std::vector<double> weights;
  for (const std::string& name : names) {
    check<IoError>(found.contains(name), "{}: class '{}' has no weight", file, name);
    weights.push_back(found.at(name));
  }
  check<IoError>(found.size() == names.size(), "{}: expected the {} classes of the data, got {}", file,
                 names.size(), found.size());
  return weights;
}

}  // namespace

void declare_class_weights(Command& to, std::string& value) {
  to.option(
      "--class-weights", value, anything(),
      "of the cross-entropy in training: balanced (rare classes weigh more), numbers in the order of the "
      "classes, or a file of lines 'class<TAB>weight'");
}

Tensor make_class_weights(const std::string& value, const std::vector<std::string>& names,
                          const std::vector<int64_t>& labels) {
  if (value.empty()) return {};
  const bool is_list = value.find_first_not_of("0123456789.,+-eE") == std::string::npos;
  const std::vector<double> weights = value == "balanced" ? balanced(names.size(), labels)
                                      : is_list           ? listed(value, names.size())
                                                          : read(value, names);
  return from_values(weights, {std::ssize(weights)}).to(DType::f32);
}

}  // namespace tandem::command
