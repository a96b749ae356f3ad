// Tensors of the simulated cuDNN, and their values: doubles in the order of the dimensions.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "libraries/cudnn_store.h"

namespace cudasim {

using Dims = std::vector<int64_t>;
using Values = std::vector<double>;

struct DnnTensor {  // a tensor descriptor
  int64_t uid, alignment;
  cudnnDataType_t type;
  Dims dims, strides;
  bool is_virtual, by_value;

  explicit DnnTensor(const Descriptor& descriptor);
  bool in_memory() const { return !is_virtual && !by_value; }
  int64_t count() const;
};

int64_t count_of(const Dims& dims);
Dims dense(const Dims& dims);  // strides
size_t dnn_size_of(cudnnDataType_t type);
double rounded(double value, cudnnDataType_t type);
double rounded_to_tf32(double value);

// In enqueued work: every element that the strides reach is checked, and nothing else is touched.
Values read_tensor(const DnnTensor& tensor, const void* device, const std::string& who);
void write_tensor(const DnnTensor& tensor, void* device, const Values& values, const std::string& who);

// Calls body with the offsets, by each of `strides`, of every index into `dims`, in order.
void for_each_index(const Dims& dims, const std::vector<Dims>& strides,
                    const std::function<void(const Dims& offsets)>& body);
// The strides of a dense array beside a larger one: 0 along dimensions of size 1.
Dims broadcast_strides(const Dims& dims);

}  // namespace cudasim
