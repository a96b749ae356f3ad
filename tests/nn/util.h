// What the tests of nn share: messages of errors, random tensors, golden cases.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "autograd/tensor.h"

namespace tandem::nn {

using Json = nlohmann::json;

// The message of the E that `run` must throw.
template <class E, class F>
std::string message_of(F run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no exception";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline Tensor normal(const Shape& shape, uint64_t seed, DType dtype = DType::f32) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  fill_normal({seed}, 0, 1, values.data(), shape.numel());
  return from_values(values, shape).to(dtype);
}

template <class T = double>
std::vector<T> values_of(const Tensor& x) {
  return x.to_vector<T>();
}

inline Json golden(const std::string& name) {
  std::ifstream in(std::string(TANDEM_GOLDEN) + "/" + name);
  REQUIRE_MESSAGE(in.is_open(), "no golden file ", name);
  return Json::parse(in);
}

inline Tensor golden_tensor(const Json& json) {
  const Shape shape(json.at("shape").get<std::vector<int64_t>>());
  const std::string dtype = json.at("dtype");
  const auto values = json.at("data").get<std::vector<double>>();
  const Tensor x = from_values(values, shape);
  if (dtype == "f64") return x;
  return x.to(dtype == "bool" ? DType::boolean : DType::i64);
}

// The largest difference, relative to `scale` or to the largest magnitude in `expected`.
inline double difference(const Tensor& got, const Tensor& expected, double scale = 0) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = values_of(got), b = values_of(expected);
  double worst = 0;
  for (const double v : b) scale = std::max(scale, std::abs(v));
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= worst)) worst = std::abs(a[i] - b[i]);
  }
  return scale > 0 ? worst / scale : worst;
}

}  // namespace tandem::nn
