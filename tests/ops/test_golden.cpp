// Values and gradients against an independent framework, whose numbers are in tests/golden/.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/golden_calls.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

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
    const Tensor x = golden_tensor(golden["inputs"][i]);
    inputs.push_back(gradient.is_null() ? x : x.requires_grad_());
    gradients.push_back(gradient.is_null() ? Tensor() : golden_tensor(gradient));
    if (!gradient.is_null()) scale = std::max(scale, largest(gradients[i].to_vector<double>()));
  }
  const Tensors outputs = call(golden["args"], inputs);
  REQUIRE(outputs.size() == golden["outputs"].size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    compare(outputs[i].detach(), golden_tensor(golden["outputs"][i]), 0, "output " + std::to_string(i));
    const Json& cotangent = golden["cotangents"][i];
    if (!cotangent.is_null()) outputs[i].backward(golden_tensor(cotangent), {.retain_graph = true});
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (gradients[i].defined())
      compare(inputs[i].grad(), gradients[i], scale, "gradient of input " + std::to_string(i));
  }
}

void check_file(const char* file, const std::map<std::string, GoldenCall>& calls) {
  std::map<std::string, int> seen;
  for (const Json& test : golden(file)) {
    const std::string op = test["op"];
    const int number = seen[op]++;
    INFO("op ", op, ", case ", number, ", args ", test["args"].dump());
    const auto call = calls.find(op);
    const bool unwritten = golden_unwritten().count(op) > 0;
    CHECK_MESSAGE((call != calls.end()) != unwritten, "is either called or listed as unwritten");
    if (call == calls.end()) continue;
    try {
      check_case(call->second, test);
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }
  for (const auto& entry : calls) CHECK_MESSAGE(seen.count(entry.first), entry.first, " is not in the file");
}

}  // namespace

TEST_CASE("ops agree with golden values, forward and gradients") { check_file("ops.json", golden_calls()); }

TEST_CASE("functions agree with golden values, forward and gradients") {
  check_file("functions.json", golden_functions());
}
