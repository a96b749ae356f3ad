#include "autograd/random.h"

#include <algorithm>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "autograd/thread_scope.h"

namespace tandem {

namespace {
thread_local SeedScope* innermost = nullptr;
}

SeedScope::SeedScope(uint64_t seed) : seed_(seed), outer_(innermost) { innermost = this; }
SeedScope::~SeedScope() { close_scope(innermost, this, &SeedScope::outer_, "SeedScope"); }

// The key of one call of a maker, whose name is the site: makers of one seed have nothing in common.
struct SeededCall {
  NoiseKey key;
  SeededCall(const char* maker, const RandomOptions& options) {
    check<ConfigError>(options.seed || innermost,
                       "{}: there is no seed: write {}(..., {{.seed = 42}}), or open a SeedScope seeds(42)",
                       maker, maker);
    const uint64_t seed = options.seed ? *options.seed : innermost->seed_;
    const uint32_t call = options.seed ? 0 : innermost->calls_++;
    key = noise_key(seed, 0, site_hash(maker), call, Purpose::maker);
  }
};

namespace {

Tensor finished(const Tensor& host, DType dtype, const RandomOptions& options) {
  const Tensor result = host.to(dtype).to(options.device);
  return options.requires_grad ? result.requires_grad_() : result;
}

// fill(key, numbers, n) in f64: an f32 is that number rounded.
template <class Fill>
Tensor floating(const char* maker, const Shape& shape, const RandomOptions& options, Fill fill) {
  const DType dtype = options.dtype.value_or(DType::f32);
  check<DTypeError>(is_floating(dtype), "{}: expected a floating dtype, got {}", maker, name_of(dtype));
  const Tensor host = empty(shape, {dtype == DType::f64 ? DType::f64 : DType::f32});
  const NoiseKey key = SeededCall(maker, options).key;
  if (dtype == DType::f64) {
    fill(key, host.data<double>(), host.numel());
  } else {
    fill(key, host.data<float>(), host.numel());
  }
  return finished(host, dtype, options);
}

}  // namespace

Tensor rand(const Shape& shape, const RandomOptions& options) {
  const bool coarse = options.dtype == DType::bf16;
  return floating("rand", shape, options, [coarse]<class T>(NoiseKey key, T* out, int64_t n) {
    fill_uniform(key, 0, 1, out, n);
    if (!coarse) return;
    constexpr T below_one = 0x1.FEp-1;  // the last of bf16
    for (int64_t i = 0; i < n; ++i) out[i] = std::min(out[i], below_one);
  });
}

Tensor randn(const Shape& shape, const RandomOptions& options) {
  return floating("randn", shape, options,
                  [](NoiseKey key, auto* out, int64_t n) { fill_normal(key, 0, 1, out, n); });
}

Tensor detail::randint(int64_t low, int64_t high, const Shape& shape, const RandomOptions& options) {
  check<ValueError>(low < high, "randint: no whole number from {} to below {}", low, high);
  const DType dtype = options.dtype.value_or(DType::i64);
  if (dtype != DType::i64) {
    for (int64_t end : {low, high - 1}) {
      check_holds("randint", dtype, static_cast<double>(end));
      const int64_t most = int64_t{1} << (dtype == DType::bf16 ? 8 : dtype == DType::f32 ? 24 : 53);
      check<DTypeError>(!is_floating(dtype) || (end >= -most && end <= most),
                        "randint: {} in {}, which has every whole number from -{} to {} only", end,
                        name_of(dtype), most, most);
    }
  }
  const Tensor host = empty(shape, {DType::i64});
  const NoiseKey key = SeededCall("randint", options).key;
  const uint64_t count = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  int64_t* out = host.data<int64_t>();
  parallel_for(host.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      out[i] =
          static_cast<int64_t>(static_cast<uint64_t>(low) + bounded(key, 0, static_cast<uint64_t>(i), count));
  });
  return finished(host, dtype, options);
}

}  // namespace tandem
