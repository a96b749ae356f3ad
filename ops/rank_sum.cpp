#include "ops/rank_sum.h"

#include "autograd/makers.h"
#include "autograd/op.h"
#include "autograd/registry.h"

namespace tandem {
namespace {

struct SumOverRanks final : Op {
  RankGroup group;
  explicit SumOverRanks(const RankGroup& group) : group(group) {}
  const char* name() const override { return "sum_over_ranks"; }

  Tensor forward(const Tensors& in) override {
    const Tensor& x = in[0];
    check<DTypeError>(x.dtype() == DType::f32 || x.dtype() == DType::f64,
                      "sum_over_ranks: expected f32 or f64, got {}", describe(x));
    const Tensor y = x.to(kCpu).to(DType::f64).contiguous().clone();
    const auto numbers = static_cast<size_t>(y.numel() * y.passes());
    if (group.count > 1) group.ranks->sum({y.data<double>(), numbers}, group.count);
    return y.to(x.dtype()).to(x.device());
  }
  Tensors vjp(const Tensor& g) override { return {sum_over_ranks(g, group)}; }
};

const RegisterOp registered(
    "sum_over_ranks",
    [](OpCases& c) {
      c.sample("one rank", {c.normal({2, 3})}, [](const Tensors& in) { return sum_over_ranks(in[0], {}); });
      c.fails<DTypeError>("i64", "sum_over_ranks: expected f32 or f64",
                          [] { sum_over_ranks(zeros({2}, {DType::i64}), {}); });
    },
    {.dtypes = {DType::f64, DType::f32}});

}  // namespace

Tensor sum_over_ranks(const Tensor& x, const RankGroup& group) { return apply<SumOverRanks>({x}, group); }

}  // namespace tandem
