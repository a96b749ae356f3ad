// config.json of a published model: entries that are checked, with errors that name file and key.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "autograd/error.h"
#include "models/pretrained/pretrained.h"

namespace tandem::models {

// The entries, checked where they are read.
class ConfigReader {
 public:
  ConfigReader(nlohmann::json json, std::string file) : json_(std::move(json)), file_(std::move(file)) {}
  // Of a folder that was opened.
  explicit ConfigReader(const Pretrained& from);

  // Whether there is an entry that is not null.
  bool has(const char* key) const { return json_.contains(key) && !json_.at(key).is_null(); }
  // ConfigErrors for an entry that is missing and has no `otherwise`, or is of another kind.
  int64_t size(const char* key, std::optional<int64_t> otherwise = {}) const;
  double number(const char* key, std::optional<double> otherwise = {}) const;
  bool flag(const char* key, bool otherwise) const;
  std::string text(const char* key, std::optional<std::string> otherwise = {}) const;
  // An activation by its name there; "relu", for instance.
  Activation activation(const char* key) const;
  // {height, width}: one number, or two.
  std::pair<int64_t, int64_t> sides(const char* key) const;
  std::vector<double> numbers(const char* key) const;
  ConfigReader part(const char* key) const;  // an object inside, or an empty one
  // ConfigError unless the entry is missing, null, or this value.
  void only(const char* key, const nlohmann::json& value) const;
  const std::string& file() const { return file_; }
  // The names of id2label, empty where they are the reference's own, LABEL_0, LABEL_1 ...; or timm's
  // label_names.
  std::vector<std::string> labels() const;

  // ConfigError that begins with the file.
  template <class... Args> [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    raise<ConfigError>("{}: {}", file_, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const nlohmann::json* find(const char* key) const;

  nlohmann::json json_;
  std::string file_;
};

// ConfigError unless the weights have a tensor of each shape (names of the body), and at least one for each
// of so many layers: a model that they do not make takes no memory.
void expect_weights(const ConfigReader& config, const Pretrained& from,
                    const std::vector<std::pair<const char*, Shape>>& shapes, int64_t layers);

std::string activation_name(Activation activation);  // as configurations have it

// JSON of a file. IoError where it is missing, larger than 16 MiB, or none.
nlohmann::json read_json(const std::string& file);

// Writes a configuration and the weights, with `bare` names where there is no head.
std::vector<std::string> write_pretrained(const std::string& folder, const std::string& family,
                                          const nn::StateDict& state, const nlohmann::json& config,
                                          bool bare = false);
// id2label, label2id and num_labels.
void put_labels(nlohmann::json& config, const std::vector<std::string>& labels, int64_t count);

}  // namespace tandem::models
