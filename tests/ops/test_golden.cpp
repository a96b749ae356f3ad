// Values and gradients against an independent framework, whose numbers are in tests/golden/ops.json.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

#include "tests/ops/golden.h"

using namespace tandem;
using namespace tandem::testing;
using Json = nlohmann::json;

namespace {

Json golden_file() {
  std::ifstream file(TANDEM_GOLDEN "/ops.json");
  REQUIRE(file.good());
  return Json::parse(file);
}

Tensor read(const Json& tensor) {
  std::vector<double> values;
  for (const Json& v : tensor["data"]) {
    values.push_back(v.is_number() ? v.get<double>() : (v == "-inf" ? -1 : 1) * HUGE_VAL);
  }
  const DType dtype = tensor["dtype"] == "f64"   ? DType::f64
                      : tensor["dtype"] == "i64" ? DType::i64
                                                 : DType::boolean;
  return from_values(values, tensor["shape"].get<std::vector<int64_t>>()).to(dtype);
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (double v : values) result = std::isfinite(v) ? std::max(result, std::abs(v)) : result;
  return result;
}

// Equal to 1e-10 of the largest magnitude, or of `scale` if that is more.
void compare(const Tensor& x, const Tensor& golden, double scale, const std::string& what) {
  INFO(what);
  REQUIRE(x.defined());
  CHECK(std::string(describe(x)) == std::string(describe(golden)));
  if (x.shape() != golden.shape()) return;
  const auto a = x.to_vector<double>(), b = golden.to_vector<double>();
  const double allowed = 1e-10 * std::max(largest(b), scale);
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK_MESSAGE((a[i] == b[i] || std::abs(a[i] - b[i]) <= allowed), "element ", i, ": ", a[i],
                  ", expected ", b[i]);
  }
}

void check_case(const GoldenCall& call, const Json& golden) {
  Tensors inputs, gradients;
  double scale = 0;  // of all gradients: some true ones are 0
  for (size_t i = 0; i < golden["inputs"].size(); ++i) {
    const Json& gradient = golden["grads"][i];
    const Tensor x = read(golden["inputs"][i]);
    inputs.push_back(gradient.is_null() ? x : x.requires_grad_());
    gradients.push_back(gradient.is_null() ? Tensor() : read(gradient));
    if (!gradient.is_null()) scale = std::max(scale, largest(gradients[i].to_vector<double>()));
  }
  const Tensors outputs = call(golden["args"], inputs);
  REQUIRE(outputs.size() == golden["outputs"].size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    compare(outputs[i].detach(), read(golden["outputs"][i]), 0, "output " + std::to_string(i));
    const Json& cotangent = golden["cotangents"][i];
    if (!cotangent.is_null()) outputs[i].backward(read(cotangent), {.retain_graph = true});
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (gradients[i].defined())
      compare(inputs[i].grad(), gradients[i], scale, "gradient of input " + std::to_string(i));
  }
}

}  // namespace

TEST_CASE("ops agree with golden values, forward and gradients") {
  std::map<std::string, int> seen;
  for (const Json& golden : golden_file()) {
    const std::string op = golden["op"];
    const int number = seen[op]++;
    INFO("op ", op, ", case ", number, ", args ", golden["args"].dump());
    const auto call = golden_calls().find(op);
    const bool unwritten = golden_unwritten().count(op) > 0;
    CHECK_MESSAGE((call != golden_calls().end()) != unwritten, "is either called or listed as unwritten");
    if (call == golden_calls().end()) continue;
    try {
      check_case(call->second, golden);
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }
  for (const auto& entry : golden_calls())
    CHECK_MESSAGE(seen.count(entry.first), entry.first, " is not in the file");
}
