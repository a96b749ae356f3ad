#include "libraries/cudnn_tensor.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "sim.h"

namespace cudasim {
namespace {

float to_bf16(float value) {
  if (std::isnan(value)) return value;
  auto bits = std::bit_cast<uint32_t>(value);
  bits += 0x7fffu + (bits >> 16 & 1);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

double load(const std::byte* from, cudnnDataType_t type) {
  const auto as = [from](auto value) {
    std::memcpy(&value, from, sizeof value);
    return value;
  };
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return as(float{});
    case CUDNN_DATA_DOUBLE:
      return as(double{});
    case CUDNN_DATA_BFLOAT16:
      return std::bit_cast<float>(uint32_t{as(uint16_t{})} << 16);
    default:
      dnn_not_simulated("tensors in memory of data type " + std::to_string(type));
  }
}

void store(std::byte* to, cudnnDataType_t type, double value) {
  const auto put = [to](auto stored) { std::memcpy(to, &stored, sizeof stored); };
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return put(static_cast<float>(value));
    case CUDNN_DATA_DOUBLE:
      return put(value);
    case CUDNN_DATA_BFLOAT16:
      return put(static_cast<uint16_t>(std::bit_cast<uint32_t>(to_bf16(static_cast<float>(value))) >> 16));
    default:
      dnn_not_simulated("tensors in memory of data type " + std::to_string(type));
  }
}

// The innermost dimension as runs of memory: calls body(first element's offset) for every run.
struct Runs {
  Dims outer, strides;
  int64_t length = 1;
};
Runs runs_of(const DnnTensor& t) {
  Runs runs{t.dims, t.strides, 1};
  while (!runs.outer.empty() && (runs.outer.back() == 1 || runs.strides.back() == runs.length)) {
    runs.length *= runs.outer.back();
    runs.outer.pop_back(), runs.strides.pop_back();
  }
  return runs;
}

}  // namespace

DnnTensor::DnnTensor(const Descriptor& d)
    : uid(d.value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, 0)),
      alignment(d.value<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0)),
      type(d.value(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT)),
      dims(d.values<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
      strides(d.values<int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
      is_virtual(d.value(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false)),
      by_value(d.value(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false)) {}

int64_t DnnTensor::count() const { return count_of(dims); }

int64_t count_of(const Dims& dims) {
  int64_t n = 1;
  for (const int64_t size : dims) n *= size;
  return n;
}

Dims dense(const Dims& dims) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= dims[d];
  }
  return strides;
}

size_t dnn_size_of(cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_DOUBLE:
    case CUDNN_DATA_INT64:
      return 8;
    case CUDNN_DATA_FLOAT:
    case CUDNN_DATA_INT32:
      return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
      return 2;
    case CUDNN_DATA_INT8:
    case CUDNN_DATA_UINT8:
    case CUDNN_DATA_BOOLEAN:
      return 1;
    default:
      dnn_not_simulated("data type " + std::to_string(type));
  }
}

double rounded(double value, cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return static_cast<float>(value);
    case CUDNN_DATA_BFLOAT16:
      return to_bf16(static_cast<float>(value));
    default:
      return value;
  }
}

double rounded_to_tf32(double value) {
  if (!std::isfinite(value)) return value;
  auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  bits += 0xfffu + (bits >> 13 & 1);
  return std::bit_cast<float>(bits & ~0x1fffu);
}

void for_each_index(const Dims& dims, const std::vector<Dims>& strides,
                    const std::function<void(const Dims&)>& body) {
  Dims index(dims.size(), 0), offsets(strides.size(), 0);
  for (int64_t left = count_of(dims); left > 0; --left) {
    body(offsets);
    for (size_t d = dims.size(); d-- > 0;) {
      const bool last = ++index[d] == dims[d];
      const int64_t steps = last ? 1 - dims[d] : 1;
      for (size_t k = 0; k < strides.size(); ++k) offsets[k] += steps * strides[k][d];
      if (!last) break;
      index[d] = 0;
    }
  }
}

Dims broadcast_strides(const Dims& dims) {
  Dims strides = dense(dims);
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) strides[d] = 0;
  }
  return strides;
}

Values read_tensor(const DnnTensor& t, const void* device, const std::string& who) {
  const Runs runs = runs_of(t);
  const size_t size = dnn_size_of(t.type);
  Values values;
  values.reserve(t.count());
  for_each_index(runs.outer, {runs.strides}, [&](const Dims& at) {
    const auto* from = static_cast<const std::byte*>(device) + at[0] * static_cast<int64_t>(size);
    const auto* bytes = static_cast<const std::byte*>(check_read(from, runs.length * size, who.c_str()));
    for (int64_t i = 0; i < runs.length; ++i) values.push_back(load(bytes + i * size, t.type));
  });
  return values;
}

void write_tensor(const DnnTensor& t, void* device, const Values& values, const std::string& who) {
  const Runs runs = runs_of(t);
  const size_t size = dnn_size_of(t.type);
  const double* next = values.data();
  for_each_index(runs.outer, {runs.strides}, [&](const Dims& at) {
    auto* to = static_cast<std::byte*>(device) + at[0] * static_cast<int64_t>(size);
    auto* bytes = static_cast<std::byte*>(check_write(to, runs.length * size, who.c_str()));
    for (int64_t i = 0; i < runs.length; ++i) store(bytes + i * size, t.type, *next++);
  });
}

}  // namespace cudasim
