// Attention on the device: masks, causal rows, dropout, passes, strided heads and chunks against the CPU.
#include <cmath>
#include <limits>

#include "autograd/pass_context.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"
#include "tests/cuda/cudnn_use.h"
#include "tests/cuda/simulator.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

Tensors qkv(int64_t b, int64_t h, int64_t queries, int64_t keys, int64_t d, DType dtype, int passes = 1) {
  return {normal({b, h, queries, d}, 1, dtype, passes), normal({b, h, keys, d}, 2, dtype, passes),
          normal({b, h, keys, d}, 3, dtype, passes)};
}

Function with(AttentionOptions options, PassOptions passes = {}, Tensor mask = {}) {
  return [=](const Tensors& in) {
    const PassContext context(passes);
    return attention(in[0], in[1], in[2], options, mask.defined() ? mask.to(in[0].device()) : mask);
  };
}

double tolerance(DType dtype) { return dtype == DType::bf16 ? 3e-2 : dtype == DType::f32 ? 2e-5 : 1e-11; }
// Of sums over ten thousands of keys, whose order is the library's own on a real device: 2.2e-5 on an H200.
double of_long_rows() { return simulator() ? 2e-5 : 5e-5; }

}  // namespace

TEST_CASE("device attention: lengths around vectors and teams, causal or not, with dropout") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int64_t keys : {1, 5, 32, 127, 130, 516}) {
      for (const bool causal : {false, true}) {
        INFO(keys, causal ? " causal " : " ", std::string(name_of(dtype)));
        agree(qkv(2, 2, 6, keys, 4, dtype),
              with({.causal = causal, .dropout = 0.3}, {.seed = 3, .count = 2, .rates = {0.3, 0.1}}),
              aligned(tolerance(dtype)));
      }
    }
  }
}

TEST_CASE("device attention: rows in shared memory, and longer than that") {
  for (const int64_t keys : {4100, 6200}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      INFO(keys, " ", std::string(name_of(dtype)));
      agree(qkv(1, 1, 3, keys, 2, dtype), with({.dropout = 0.2}, {.seed = 3}), aligned(tolerance(dtype)));
    }
  }
  agree(qkv(1, 1, 2, 60000, 1, DType::f32), with({.causal = true, .dropout = 0.2}, {.seed = 3}),
        aligned(of_long_rows()));
  agree(qkv(1, 1, 2, 60000, 1, DType::bf16), with({.dropout = 0.2}, {.seed = 3}), aligned(3e-2));
  agree(qkv(1, 1, 2, 30000, 1, DType::f32), with({.dropout = 0.2}, {.seed = 3}), aligned(of_long_rows()));
  agree(qkv(1, 1, 7, 30000, 2, DType::f32), with({.causal = true}), aligned(of_long_rows()));
}

TEST_CASE("device attention: rows held in registers by teams of each size") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int64_t keys : {300, 700, 2000, 4000}) {
      INFO(keys, " ", std::string(name_of(dtype)));
      agree(qkv(1, 2, 3, keys, 2, dtype), with({.dropout = 0.2}, {.seed = 3}), aligned(tolerance(dtype)));
    }
  }
}

TEST_CASE("device attention: one score is far above the others, wherever it is") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int64_t keys : {8, 40, 200, 300, 700, 2000, 5000}) {
      INFO(keys, " ", std::string(name_of(dtype)));
      Tensors in = qkv(1, 8, 1, keys, 2, dtype);
      in[0].fill_(100), in[1].fill_(0);
      for (int64_t head = 0; head < 8; ++head)
        in[1][0][head].select(0, (head * 77 + head / 4) % keys).fill_(100);
      agree(in, with({}), aligned(tolerance(dtype)));
    }
  }
}

TEST_CASE("device attention: padding inside and behind, no key for a sample, no key for some queries") {
  const Tensor mask =
      from_values(std::vector<uint8_t>{0, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1}, {3, 6})
          .to(DType::boolean);
  for (const bool causal : {false, true}) {
    agree(qkv(3, 2, 6, 6, 4, DType::f32), with({.causal = causal}, {}, mask), aligned(2e-5));
    agree(qkv(3, 2, 6, 6, 4, DType::f32),
          with({.causal = causal, .dropout = 0.4}, {.seed = 1, .count = 3}, mask), aligned(2e-5));
  }
}

TEST_CASE("device attention: NaN in keys and values that a query does not see stays away from it") {
  const Tensor mask =
      from_values(std::vector<uint8_t>{0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 0, 0}, {2, 7}).to(DType::boolean);
  const auto hidden = mask.unsqueeze(1).unsqueeze(-1);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const double inside : {std::nan(""), -std::numeric_limits<double>::infinity()}) {
      for (const bool causal : {false, true}) {
        INFO(inside, causal ? " causal " : " ", std::string(name_of(dtype)));
        Tensors in = qkv(2, 2, 7, 7, 40, dtype, 2);
        for (const size_t i : {1, 2}) in[i] = masked_fill(in[i], hidden, inside);
        agree(in, with({.causal = causal}, {.count = 2}, mask), aligned(tolerance(dtype)));
        agree(in, with({.causal = causal, .dropout = 0.3}, {.seed = 1, .count = 2}, mask),
              aligned(tolerance(dtype)));
      }
    }
    // A query of NaN has it in what it gives, too.
    Tensors all = qkv(1, 2, 3, 5, 4, dtype);
    all[0].select(2, 1).fill_(std::nan(""));
    agree(all, with({.dropout = 0.3}, {.seed = 1}), aligned(tolerance(dtype)));
    // Without a mask the first two queries do not see the third key; all others are NaN. Columns lie apart.
    const CudnnUse use("never");
    Tensors in{normal({2, 2, 8, 7}, 1, dtype), normal({2, 2, 8, 7}, 2, dtype)};
    in[1].select(3, 2).fill_(std::nan(""));
    agree(
        in,
        [](const Tensors& in) {
          const Tensor q = in[0].transpose(2, 3), k = in[1].transpose(2, 3);
          return attention(q, k, k, {.causal = true});
        },
        aligned(tolerance(dtype)));
  }
}

TEST_CASE("device attention: more passes than one launch has room for, each with its rate") {
  PassOptions passes{.seed = 3, .count = 11, .rates = {}};
  for (int i = 0; i < 11; ++i) passes.rates.push_back(i % 3 * 0.25);
  agree(qkv(2, 2, 3, 9, 4, DType::f32), with({.dropout = 0.1}, passes), aligned(2e-5));
  passes.count = 9, passes.first = 2;
  agree(qkv(2, 3, 3, 9, 4, DType::f32, 9), with({.dropout = 0.1}, passes), aligned(2e-5));
}

TEST_CASE("device attention: shared and m-pass inputs mixed") {
  Tensors in = qkv(2, 2, 4, 7, 4, DType::f32);
  in[1] = normal({2, 2, 7, 4}, 8, DType::f32, 3);
  agree(in, with({}), aligned(2e-5));
  agree(in, with({.dropout = 0.5}, {.seed = 2, .count = 3}), aligned(2e-5));
}

TEST_CASE("device attention: heads inside of rows, as layers have them, and other strides") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensors in{normal({2, 5, 3 * 2 * 8}, 1, dtype, 2)};
    for (const double rate : {0.0, 0.3}) {
      agree(
          in,
          [rate](const Tensors& in) {
            const PassContext context({.seed = 1, .count = 2});
            const Tensor heads = in[0].reshape({2, 5, 3, 2, 8}).permute({2, 0, 3, 1, 4});
            return attention(heads[0], heads[1], heads[2], {.dropout = rate})
                .transpose(1, 2)
                .reshape({2, 5, 16});
          },
          aligned(tolerance(dtype)));
    }
    // Columns apart, odd offsets.
    const Tensors odd{normal({2, 2, 4, 7}, 1, dtype)};
    agree(
        odd,
        [](const Tensors& in) {
          const Tensor x = in[0].slice(3, 1, 7, 2), y = in[0].transpose(2, 3).slice(3, 1, 4).transpose(2, 3);
          return attention(x, y.slice(3, 0, 3), y.slice(3, 3, 6));
        },
        aligned(tolerance(dtype)));
  }
}

TEST_CASE("device attention: some heads at a time give what all give") {
  // 2048 x 2048 scores of a head are 16 MiB of f32: four heads of the twelve at a time, two in the backward.
  const Tensors in = qkv(2, 6, 2048, 2048, 1, DType::f32);
  const Tensors there = leaves_on(device(), in);
  const Tensor all = with({})(there);
  const Tensor v = normal({2, 6, 2048, 1}, 5).to(device());
  all.backward(v);
  for (const int64_t h : {1, 5}) {
    Tensors one;
    for (const Tensor& x : there) one.push_back(x.detach().slice(1, h, h + 1).requires_grad_());
    const Tensor y = with({})(one);
    CHECK(close(y.to(kCpu), all.detach().slice(1, h, h + 1).to(kCpu), 1e-6).close);
    y.backward(v.slice(1, h, h + 1));
    for (size_t i = 0; i < 3; ++i)
      CHECK(close(one[i].grad().to(kCpu), there[i].grad().slice(1, h, h + 1).to(kCpu), 1e-6).close);
  }
}
