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
    std::vector<std::string> values;
    for (const command::TomlEntry& entry : parse(std::string(fuzz::text_of(data, size))))
      values.insert(values.end(), entry.values.begin(), entry.values.end());
    std::string written = "x = [";
    for (const std::string& value : values) written += command::toml_string(value) + ", ";
    fuzz::require(parse(written + "]").at(0).values == values, "values that are written read as themselves");
  });
  return 0;
}
