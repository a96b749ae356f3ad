// Matrices on the simulated device, and the same products in f64 on the host.
#pragma once

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "sim.h"

namespace cudasim {

inline size_t bytes_of(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

inline double rounded(double value, cudaDataType type) {
  if (type == CUDA_R_64F) return value;
  const float single = static_cast<float>(value);
  if (type == CUDA_R_32F) return single;
  uint32_t bits = std::bit_cast<uint32_t>(single);
  bits += 0x7fff + (bits >> 16 & 1);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

// Device memory of `count` elements; those that no test has set are uninitialised.
class Buffer {
 public:
  Buffer(cudaDataType type, int64_t count) : type_(type), count_(static_cast<size_t>(count)) {
    REQUIRE(cudaMalloc(&data_, std::max<size_t>(bytes(), 1)) == cudaSuccess);
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  size_t bytes() const { return count_ * bytes_of(type_); }
  void* at(int64_t element = 0) const {
    return static_cast<char*>(data_) + element * int64_t(bytes_of(type_));
  }

  void set(int64_t at, const std::vector<double>& values) const {
    std::vector<char> raw(values.size() * bytes_of(type_));
    for (size_t i = 0; i < values.size(); ++i) {
      const float single = static_cast<float>(values[i]);
      const uint16_t half = static_cast<uint16_t>(std::bit_cast<uint32_t>(single) >> 16);
      const void* from = type_ == CUDA_R_64F   ? static_cast<const void*>(&values[i])
                         : type_ == CUDA_R_32F ? static_cast<const void*>(&single)
                                               : &half;
      std::memcpy(raw.data() + i * bytes_of(type_), from, bytes_of(type_));
    }
    REQUIRE(cudaMemcpy(this->at(at), raw.data(), raw.size(), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  std::vector<double> get(int64_t at, int64_t count) const {
    std::vector<char> raw(static_cast<size_t>(count) * bytes_of(type_));
    REQUIRE(cudaMemcpy(raw.data(), this->at(at), raw.size(), cudaMemcpyDeviceToHost) == cudaSuccess);
    std::vector<double> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      const char* from = raw.data() + i * bytes_of(type_);
      float single;
      uint16_t half;
      if (type_ == CUDA_R_64F) {
        std::memcpy(&values[i], from, 8);
      } else if (type_ == CUDA_R_32F) {
        std::memcpy(&single, from, 4);
        values[i] = single;
      } else {
        std::memcpy(&half, from, 2);
        values[i] = std::bit_cast<float>(uint32_t{half} << 16);
      }
    }
    return values;
  }

 private:
  cudaDataType type_;
  size_t count_;
  void* data_ = nullptr;
};

// A column-major matrix with a leading dimension, on the host and on the device. Padding stays uninitialised
// there.
class Matrix {
 public:
  Matrix(cudaDataType type, int64_t rows, int64_t cols, int64_t padding = 0)
      : type(type),
        rows(rows),
        cols(cols),
        ld(rows + padding),
        device(type, ld * cols),
        values(static_cast<size_t>(rows * cols), std::numeric_limits<double>::quiet_NaN()) {}
  void fill(std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (double& value : values) value = rounded(normal(random), type);
    for (int64_t j = 0; j < cols; ++j)
      device.set(j * ld, {values.begin() + j * rows, values.begin() + (j + 1) * rows});
  }
  void fetch() {
    for (int64_t j = 0; j < cols; ++j) {
      const std::vector<double> column = device.get(j * ld, rows);
      std::copy(column.begin(), column.end(), values.begin() + j * rows);
    }
  }
  double operator()(int64_t i, int64_t j) const { return values[static_cast<size_t>(j * rows + i)]; }

  cudaDataType type;
  int64_t rows, cols, ld;
  Buffer device;
  std::vector<double> values;
};

// The largest difference to what the host says, relative to the largest value; what type C can tell apart.
inline double tolerance(cudaDataType c) { return c == CUDA_R_64F ? 1e-14 : c == CUDA_R_32F ? 2e-6 : 4e-3; }
inline double difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, scale = 1e-300;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::isnan(a[i]) || std::isnan(b[i]) ? INFINITY : std::max(worst, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return worst / scale;
}

// Whether a report since the last reset has these words; forgets all reports.
inline bool reported(const std::string& words) {
  cudaDeviceSynchronize();
  bool found = false;
  for (const Report& report : reports())
    found |= (report.kind + ": " + report.message).find(words) != std::string::npos;
  reset_reports();
  return found;
}
// Runs what is expected to be reported, without the report on the terminal.
template <class F> bool reports_as(const std::string& words, F&& f) {
  const bool print = std::exchange(options().print, false);
  f();
  const bool found = reported(words);
  options().print = print;
  return found;
}

}  // namespace cudasim
