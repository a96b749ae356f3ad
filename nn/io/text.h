// Strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

// {"a", "b"} with ", " between: "a, b". (fmt::join over strings makes g++ 12 warn inside fmt 9.)
inline std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string joined;
  for (const std::string& part : parts) {
    if (&part != parts.data()) joined += between;
    joined += part;
  }
  return joined;
}

}  // namespace tandem::data
