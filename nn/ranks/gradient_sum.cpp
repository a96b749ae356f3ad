#include "nn/ranks/gradient_sum.h"

#include <algorithm>
#include <chrono>

#include "autograd/grad_mode.h"

namespace tandem::nn {
namespace {

Tensor piece(const Tensor& flat, int64_t begin, int64_t count) { return flat.slice(0, begin, begin + count); }

}  // namespace

GradientSum::GradientSum(Ranks& ranks, int64_t bucket_bytes) : ranks_(ranks), bucket_bytes_(bucket_bytes) {}

void GradientSum::begin(const Tensors& parameters) {
  Tensors learned;
  for (const Tensor& parameter : parameters)
    if (parameter.requires_grad()) learned.push_back(parameter);
  const bool same = std::equal(learned.begin(), learned.end(), parameters_.begin(), parameters_.end(),
                               [](const Tensor& a, const Tensor& b) { return a.impl() == b.impl(); });
  if (!same) parameters_ = std::move(learned), lay_out();
  for (Bucket& bucket : buckets_) bucket.missing = std::ssize(bucket.members);
  begun_ = 0;
}

void GradientSum::lay_out() {
  buckets_.clear(), bucket_of_.clear();
  std::vector<int64_t> sizes;  // of the buckets, in elements
  for (size_t i = parameters_.size(); i-- > 0;) {
    const Tensor& parameter = parameters_[i];
    const bool full = buckets_.empty() || sizes.back() * size_of(parameter.dtype()) >= bucket_bytes_ ||
                      parameters_[buckets_.back().members[0]].dtype() != parameter.dtype();
    if (full) buckets_.emplace_back(), sizes.push_back(0);
    Bucket& bucket = buckets_.back();
    bucket.members.push_back(i);
    bucket.offsets.push_back(sizes.back());
    bucket_of_.emplace(parameter.impl().get(), buckets_.size() - 1);
    sizes.back() += parameter.numel();
  }
  for (size_t k = 0; k < buckets_.size(); ++k) {
    const DType dtype = parameters_[buckets_[k].members[0]].dtype();
    buckets_[k].flat = empty({sizes[k] + std::ssize(buckets_[k].members)}, {dtype});
  }
}

BackwardOptions GradientSum::last_backward() {
  return {.leaf_done = [this](const std::shared_ptr<TensorImpl>& leaf) {
    const auto found = bucket_of_.find(leaf.get());
    if (found == bucket_of_.end()) return;
    --buckets_[found->second].missing;
    begin_full();
    ranks_.progress();
  }};
}

void GradientSum::begin_full() {
  for (; begun_ < buckets_.size() && buckets_[begun_].missing == 0; ++begun_) {
    fill(buckets_[begun_]);
    ranks_.begin_sum(buckets_[begun_].flat);
  }
}

void GradientSum::fill(Bucket& bucket) {
  const NoGradGuard no_grad;
  bucket.flat.zero_();
  const int64_t counts = bucket.flat.numel() - std::ssize(bucket.members);
  for (size_t j = 0; j < bucket.members.size(); ++j) {
    const Tensor& parameter = parameters_[bucket.members[j]];
    if (!parameter.grad().defined()) continue;
    piece(bucket.flat, bucket.offsets[j], parameter.numel())
        .copy_(parameter.grad().to(kCpu).reshape({parameter.numel()}));
    piece(bucket.flat, counts + static_cast<int64_t>(j), 1).fill_(1);
  }
}

void GradientSum::hand_back(const Bucket& bucket) {
  const NoGradGuard no_grad;
  const int64_t counts = bucket.flat.numel() - std::ssize(bucket.members);
  const auto having = piece(bucket.flat, counts, std::ssize(bucket.members)).to_vector<double>();
  for (size_t j = 0; j < bucket.members.size(); ++j) {
    const Tensor& parameter = parameters_[bucket.members[j]];
    if (having[j] == 0) continue;
    const Tensor sum = piece(bucket.flat, bucket.offsets[j], parameter.numel()).view(parameter.shape());
    if (parameter.grad().defined()) {
      parameter.grad().copy_(sum.to(parameter.device()));
    } else {
      parameter.grad() = sum.clone().to(parameter.device());
    }
  }
}

void GradientSum::finish() {
  for (Bucket& bucket : buckets_) bucket.missing = 0;
  begin_full();
  const auto start = std::chrono::steady_clock::now();
  ranks_.end_sums();
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const Bucket& bucket : buckets_) hand_back(bucket);
}

}  // namespace tandem::nn
