#include "nn/ranks/gradient_sum.h"

#include <algorithm>
#include <chrono>
#include <utility>

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
  const Device before = std::exchange(device_, parameters_.empty() ? kCpu : parameters_[0].device());
  if (device_ != before) device_sums_ = device_ == kCpu ? nullptr : backend(device_).join(ranks_);
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
    buckets_[k].flat = empty({sizes[k]}, {dtype, device_sums_ ? device_ : kCpu});
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
  for (; begun_ < buckets_.size() && buckets_[begun_].missing == 0; ++begun_) begin(buckets_[begun_]);
}

void GradientSum::begin(const Bucket& bucket) {
  const NoGradGuard no_grad;
  for (size_t j = 0; j < bucket.members.size(); ++j) {
    const Tensor& parameter = parameters_[bucket.members[j]];
    const Tensor into = piece(bucket.flat, bucket.offsets[j], parameter.numel());
    if (parameter.grad().defined()) {
      into.copy_(parameter.grad().reshape({parameter.numel()}).to(into.device()));
    } else {
      into.zero_();
    }
  }
  if (device_sums_) {
    device_sums_->begin(bucket.flat.device_raw(), bucket.flat.numel(), bucket.flat.dtype() == DType::f64);
  } else {
    ranks_.begin_sum(bucket.flat);
  }
}

void GradientSum::hand_back(const Bucket& bucket, const std::vector<double>& having) {
  const NoGradGuard no_grad;
  for (size_t j = 0; j < bucket.members.size(); ++j) {
    const Tensor& parameter = parameters_[bucket.members[j]];
    if (having[bucket.members[j]] == 0) continue;
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
  std::vector<double> having;  // how many ranks have a gradient of each parameter
  for (const Tensor& parameter : parameters_) having.push_back(parameter.grad().defined());
  ranks_.sum(having);
  ranks_.end_sums();
  if (device_sums_) device_sums_->end();
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const Bucket& bucket : buckets_) hand_back(bucket, having);
}

}  // namespace tandem::nn
