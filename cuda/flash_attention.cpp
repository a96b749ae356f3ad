#include "cuda/flash_attention.h"

#include <algorithm>
#include <type_traits>

#include "autograd/kernel.h"
#include "cuda/context.h"
#include "ops/flash_attention/args.h"

namespace tandem::cuda {
namespace {

using detail::AttentionProblem;
using detail::FlashBackward;
using detail::FlashForward;
using detail::HeadRows;
using detail::kAttentionPasses;

// The stride of a dimension of size 1 says nothing: none.
template <class T> void drop_idle_strides(HeadRows<T>& x, const AttentionProblem& p, int64_t rows) {
  if (p.passes == 1) x.pass = 0;
  if (p.batch == 1) x.batch = 0;
  if (p.heads == 1) x.head = 0;
  if (rows == 1) x.row = 0;
}
template <class Call> Call with_strides(Call f) {
  const AttentionProblem& p = f.problem;
  const auto each = [&](int64_t rows, auto&... of) { (drop_idle_strides(of, p, rows), ...); };
  each(p.queries, f.q, f.out), each(p.keys, f.k, f.v);
  if constexpr (std::is_same_v<Call, detail::AttentionBackward<bf16>>)
    each(p.queries, f.g, f.dq), each(p.keys, f.dk, f.dv);
  return f;
}

template <class T> bool in_whole_vectors(const HeadRows<T>& x) {
  return x.col == 1 && (x.pass | x.batch | x.head | x.row) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

template <class... Rows> bool takes(const AttentionProblem& p, const Rows&... rows) {
  const auto fits = [](int64_t dim) { return dim > 0 && dim <= detail::kFlashDim && dim % 8 == 0; };
  constexpr int64_t kMost = int64_t{1} << 31;  // blocks of a launch
  const int64_t tiles = std::max(p.queries, p.keys) / 64 + 1;
  return properties().major >= 8 && fits(p.dim) && fits(p.value_dim) && p.keys > 0 && p.queries > 0 &&
         kAttentionPasses * p.batch * p.heads * tiles < kMost && (in_whole_vectors(rows) && ...);
}

// The same of the passes from `first` on, as many as a launch has room for.
template <class T> HeadRows<T> from_pass(HeadRows<T> x, int64_t first) {
  if (x.data) x.data += first * x.pass;
  return x;
}
template <class Args, class Rows> Args args_of(const AttentionProblem& p, const Rows& f, int64_t first) {
  Args a{};
  a.passes = std::min<int64_t>(kAttentionPasses, p.passes - first);
  a.batch = p.batch, a.heads = p.heads, a.queries = p.queries, a.keys = p.keys;
  a.dim = static_cast<int>(p.dim), a.value_dim = static_cast<int>(p.value_dim);
  a.scale = static_cast<float>(p.scale), a.causal = p.causal, a.drops = p.noise != nullptr;
  a.ignored = from_pass(p.ignored, first);
  a.samples_per_item = p.samples_per_item;
  a.q = from_pass(f.q, first), a.k = from_pass(f.k, first), a.v = from_pass(f.v, first);
  if (!p.noise) return a;
  a.noise = device_noise(*p.noise, p.batch / p.samples_per_item);
  a.noise.first_pass += static_cast<uint32_t>(first);
  for (int64_t i = 0; i < a.passes; ++i) {
    const double rate = p.noise->rates[static_cast<size_t>(first + i)];
    a.threshold[i] = drop_threshold(rate);
    a.kept[i] = static_cast<float>(kept_scale(rate));
  }
  return a;
}

// Queries of the passes before `first`.
int64_t queries_before(const AttentionProblem& p, int64_t first) {
  return first * p.batch * p.heads * p.queries;
}

}  // namespace

bool flash_attention(const detail::AttentionForward<bf16>& call) {
  const auto f = with_strides(call);
  const AttentionProblem& p = f.problem;
  if (!takes(p, f.q, f.k, f.v, f.out)) return false;
  for (int64_t first = 0; first < p.passes; first += kAttentionPasses) {
    auto a = args_of<FlashForward>(p, f, first);
    a.out = from_pass(f.out, first);
    a.log_sums = f.sums.shifts + queries_before(p, first);
    device_kernel<FlashForward>(a);
  }
  return true;
}

bool flash_attention(const detail::AttentionBackward<bf16>& call) {
  const auto f = with_strides(call);
  const AttentionProblem& p = f.problem;
  if (!f.out.data || !takes(p, f.q, f.k, f.v, f.out, f.g, f.dq, f.dk, f.dv)) return false;
  const Scratch inner(queries_before(p, p.passes) * static_cast<int64_t>(sizeof(float)));
  for (int64_t first = 0; first < p.passes; first += kAttentionPasses) {
    auto a = args_of<FlashBackward>(p, f, first);
    a.out = from_pass(f.out, first), a.g = from_pass(f.g, first);
    a.log_sums = f.sums.shifts + queries_before(p, first);
    a.inner = inner.as<float>() + queries_before(p, first);
    a.dq = from_pass(f.dq, first), a.dk = from_pass(f.dk, first), a.dv = from_pass(f.dv, first);
    device_kernel<FlashBackward>(a);
  }
  return true;
}

}  // namespace tandem::cuda
