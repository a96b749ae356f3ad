#include "models/pretrained/config.h"

#include <cmath>
#include <filesystem>

#include "models/pretrained/names.h"
#include "nn/io/files.h"

namespace tandem::models {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxJson = 16 << 20;  // bytes; a configuration has a few thousand, most of them labels
constexpr std::pair<Activation, const char*> kActivations[] = {{Activation::gelu, "gelu"},
                                                               {Activation::gelu_tanh, "gelu_new"},
                                                               {Activation::gelu_tanh, "gelu_pytorch_tanh"},
                                                               {Activation::relu, "relu"}};

std::string shown(const Json& value) {
  return value.is_structured() ? std::string("a ") + value.type_name()
                               : value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

ConfigReader::ConfigReader(const Pretrained& from)
    : json_(Json::parse(from.config, nullptr, false)), file_(from.folder + "/config.json") {
  if (!json_.is_object()) fail("expected a JSON object");
}

const Json* ConfigReader::find(const char* key) const { return has(key) ? &json_.at(key) : nullptr; }

int64_t ConfigReader::size(const char* key, std::optional<int64_t> otherwise) const {
  const Json* value = find(key);
  if (!value && otherwise) return *otherwise;
  if (!value) fail("{}: expected a size, it is missing", key);
  const double number = value->is_number() ? value->get<double>() : -1;
  // Some write a whole number as 4.0.
  if (number < 0 || number > 1e9 || number != std::floor(number))
    fail("{}: expected a size, got {}", key, shown(*value));
  return value->get<int64_t>();
}

double ConfigReader::number(const char* key, std::optional<double> otherwise) const {
  const Json* value = find(key);
  if (!value && otherwise) return *otherwise;
  if (!value) fail("{}: expected a number, it is missing", key);
  if (!value->is_number()) fail("{}: expected a number, got {}", key, shown(*value));
  return value->get<double>();
}

bool ConfigReader::flag(const char* key, bool otherwise) const {
  const Json* value = find(key);
  if (value && !value->is_boolean()) fail("{}: expected true or false, got {}", key, shown(*value));
  return value ? value->get<bool>() : otherwise;
}

std::string ConfigReader::text(const char* key, std::optional<std::string> otherwise) const {
  const Json* value = find(key);
  if (!value && otherwise) return *otherwise;
  if (!value || !value->is_string()) fail("{}: expected a text, got {}", key, value ? shown(*value) : "none");
  return value->get<std::string>();
}

Activation ConfigReader::activation(const char* key) const {
  const std::string name = text(key, "gelu");
  for (const auto& [activation, known] : kActivations)
    if (name == known) return activation;
  fail("{}: expected gelu, gelu_new, gelu_pytorch_tanh or relu, got '{}'", key, name);
}

std::pair<int64_t, int64_t> ConfigReader::sides(const char* key) const {
  const Json* value = find(key);
  if (!value || !value->is_array()) return {size(key), size(key)};
  if (value->size() != 2)
    fail("{}: expected a size, or height and width, got {} numbers", key, value->size());
  const ConfigReader parts({{"height", value->at(0)}, {"width", value->at(1)}}, file_ + ": " + key);
  return {parts.size("height"), parts.size("width")};
}

std::vector<double> ConfigReader::numbers(const char* key) const {
  const Json* value = find(key);
  if (!value) return {};
  std::vector<double> all;
  if (value->is_array() && value->size() <= 64)
    for (const Json& one : *value)
      if (one.is_number()) all.push_back(one.get<double>());
  if (all.empty() || all.size() != value->size())
    fail("{}: expected a list of numbers, got {}", key, shown(*value));
  return all;
}

ConfigReader ConfigReader::part(const char* key) const {
  const Json* value = find(key);
  if (value && !value->is_object()) fail("{}: expected an object, got {}", key, shown(*value));
  return {value ? *value : Json::object(), file_ + ": " + key};
}

void ConfigReader::only(const char* key, const Json& value) const {
  const Json* found = find(key);
  if (found && *found != value)
    fail("{}: expected {}, got {}: the model has no such option", key, shown(value), shown(*found));
}

std::vector<std::string> ConfigReader::labels() const {
  const Json* names = find("id2label");
  std::vector<std::string> labels;
  if (const Json* listed = find("label_names"); listed && !names) {
    if (!listed->is_array()) fail("label_names: expected a list of names, got {}", shown(*listed));
    for (const Json& name : *listed) {
      if (!name.is_string()) fail("label_names: expected a list of names, got {} in it", shown(name));
      labels.push_back(name.get<std::string>());
    }
    return labels;
  }
  if (!names || !names->is_object()) return {};
  bool own = false;
  for (size_t i = 0; i < names->size(); ++i) {
    const auto at = names->find(std::to_string(i));
    if (at == names->end() || !at->is_string())
      fail("id2label: expected the names of classes 0 to {}, got none for {}", names->size() - 1, i);
    labels.push_back(at->get<std::string>());
    own |= labels.back() != "LABEL_" + std::to_string(i);
  }
  return own ? labels : std::vector<std::string>();
}

void expect_weights(const ConfigReader& config, const Pretrained& from,
                    const std::vector<std::pair<const char*, Shape>>& shapes, int64_t layers) {
  for (const auto& [name, shape] : shapes) {
    const Tensor* found = nn::find(from.tensors, find_family(from.family).prefix + std::string(name));
    if (!found) found = nn::find(from.tensors, name);
    if (!found) config.fail("the weights have no '{}'", name);
    if (found->shape() != shape)
      config.fail("it makes a '{}' of {}, the weights have {}", name, shape, found->shape());
  }
  if (layers > std::ssize(from.tensors))
    config.fail("{} layers, but there are only {} tensors", layers, from.tensors.size());
}

std::string activation_name(Activation activation) {
  for (const auto& [known, name] : kActivations)
    if (activation == known) return name;
  raise<ConfigError>("save_pretrained: an activation without a name there");
}

Json read_json(const std::string& file) {
  Json json;
  try {
    json = Json::parse(data::read_file("pretrained", file, kMaxJson), nullptr, false);
  } catch (const Json::exception&) {
    json = Json::value_t::discarded;
  }
  check<IoError>(json.is_object() || json.is_array(), "{}: expected JSON", file);
  return json;
}

std::vector<std::string> write_pretrained(const std::string& folder, const std::string& family,
                                          const nn::StateDict& state, const Json& config, bool bare) {
  const nn::NamedTensors tensors = to_theirs(find_family(family), state, bare);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  check<IoError>(!error, "{}: cannot be made: {}", folder, error.message());
  nn::save_safetensors(folder + "/model.safetensors", tensors, {{"format", "pt"}});
  data::write_file(folder + "/config.json", config.dump(2) + "\n");
  return {"model.safetensors", "config.json"};
}

void put_labels(Json& config, const std::vector<std::string>& labels, int64_t count) {
  check<ConfigError>(labels.empty() || std::ssize(labels) == count,
                     "save_pretrained: labels: expected {}, one for each output, got {}", count,
                     labels.size());
  Json &names = config["id2label"] = Json::object(), &ids = config["label2id"] = Json::object();
  for (int64_t i = 0; i < count; ++i) {
    const std::string name = labels.empty() ? "LABEL_" + std::to_string(i) : labels[i];
    names[std::to_string(i)] = name;
    ids[name] = i;
  }
}

}  // namespace tandem::models
