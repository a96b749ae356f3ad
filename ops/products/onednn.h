// What the matmul and convolution kernels share of oneDNN: one engine, cached primitives, cheap execution.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <list>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "autograd/dispatch.h"

namespace tandem::detail {

const dnnl::engine& onednn_engine();
dnnl::memory::data_type onednn_dtype(DType dtype);  // f32 and bf16 only

// Runs at most `threads` OpenMP threads while it lives: a fork costs more than a small product.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int outer_;
};

// The threads a oneDNN primitive of so many multiply-adds should be made for and run with.
int onednn_threads(int64_t multiply_adds);

// Attributes every primitive here uses: scratch memory is the caller's, so that a cached primitive may run on
// any thread, on several at once too.
dnnl::primitive_attr onednn_attributes();

// The description of a primitive P of these operands, with the forward's where P is a gradient: oneDNN 2
// takes the operands as a P::desc, oneDNN 3 as they are.
template <class P, class... Operands>
typename P::primitive_desc primitive_of(const dnnl::primitive_attr& attributes, const Operands&... operands) {
  if constexpr (requires { typename P::desc; })
    return {typename P::desc(operands...), attributes, onednn_engine()};
  else
    return {onednn_engine(), operands..., attributes};
}
template <class P, class Forward, class... Operands>
typename P::primitive_desc gradient_of(const Forward& forward, const dnnl::primitive_attr& attributes,
                                       const Operands&... operands) {
  if constexpr (requires { typename P::desc; })
    return {typename P::desc(operands...), attributes, onednn_engine(), forward};
  else
    return {onednn_engine(), operands..., forward, attributes};
}
// Appends a function of the result; oneDNN 2 scales it, too.
template <class PostOps> void append_function(PostOps& ops, dnnl::algorithm function) {
  if constexpr (requires { ops.append_eltwise(1.0f, function, 0.0f, 0.0f); })
    ops.append_eltwise(1.0f, function, 0.0f, 0.0f);
  else
    ops.append_eltwise(function, 0.0f, 0.0f);
}

// An operand of an execution: DNNL_ARG_..., its layout, its memory.
struct Operand {
  int arg;
  const dnnl::memory::desc* layout;
  const void* data;
};
// Runs `primitive` on this thread's stream. Throws dnnl::error.
void execute(const dnnl::primitive& primitive, const dnnl::memory::desc& scratch_layout,
             std::initializer_list<Operand> operands);

// Everything that a primitive depends on, as numbers.
using PrimitiveKey = std::array<int64_t, 20>;
struct PrimitiveKeyHash {
  size_t operator()(const PrimitiveKey& key) const;
};

// A bounded cache, least recently used out first. Threads may call it at once.
template <class Entry> class PrimitiveCache {
 public:
  explicit PrimitiveCache(size_t capacity) : capacity_(capacity) {}

  // The entry of `key`, made by `make()` when it is not there.
  template <class Make> std::shared_ptr<const Entry> get(const PrimitiveKey& key, Make&& make) {
    {
      std::lock_guard lock(mutex_);
      if (auto found = index_.find(key); found != index_.end()) {
        order_.splice(order_.begin(), order_, found->second);
        return found->second->second;
      }
    }
    auto entry = std::make_shared<const Entry>(make());  // outside of the lock: compiling takes long
    std::lock_guard lock(mutex_);
    if (auto found = index_.find(key); found != index_.end()) return found->second->second;
    order_.emplace_front(key, entry);
    index_.emplace(key, order_.begin());
    if (order_.size() > capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return entry;
  }

 private:
  using Order = std::list<std::pair<PrimitiveKey, std::shared_ptr<const Entry>>>;
  size_t capacity_;
  std::mutex mutex_;
  Order order_;
  std::unordered_map<PrimitiveKey, typename Order::iterator, PrimitiveKeyHash> index_;
};

// True for an implementation worth running: oneDNN's plain loops ("ref:any") are some 100x slower than ours.
bool is_optimised(const char* implementation);

}  // namespace tandem::detail
