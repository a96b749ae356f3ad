#include "tests/golden.h"

#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <vector>

namespace tandem::testing {

std::string golden_folder() { return TANDEM_GOLDEN; }

Json golden(const std::string& name) {
  std::ifstream in(golden_folder() + "/" + name);
  REQUIRE_MESSAGE(in.is_open(), "no golden file ", name);
  return Json::parse(in);
}

double golden_number(const Json& json) {
  if (json.is_number()) return json.get<double>();
  REQUIRE_MESSAGE((json == "inf" || json == "-inf"), "not a number: ", json.dump());
  return (json == "-inf" ? -1 : 1) * std::numeric_limits<double>::infinity();
}

Tensor golden_tensor(const Json& json) {
  std::vector<double> values;
  for (const Json& value : json.at("data")) values.push_back(golden_number(value));
  const std::string dtype = json.at("dtype");
  return from_values(values, Shape(json.at("shape").get<std::vector<int64_t>>()))
      .to(dtype == "f64"   ? DType::f64
          : dtype == "i64" ? DType::i64
                           : DType::boolean);
}

}  // namespace tandem::testing
