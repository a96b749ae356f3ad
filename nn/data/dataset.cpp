#include "nn/data/dataset.h"

#include <numeric>
#include <utility>

#include "autograd/error.h"
#include "autograd/noise.h"

namespace tandem::data {
namespace {

std::vector<Indices> cut(const Indices& order, int64_t batch_size) {
  check<ConfigError>(batch_size >= 1, "batch_size: expected at least 1, got {}", batch_size);
  std::vector<Indices> batches;
  for (size_t begin = 0; begin < order.size(); begin += batch_size) {
    const size_t end = std::min(order.size(), begin + batch_size);
    batches.emplace_back(order.begin() + begin, order.begin() + end);
  }
  return batches;
}

template <class Move> Batch moved(const Batch& batch, Move move) {
  Batch result = batch;
  for (Tensor& x : result.inputs) {
    if (x.defined()) x = move(x);
  }
  if (batch.target.defined()) result.target = move(batch.target);
  if (batch.valid.defined()) result.valid = move(batch.valid);
  return result;
}

}  // namespace

Batch Batch::to(Device device) const {
  Batch result = moved(*this, [&](const Tensor& x) { return x.to(device); });
  if (const auto finish = std::exchange(result.finish, {})) finish(result.inputs);
  return result;
}

Batch Batch::upload(Device device) const {
  return moved(*this, [&](const Tensor& x) {
    if (x.device() == device) return x;
    const Tensor from = x.detach().contiguous(),
                 there = empty(from.shape(), {from.dtype(), device}, from.passes());
    backend(device).upload(there.device_raw(), from.raw(),
                           from.numel() * from.passes() * size_of(from.dtype()));
    return there;
  });
}

std::vector<Indices> Dataset::shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const {
  return cut(permutation(noise_key(seed, epoch, site_hash("epoch"), 0, Purpose::shuffle), size()),
             batch_size);
}

std::vector<Indices> Dataset::ordered_batches(int64_t batch_size) const {
  Indices order(size());
  std::iota(order.begin(), order.end(), 0);
  return cut(order, batch_size);
}

}  // namespace tandem::data
