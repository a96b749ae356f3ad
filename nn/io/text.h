// Strings.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

// {"a", "b"} with ", " between: "a, b". (fmt::join makes g++ 12 warn inside fmt 9.)
inline std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string joined;
  for (const std::string& part : parts) {
    if (&part != parts.data()) joined += between;
    joined += part;
  }
  return joined;
}
inline std::string join(std::span<const int64_t> numbers, std::string_view between) {
  std::vector<std::string> parts;
  for (const int64_t number : numbers) parts.push_back(std::to_string(number));
  return join(parts, between);
}

}  // namespace tandem::data
