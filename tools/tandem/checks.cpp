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

// The seconds of "1h30m"; nothing for other texts.
std::optional<double> parse_duration(const std::string& text) {
  double seconds = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t unit = std::min(text.find_first_of("smhd", at), text.size() - 1);
    const auto count = parse<double>(text.substr(at, unit - at));
    const size_t kind = std::string_view("smhd").find(text[unit]);
    if (!count || !(*count > 0 && *count < 1e9) || kind == std::string_view::npos) return std::nullopt;
    constexpr double kSeconds[] = {1, 60, 3600, 86400};
    seconds += *count * kSeconds[kind];
    at = unit + 1;
  }
  return seconds;
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

Check duration() {
  return [](const std::string& text) {
    return parse_duration(text) ? "" : fmt::format("expected a time as 90s, 10m or 1h30m, got '{}'", text);
  };
}
Check steps_or_duration() {
  return [](const std::string& text) {
    const auto steps = parse<int64_t>(text);
    return (steps && *steps > 0) || (!steps && parse_duration(text))
               ? ""
               : fmt::format("expected a number of steps, or a time as 90s, 10m or 1h30m, got '{}'", text);
  };
}
double seconds_of(const std::string& duration) { return parse_duration(duration).value_or(0); }

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
