#include "nn/data/dataset.h"

#include <numeric>
#include <utility>

#include "autograd/error.h"
#include "autograd/noise.h"

namespace tandem::data {

std::vector<Indices> cut_batches(const Indices& order, int64_t batch_size) {
  check<ConfigError>(batch_size >= 1, "batch_size: expected at least 1, got {}", batch_size);
  std::vector<Indices> batches;
  for (size_t begin = 0; begin < order.size(); begin += batch_size) {
    const size_t end = std::min(order.size(), begin + batch_size);
    batches.emplace_back(order.begin() + begin, order.begin() + end);
  }
  return batches;
}

Indices shuffled(int64_t count, uint64_t seed, int64_t epoch, uint32_t call) {
  return permutation(
      noise_key(seed, static_cast<uint64_t>(epoch), site_hash("epoch"), call, Purpose::shuffle), count);
}

Batch Batch::map(const std::function<Tensor(const Tensor&)>& f) const {
  Batch result = *this;
  for (Tensor& x : result.inputs)
    if (x.defined()) x = f(x);
  for (Tensor* x : {&result.target, &result.valid})
    if (x->defined()) *x = f(*x);
  return result;
}

void Batch::check_size() const {
  check<ShapeError>(size >= 1, "batch: its size is {}, expected the number of its samples", size);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    check<ShapeError>(inputs[i].dim() >= 1 && inputs[i].size(0) == size,
                      "batch: input {} is {}, expected {} samples along its first dimension", i,
                      describe(inputs[i]), size);
  }
}

Batch Batch::to(Device device) const {
  Batch result = map([&](const Tensor& x) { return x.to(device); });
  if (const auto finish = std::exchange(result.finish, {})) finish(result.inputs);
  return result;
}

Batch Batch::upload(Device device) const {
  return map([&](const Tensor& x) {
    if (x.device() == device) return x;
    const Tensor from = x.detach().contiguous(),
                 there = empty(from.shape(), {from.dtype(), device}, from.passes());
    backend(device).upload(there.device_raw(), from.raw(),
                           from.numel() * from.passes() * size_of(from.dtype()));
    return there;
  });
}

std::vector<Indices> Dataset::shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const {
  return cut_batches(shuffled(size(), seed, epoch), batch_size);
}

std::vector<Indices> Dataset::ordered_batches(int64_t batch_size) const {
  Indices order(size());
  std::iota(order.begin(), order.end(), 0);
  return cut_batches(order, batch_size);
}

}  // namespace tandem::data
