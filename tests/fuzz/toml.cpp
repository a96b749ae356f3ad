#include "tools/tandem/toml.h"

#include <sstream>

#include "tests/fuzz/fuzz.h"

using namespace tandem;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parse = [](const std::string& text) {
    std::istringstream in(text);
    return command::parse_toml("fuzz.toml", in);
  };
  fuzz::read_or_refuse([&] {
    for (const command::TomlEntry& entry : parse(std::string(fuzz::text_of(data, size)))) {
      for (const std::string& value : entry.values)
        fuzz::require(parse("x = " + command::toml_string(value)).at(0).values.at(0) == value,
                      "a value that is written reads as itself");
    }
  });
  return 0;
}
