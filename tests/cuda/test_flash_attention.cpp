// Attention of bf16 by tensor cores (ops/flash_attention) against the CPU's in f64, of the same numbers and
// with the same masks.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "autograd/device.h"
#include "autograd/pass_context.h"
#include "autograd/step_scalars.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"
#include "tests/cuda/cudnn_use.h"
#include "tests/cuda/launched.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Shapes {
  int64_t batch = 1, heads = 2, queries = 33, keys = 33, dim = 32, value_dim = 0;
};

Tensors qkv(const Shapes& s, int passes = 1) {
  const int64_t value_dim = s.value_dim ? s.value_dim : s.dim;
  return {normal({s.batch, s.heads, s.queries, s.dim}, 1, DType::bf16, passes),
          normal({s.batch, s.heads, s.keys, s.dim}, 2, DType::bf16, passes),
          normal({s.batch, s.heads, s.keys, value_dim}, 3, DType::bf16, passes)};
}

Function with(AttentionOptions options, PassOptions passes = {}, Tensor mask = {}) {
  return [=](const Tensors& in) {
    const PassContext context(passes);
    return attention(in[0], in[1], in[2], options, mask.defined() ? mask.to(in[0].device()) : mask);
  };
}

// Every third key of each sample, and of the first sample also the last ones.
Tensor some_ignored(int64_t batch, int64_t keys) {
  std::vector<uint8_t> values;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t k = 0; k < keys; ++k) values.push_back(k % 3 == 1 || (b == 0 && k > keys / 2));
  return from_values(values, {batch, keys}).to(DType::boolean);
}

// Whether the simulated device has none that take bf16.
bool without_tensor_cores() {
  const char* options = std::getenv("CUDASIM");
  return options && std::string(options).find("arch=75") != std::string::npos;
}

// Probabilities, and the differences that gradients are made of, are rounded to bf16 between two products.
constexpr double kTolerance = 1e-2;

// `one_key`: the gradients of q and k are 0, up to what the output's rounding leaves beside that of v.
void matches(const Tensors& inputs, const Function& f, bool one_key = false) {
  const CudnnUse use("never");
  Tensors wide;
  for (const Tensor& x : inputs) wide.push_back(x.to(DType::f64));
  const Tensors host = leaves_on(kCpu, wide), there = leaves_on(device(), inputs);
  const Tensor expected = f(host), y = f(there);
  const auto agrees = [](const std::string& what, const Tensor& got, const Tensor& want) {
    INFO(what);
    const Closeness c = close(got.to(kCpu).to(DType::f64), want, kTolerance);
    CHECK_MESSAGE(c.close, c.message);
  };
  agrees("output", y.detach(), expected.detach());
  const Tensor v = cotangent_like(y.detach().to(kCpu), 8);
  expected.backward(v.to(DType::f64));
  y.backward(v.to(device()));
  const char* names[] = {"of q", "of k", "of v"};
  const auto is_zero = [&](size_t i) {
    const auto norm = [](const Tensor& x) { return sqrt(sum(x * x)).to(kCpu).to(DType::f64).item(); };
    CHECK(norm(there[i].grad()) < 2 * kTolerance * norm(host[2].grad()));
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (one_key && i < 2) {
      is_zero(i);
    } else {
      agrees(std::string("gradient ") + names[i], there[i].grad(), host[i].grad());
    }
  }
}

}  // namespace

TEST_CASE("flash attention: every head dimension, alone and with other dimensions of values") {
  for (const int64_t dim : {8, 32, 40, 64, 80, 96, 128}) {
    INFO("dim ", dim);
    matches(qkv({.queries = 35, .keys = 70, .dim = dim}), with({.dropout = 0.3}, {.seed = 3, .count = 2}));
    matches(qkv({.queries = 70, .keys = 67, .dim = dim}), with({.causal = true}));
    matches(qkv({.batch = 2, .heads = 1, .queries = 9, .keys = 130, .dim = dim}),
            with({}, {}, some_ignored(2, 130)));
  }
  matches(qkv({.dim = 24, .value_dim = 72}), with({}));
  matches(qkv({.dim = 104, .value_dim = 16}), with({.causal = true, .dropout = 0.2}, {.seed = 1}));
}

TEST_CASE("flash attention: keys that no query sees, of every head dimension") {
  for (const int64_t dim : {32, 64, 96, 128}) {
    INFO("dim ", dim);
    for (const int64_t queries : {5, 64, 66})
      matches(qkv({.queries = queries, .keys = 130, .dim = dim}), with({.causal = true}));
  }
}

// What is left of a stride there is no multiple of anything.
TEST_CASE("flash attention: dimensions of size 1, as of a sentence that is decoded") {
  for (const int64_t keys : {1, 20}) {
    const Tensors in{normal({1, 1, 64}, 1, DType::bf16), normal({1, keys, 64}, 2, DType::bf16),
                     normal({1, keys, 64}, 3, DType::bf16)};
    const Function f = [](const Tensors& x) {
      Tensors heads;
      for (const Tensor& each : x) heads.push_back(each.view({1, each.size(1), 2, 32}).transpose(1, 2));
      return attention(heads[0], heads[1], heads[2]);
    };
    matches(in, f, keys == 1);
    if (!simulator() || without_tensor_cores()) continue;
    const CudnnUse use("never");
    const Tensors there = leaves_on(device(), in, false);
    CHECK(launched([&] { f(there); }) == std::vector<std::string>{"forward_kernel"});
  }
}

TEST_CASE("flash attention: lengths around groups of 16 keys and tiles of 64") {
  for (const int64_t queries : {1, 16, 65}) {
    for (const int64_t keys : {1, 15, 17, 48, 64, 130}) {
      INFO(queries, " queries, ", keys, " keys");
      const bool one = keys == 1;
      matches(qkv({.heads = 1, .queries = queries, .keys = keys}), with({.dropout = 0.3}, {.seed = 3}), one);
      matches(qkv({.heads = 1, .queries = queries, .keys = keys}), with({.causal = true}),
              one || queries == 1);
    }
  }
}

TEST_CASE("flash attention: ignored keys, no key for a sample, no key for some queries") {
  for (const bool causal : {false, true}) {
    for (const double rate : {0.0, 0.3}) {
      const AttentionOptions options{.causal = causal, .dropout = rate};
      matches(qkv({.batch = 2, .queries = 40, .keys = 70}), with(options, {.seed = 2}, some_ignored(2, 70)));
      const Tensor mask =
          from_values(std::vector<uint8_t>{1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0}, {3, 5})
              .to(DType::boolean);
      matches(qkv({.batch = 3, .queries = 20, .keys = 5}), with(options, {.seed = 2}, mask));
    }
  }
}

TEST_CASE("flash attention: passes with rates of their own, more than a launch has room for") {
  PassOptions passes{.seed = 3, .count = 11, .rates = {}};
  for (int i = 0; i < 11; ++i) passes.rates.push_back(i % 3 * 0.25);
  matches(qkv({.batch = 2, .queries = 9, .keys = 20}), with({.dropout = 0.1}, passes));
  passes.count = 9, passes.first = 2;
  matches(qkv({.batch = 2, .queries = 9, .keys = 20}, 9), with({.dropout = 0.1}, passes));
  // Two rows of the batch are one sample of the noise; and an operand of all passes beside shared ones.
  matches(qkv({.batch = 4}), with({.dropout = 0.4}, {.seed = 5, .count = 3, .batch = 2}));
  Tensors in = qkv({.queries = 20});
  in[1] = normal(in[1].shape(), 8, DType::bf16, 3);
  matches(in, with({.dropout = 0.5}, {.seed = 2, .count = 3}));
}

TEST_CASE("flash attention: heads inside of rows, as layers have them") {
  const Tensors in{normal({2, 21, 3 * 2 * 32}, 1, DType::bf16, 2)};
  matches(in, [](const Tensors& in) {
    const PassContext context({.seed = 1, .count = 2});
    const Tensor heads = in[0].reshape({2, 21, 3, 2, 32}).permute({2, 0, 3, 1, 4});
    return attention(heads[0], heads[1], heads[2], {.dropout = 0.3}).transpose(1, 2).reshape({2, 21, 64});
  });
}

TEST_CASE("flash attention: one score is far above the others, wherever it is") {
  for (const int64_t keys : {8, 40, 200}) {
    Tensors in = qkv({.heads = 8, .queries = 1, .keys = keys});
    in[0].fill_(25), in[1].fill_(0);
    for (int64_t head = 0; head < 8; ++head)
      in[1][0][head].select(0, (head * 77 + head / 4) % keys).fill_(25);
    matches(in, with({}));
  }
}

TEST_CASE(
    "flash attention: NaN and infinity in keys and values that a query does not see stay away from it") {
  const CudnnUse use("never");
  const Tensor mask = some_ignored(2, 70);
  const Tensor hidden = mask.unsqueeze(1).unsqueeze(-1);
  for (const double inside : {std::nan(""), -std::numeric_limits<double>::infinity()}) {
    for (const bool causal : {false, true}) {
      INFO(inside, causal ? " causal" : "");
      Tensors in = qkv({.batch = 2, .queries = 70, .keys = 70}, 2);
      for (const size_t i : {1, 2}) in[i] = masked_fill(in[i], hidden, inside);
      agree(in, with({.causal = causal, .dropout = 0.3}, {.seed = 1, .count = 2}, mask), aligned(3e-2));
    }
  }
  // Without a mask the first queries do not see a later key.
  for (const int64_t at : {2, 66}) {
    for (const size_t which : {1, 2}) {
      Tensors in = qkv({.queries = 70, .keys = 70});
      in[which].select(2, at).fill_(std::nan(""));
      agree(in, with({.causal = true}), aligned(3e-2));
    }
    Tensors in = qkv({.queries = 70, .keys = 70});
    in[2].select(2, at).fill_(std::numeric_limits<double>::infinity());
    agree(in, with({.causal = true}), aligned(3e-2));
  }
  for (const int64_t dim : {64, 96, 128}) {
    for (const size_t which : {1, 2}) {
      Tensors in = qkv({.heads = 1, .queries = 70, .keys = 70, .dim = dim});
      in[which].select(2, 65).fill_(std::nan(""));
      agree(in, with({.causal = true}), aligned(3e-2));
    }
  }
  // A query of NaN has it in what it gives, too.
  Tensors in = qkv({.queries = 20});
  in[0].select(2, 1).fill_(std::nan(""));
  agree(in, with({.dropout = 0.3}, {.seed = 1}), aligned(3e-2));
}

TEST_CASE("flash attention: one launch, and three for the gradients, whatever the number of passes") {
  if (!simulator_or_message()) return;
  const CudnnUse use("never");
  const Tensors in = leaves_on(device(), qkv({.batch = 2, .queries = 20, .keys = 70}));
  Tensor y;
  const auto forward = launched([&] { y = with({.dropout = 0.1}, {.seed = 1, .count = 3})(in); });
  if (without_tensor_cores()) return;
  CHECK(forward == std::vector<std::string>{"forward_kernel"});
  const Tensor v = cotangent_like(y.detach(), 8);
  const auto backward = launched([&] { y.backward(v); });
  for (const char* name : {"inner_kernel", "queries_kernel", "keys_kernel"})
    CHECK(std::count(backward.begin(), backward.end(), name) == 1);
}

TEST_CASE("flash attention: gradients of some of its inputs alone") {
  const CudnnUse use("never");
  const Tensors all = qkv({.queries = 20, .keys = 35});
  const Tensor v = cotangent_like(all[0], 8);
  const auto gradients = [&](size_t only) {
    Tensors in;
    for (const Tensor& x : all) in.push_back(x.to(device()).clone());
    for (size_t i = 0; i < 3; ++i) in[i].requires_grad_(only == 3 || only == i);
    with({.dropout = 0.2}, {.seed = 1})(in).backward(v.to(device()));
    return in;
  };
  const Tensors whole = gradients(3);
  for (size_t one = 0; one < 3; ++one)
    CHECK(same_bits(gradients(one)[one].grad().to(kCpu), whole[one].grad().to(kCpu)));
}

TEST_CASE("flash attention: a recording draws the noise of the step that its scalars say") {
  const CudnnUse use("never");
  Backend& there = backend(device());
  const Tensor x = normal({3, 2, 20, 32}, 1, DType::bf16).to(device());
  const Tensor v = normal({3, 2, 20, 32}, 2, DType::bf16, 2).to(device());
  const auto run = [&](const PassOptions& options) {
    const PassContext context(options);
    const Tensor q = x.detach().requires_grad_();
    const Tensor y = attention(q, x, x, {.dropout = 0.4});
    y.backward(v);
    return std::pair{y.detach(), q.grad()};
  };
  const auto options_of = [](const StepScalars& s) {
    return PassOptions{.seed = s.seed, .step = s.step, .count = 2, .sample_offset = s.sample_offset + 12};
  };
  auto* scalars = static_cast<StepScalars*>(there.allocate(sizeof(StepScalars)));
  StepScalars now{.seed = 4, .step = 1};
  there.copy_from_host(scalars, &now, sizeof now);
  auto [out, gradient] = run(options_of(now));  // once before, so that every kernel was there
  there.begin_recording();
  {
    const RecordedScalars recorded(scalars, now);
    const auto result = run({.seed = 99, .step = 99, .count = 2, .sample_offset = 12});
    out.copy_(result.first), gradient.copy_(result.second);
  }
  const std::unique_ptr<Recording> recording = there.end_recording();
  Tensor before;
  for (uint64_t step = 1; step < 4; ++step) {
    now.step = step, now.sample_offset = 3 * step;
    there.copy_from_host(scalars, &now, sizeof now);
    recording->replay();
    const Tensor replayed = out.to(kCpu), replayed_gradient = gradient.to(kCpu);
    const auto eager = run(options_of(now));
    CHECK(same_bits(replayed, eager.first.to(kCpu)));
    CHECK(same_bits(replayed_gradient, eager.second.to(kCpu)));
    if (before.defined()) CHECK_FALSE(same_bits(replayed, before));
    before = replayed;
  }
  there.release(scalars, sizeof(StepScalars));
}

TEST_CASE("flash attention: what tensor cores do not take goes another way") {
  const CudnnUse use("never");
  const Tensors in = qkv({.queries = 20});
  agree(in, with({.dropout = 0.2}, {.seed = 1}), {3e-2, 3e-2, true, true, false});  // misaligned, too
  agree(qkv({.queries = 9, .keys = 7, .dim = 12}), with({.dropout = 0.2}, {.seed = 1}), aligned(3e-2));
  agree(qkv({.queries = 9, .keys = 7, .dim = 136}), with({}), aligned(3e-2));
  // A cotangent whose columns lie in one place.
  const Tensor column = normal({1, 2, 20, 1}, 9, DType::bf16);
  const auto gradient = [&](Device where) {
    const Tensor x = in[0].to(where).clone().requires_grad_();
    attention(x, x, x).backward(column.to(where).expand(x.shape()));
    return x.grad().to(kCpu);
  };
  CHECK(close(gradient(device()), gradient(kCpu), 3e-2).close);
}
