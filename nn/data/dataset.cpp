#include "nn/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "nn/io/sha256.h"
#include "nn/io/text.h"
#include "ops/indexing.h"

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
  for (auto& [name, x] : result.named)
    if (x.defined()) x = f(x);
  return result;
}

const Tensor& Batch::operator[](const std::string& name) const {
  const auto found = named.find(name);
  if (found != named.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [one, tensor] : named) names.push_back(one);
  raise<ConfigError>("batch: it has nothing named \"{}\"; expected one of: {}", name, join(names, ", "));
}

void Batch::check_size() const {
  check<ShapeError>(size >= 1, "batch: its size is {}, expected the number of its samples", size);
  const auto check_samples = [&](const std::string& what, const Tensor& x) {
    check<ShapeError>(!x.defined() || (x.dim() >= 1 && x.size(0) == size),
                      "batch: {} is {}, expected {} samples along its first dimension", what, describe(x),
                      size);
  };
  for (size_t i = 0; i < inputs.size(); ++i) check_samples(fmt::format("input {}", i), inputs[i]);
  for (const auto& [name, x] : named) check_samples(fmt::format("\"{}\"", name), x);
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

TensorDataset::TensorDataset(Tensors inputs, Tensor target, std::map<std::string, Tensor> named)
    : inputs_(std::move(inputs)), target_(std::move(target)), named_(std::move(named)) {
  check<ShapeError>(
      target_.defined() && target_.dim() >= 1 && !inputs_.empty(),
      "TensorDataset: expected inputs and a target, with the samples along their first dimensions");
  const auto check_samples = [&](const std::string& what, const Tensor& x) {
    check<ShapeError>(x.defined() && x.dim() >= 1 && x.size(0) == size(),
                      "TensorDataset: {} is {}, expected {} samples, as the target {} has", what, describe(x),
                      size(), describe(target_));
  };
  for (size_t i = 0; i < inputs_.size(); ++i) check_samples(fmt::format("input {}", i), inputs_[i]);
  for (const auto& [name, x] : named_) check_samples(fmt::format("\"{}\"", name), x);
}

Batch TensorDataset::batch(std::span<const int64_t> indices, const BatchContext&) const {
  const int64_t count = std::ssize(indices);
  const Tensor rows = from_values(indices, {count});
  return Batch{inputs_, target_, {}, count, named_}.map(
      [&](const Tensor& x) { return index_select(x, 0, rows); });
}

TensorDataset TensorDataset::subset(std::span<const int64_t> indices) const {
  const Batch part = batch(indices, {});
  return {part.inputs, part.target, part.named};
}

Subset::Subset(const Dataset& dataset, std::span<const int64_t> indices)
    : dataset_(dataset), indices_(indices.begin(), indices.end()) {
  for (const int64_t index : indices_)
    check<ValueError>(index >= 0 && index < dataset.size(),
                      "Subset: index {} is out of range, the data set has {} samples", index, dataset.size());
}

Indices Subset::there(std::span<const int64_t> indices) const {
  Indices result;
  for (const int64_t index : indices) {
    check<ValueError>(index >= 0 && index < size(), "Subset: index {} is out of range, it has {} samples",
                      index, size());
    result.push_back(indices_[index]);
  }
  return result;
}

Batch Subset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  return dataset_.batch(there(indices), context);
}

void Subset::prefetch(std::span<const int64_t> indices, const BatchContext& context) const {
  dataset_.prefetch(there(indices), context);
}

std::string Subset::identity() const {
  const std::string whole = dataset_.identity();
  if (whole.empty()) return {};
  Sha256 sum;
  sum.add(reinterpret_cast<const char*>(indices_.data()), indices_.size() * sizeof(int64_t));
  return fmt::format("{} of it (SHA-256 {}): {}", size(), sum.digest().substr(0, 16), whole);
}

std::string fingerprint(const Dataset& dataset) {
  if (const std::string identity = dataset.identity(); !identity.empty()) return identity;
  constexpr int64_t kSamples = 4096;
  Indices all;
  for (const Indices& batch : dataset.ordered_batches(1024))
    all.insert(all.end(), batch.begin(), batch.end());
  const int64_t count = std::min<int64_t>(kSamples, std::ssize(all));
  Sha256 sum;
  for (int64_t i = 0; i < count; ++i) {  // one by one: padding depends on the batch
    const int64_t index = all[i * std::ssize(all) / count];
    const Batch sample = dataset.batch(std::span(&index, 1), {.for_device = true});
    Tensors parts = sample.inputs;
    parts.insert(parts.end(), {sample.target, sample.valid});
    for (const auto& [name, part] : sample.named) parts.push_back(part);
    for (const Tensor& part : parts) {
      const std::string about = part.defined() ? fmt::format("{}", describe(part)) : "none";
      sum.add(about.data(), about.size());
      if (!part.defined()) continue;
      const Tensor bytes = part.detach().to(kCpu).contiguous();
      sum.add(bytes.raw(), static_cast<size_t>(bytes.numel() * bytes.passes() * size_of(bytes.dtype())));
    }
  }
  return fmt::format("{} samples, SHA-256 {}", dataset.size(), sum.digest().substr(0, 16));
}

}  // namespace tandem::data
