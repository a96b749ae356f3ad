// What the parts of our side share: the sizes of a case, and the cases by name.
#pragma once

#include <functional>
#include <istream>
#include <map>
#include <string>

#include "autograd/error.h"
#include "nn/init.h"

namespace tandem::peers {

// The sizes of a case, by name.
class Sizes {
 public:
  explicit Sizes(std::istream& line) {
    for (std::string word; line >> word;) {
      const size_t equals = word.find('=');
      check<ConfigError>(equals != std::string::npos, "expected NAME=VALUE, got '{}'", word);
      values_[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  const std::string& text(const std::string& name) const {
    const auto found = values_.find(name);
    check<ConfigError>(found != values_.end(), "expected a value for '{}'", name);
    return found->second;
  }
  double number(const std::string& name) const { return std::stod(text(name)); }
  int64_t operator[](const std::string& name) const { return std::stoll(text(name)); }
  int64_t value_or(const std::string& name, int64_t otherwise) const {
    return values_.contains(name) ? (*this)[name] : otherwise;
  }
  DType precision() const {
    const std::string& name = text("precision");
    check<ConfigError>(name == "f32" || name == "bf16", "precision: expected f32 or bf16, got '{}'", name);
    return name == "f32" ? DType::f32 : DType::bf16;
  }
  // eager: every op of a step is given to the device; recorded: the whole step by one call (--cuda-graph).
  bool recorded() const {
    const std::string& kind = text("kind");
    check<ConfigError>(kind == "eager" || kind == "recorded", "kind: expected eager or recorded, got '{}'",
                       kind);
    return kind == "recorded";
  }

 private:
  std::map<std::string, std::string> values_;
};

// What is timed.
using Case = std::function<void()>;
using Cases = std::map<std::string, Case (*)(const Sizes&)>;
const Cases& model_cases();  // training steps, predictions, decoding
const Cases& op_cases();     // the loss, single ops, what the device can do at all

// Where models and tensors are made.
inline Device device() { return nn::InitScope::current().device; }

}  // namespace tandem::peers
