#include "tools/tandem/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>

#include "nn/io/text.h"

namespace tandem::command {
namespace {

template <class T> std::optional<T> parse(const std::string& text) {
  T value{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Check number_that(const std::string& expected, const std::function<bool(double)>& holds) {
  return [=](const std::string& text) {
    const auto value = parse<double>(text);
    return value && std::isfinite(*value) && holds(*value)
               ? ""
               : fmt::format("expected {}, got '{}'", expected, text);
  };
}

}  // namespace

Check integer(int64_t low, int64_t high) {
  return [=](const std::string& text) -> std::string {
    const auto value = parse<int64_t>(text);
    if (!value) return fmt::format("expected an integer, got '{}'", text);
    if (*value < low) return fmt::format("expected an integer of at least {}, got {}", low, text);
    if (*value > high) return fmt::format("expected an integer of at most {}, got {}", high, text);
    return "";
  };
}

Check number() {
  return number_that("a number", [](double) { return true; });
}
Check number_in(double low, double high) {
  return number_that(fmt::format("a number from {} to {}", low, high),
                     [=](double x) { return x >= low && x <= high; });
}
Check positive() {
  return number_that("a number > 0", [](double x) { return x > 0; });
}
Check non_negative() {
  return number_that("a number >= 0", [](double x) { return x >= 0; });
}
Check fraction() {
  return number_that("a number in [0, 1)", [](double x) { return x >= 0 && x < 1; });
}
Check positive_fraction() {
  return number_that("a number in (0, 1)", [](double x) { return x > 0 && x < 1; });
}

Check anything() {
  return [](const std::string&) { return ""; };
}
Check not_empty() {
  return [](const std::string& text) { return text.empty() ? "expected a name, got ''" : ""; };
}
Check existing_path() {
  return [](const std::string& path) {
    const bool exists = path.empty() || std::filesystem::exists(path);
    return exists ? "" : fmt::format("expected a file or a folder, got '{}'", path);
  };
}
Check one_of(const std::vector<std::string>& names) {
  return [names](const std::string& text) {
    return std::find(names.begin(), names.end(), text) != names.end()
               ? ""
               : fmt::format("expected one of {}, got '{}'", data::join(names, ", "), text);
  };
}

// cudasim, the simulated device of the tests, is accepted but not named.
Check device_name() {
  return [](const std::string& text) {
    for (const char* name : {"auto", "cpu", "cuda", "cudasim"})
      if (text == name) return std::string();
    const auto number = text.starts_with("cuda:") ? parse<int64_t>(text.substr(5)) : std::nullopt;
    return number && *number >= 0 ? "" : fmt::format("expected auto, cpu, cuda or cuda:N, got '{}'", text);
  };
}

}  // namespace tandem::command
