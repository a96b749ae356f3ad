// Reading of JSON that comes from outside, with errors that name the place.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "autograd/error.h"
#include "nn/io/text.h"

namespace tandem::data {

using Json = nlohmann::json;

inline std::string short_text(const Json& json) {  // writing is recursive, what is read can be deep
  return json.is_structured() ? json.type_name() : json.dump().substr(0, 80);
}

template <class T> bool is_a(const Json& json) {
  if constexpr (std::is_same_v<T, bool>) return json.is_boolean();
  if constexpr (std::is_same_v<T, int64_t>) return json.is_number_integer();
  return json.is_string();
}
template <class T> constexpr const char* kName = "a text";
template <> constexpr const char* kName<bool> = "true or false";
template <> constexpr const char* kName<int64_t> = "an integer";

// An object, with its place in its file for messages. IoError for what is of another type than asked.
class JsonObject {
 public:
  JsonObject(const Json& json, std::string place) : json_(&json), place_(std::move(place)) {
    check<IoError>(json.is_object(), "{}: expected an object, got {}", place_, short_text(json));
  }
  const std::string& place() const { return place_; }
  std::string place_of(const std::string& key) const { return fmt::format("{}: {}", place_, key); }
  const Json& json() const { return *json_; }

  // null where there is none.
  const Json& operator[](const std::string& key) const {
    static const Json none;
    const auto found = json_->find(key);
    return found == json_->end() ? none : *found;
  }
  JsonObject object(const std::string& key) const { return {(*this)[key], place_of(key)}; }
  const Json& array(const std::string& key) const {
    const Json& value = (*this)[key];
    check<IoError>(value.is_array(), "{}: expected a list, got {}", place_of(key), short_text(value));
    return value;
  }
  // The value; `otherwise` where it is missing or null.
  template <class T> T get(const std::string& key, T otherwise) const {
    const Json& value = (*this)[key];
    return value.is_null() ? otherwise : checked<T>(value, key);
  }
  template <class T> T get(const std::string& key) const { return checked<T>((*this)[key], key); }
  // The kind of a part: "none" for null.
  std::string kind(const std::string& key) const {
    return (*this)[key].is_null() ? "none" : object(key).get<std::string>("type");
  }
  // ConfigError unless the kind of a part is one of `kinds`.
  std::string kind(const std::string& key, const std::vector<std::string>& kinds) const {
    const std::string found = kind(key);
    check<ConfigError>(std::find(kinds.begin(), kinds.end(), found) != kinds.end(),
                       "{}: a kind that is not read: expected {}, got '{}'", place_of(key),
                       join(kinds, " or "), found);
    return found;
  }
  // ConfigError unless the value is the one that is read, or is missing.
  template <class T> void expect(const std::string& key, const T& value) const {
    const T found = get<T>(key, value);
    check<ConfigError>(found == value, "{}: expected {}, got {}", place_of(key), Json(value).dump(),
                       Json(found).dump());
  }

 private:
  template <class T> T checked(const Json& value, const std::string& key) const {
    check<IoError>(is_a<T>(value), "{}: expected {}, got {}", place_of(key), kName<T>, short_text(value));
    return value.get<T>();
  }
  const Json* json_;
  std::string place_;
};

}  // namespace tandem::data
