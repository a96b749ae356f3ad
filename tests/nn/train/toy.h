// Small models and data for the trainer's tests.
#pragma once

#include <cmath>
#include <functional>

#include "autograd/noise.h"
#include "nn/nn.h"
#include "nn/train/trainer.h"
#include "ops/ops.h"

namespace tandem::testing {

// Two hidden layers with dropout after each.
struct Mlp : nn::Module {
  nn::Linear first{*this, "first", 6, 16}, second{*this, "second", 16, 16}, out{*this, "out", 16, 4};
  nn::Dropout drop1{*this, "drop1", 0.2}, drop2{*this, "drop2", 0.4};
  Tensor forward(const Tensor& x) { return out(drop2(tanh(second(drop1(gelu(first(x))))))); }
};

// Points of four classes around four centres; the same for every call.
struct Blobs final : data::TensorDataset {
  explicit Blobs(int64_t count, DType dtype = DType::f32, uint64_t seed = 1, double spread = 0.7)
      : TensorDataset(points(count, dtype, seed, spread)) {}

 private:
  static data::TensorDataset points(int64_t count, DType dtype, uint64_t seed, double spread) {
    std::vector<double> x(count * 6);
    std::vector<int64_t> y(count);
    fill_normal(noise_key(seed, 0, 0, 0, Purpose::init), 0, spread, x.data(), count * 6);
    for (int64_t i = 0; i < count; ++i) y[i] = i % 4, x[i * 6 + y[i]] += 1.5;
    return {{from_values(x, {count, 6}).to(dtype)}, from_values(y, {count})};
  }
};

inline void append(std::vector<double>& all, const Tensor& x) {
  const auto values = x.to_vector<double>();
  all.insert(all.end(), values.begin(), values.end());
}

inline std::vector<double> flat_gradients(const nn::Module& module) {
  std::vector<double> all;
  for (const Tensor& p : module.parameters()) append(all, p.grad().defined() ? p.grad() : zeros(p.shape()));
  return all;
}

inline std::vector<double> flat_parameters(const nn::Module& module) {
  std::vector<double> all;
  for (const Tensor& p : module.parameters()) append(all, p);
  return all;
}

// |a - b| / |b|.
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double d = 0, n = 0;
  for (size_t i = 0; i < a.size(); ++i) d += (a[i] - b[i]) * (a[i] - b[i]), n += b[i] * b[i];
  return a.size() == b.size() ? std::sqrt(d / n) : INFINITY;
}

// Images of one channel at random, in three classes.
inline data::Batch random_images(int64_t count, int64_t size, DType dtype = DType::f32) {
  std::vector<double> pixels(count * size * size);
  fill_normal(noise_key(9, 0, 0, 0, Purpose::init), 0, 1, pixels.data(), count * size * size);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back(i % 3);
  return {{from_values(pixels, {count, 1, size, size}).to(dtype)}, from_values(labels, {count}), {}, count};
}

inline data::Batch whole(const data::Dataset& dataset, int64_t begin, int64_t end) {
  data::Indices indices;
  for (int64_t i = begin; i < end; ++i) indices.push_back(i);
  return dataset.batch(indices, {});
}

}  // namespace tandem::testing
