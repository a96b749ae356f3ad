// y = [x W1^T + b1, x W2^T + b2, ...] = x W^T + b of the joined W = [W1; W2; ...]; with the cotangent g of y:
//   dx = g W,  dW = g^T x,  db = the sum of g's rows,  of which each weight has its rows
// One product in place of each, and x is read once.
#include "ops/joined_linear.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/join.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/products/cached_cast.h"
#include "ops/products/linear_parts.h"
#include "ops/recorded_vjp.h"
#include "ops/views.h"

namespace tandem {
namespace {

// Inputs of both: x, the weights, then as many biases, which are all undefined where there are none.
size_t parts_of(const Tensors& in) { return (in.size() - 1) / 2; }

Tensor composed(const Tensors& in) {
  Tensors all;
  for (size_t i = 1; i <= parts_of(in); ++i) all.push_back(linear(in[0], in[i], in[i + parts_of(in)]));
  return cat(all, -1);
}

struct JoinedLinear final : Op {
  DType dtype;        // of the product
  size_t inputs = 0;  // their number
  explicit JoinedLinear(DType dtype) : dtype(dtype) {}
  const char* name() const override { return "joined_linear"; }

  Tensor forward(const Tensors& in) override {
    inputs = in.size();
    for (const Tensor& each : in) save(each);
    const Tensors weights = first_half(in), biases = second_half(in);
    const Tensor weight = detail::cached_join(weights, dtype);
    // As linear_product() takes it.
    const DType of_bias = in[0].device() == kCpu && dtype == DType::bf16 ? DType::f32 : dtype;
    const Tensor bias = biases[0].defined() ? detail::cached_join(biases, of_bias) : Tensor();
    Shape shape = in[0].shape();
    shape[-1] = weight.size(0);
    const Tensor y = output(shape, dtype, in[0].device());
    detail::matmul_on(y, detail::linear_product(in[0], weight, bias, y).args);
    return y;
  }

  Tensors vjp(const Tensor& g) override {
    Tensors in;
    for (size_t i = 0; i < inputs; ++i) in.push_back(saved(i));
    if (grad_enabled()) return detail::recorded_vjp(*this, in, g, composed);
    const size_t parts = parts_of(in);
    const auto needed = [&](size_t begin) {
      bool any = false;
      for (size_t i = begin; i < begin + parts; ++i) any |= needs(i);
      return any;
    };
    const detail::LinearGradients all =
        detail::linear_gradients(g, in[0], in[1].dtype(), needed(1), needed(1 + parts));
    Tensors result(inputs);
    if (needs(0)) result[0] = matmul(g, detail::cached_join(first_half(in), dtype));
    for (size_t i = 1, row = 0; i <= parts; row += in[i++].size(0)) {
      const auto rows = static_cast<int64_t>(row);
      const auto own = [&](const Tensor& of_all) { return slice(of_all, 0, rows, rows + in[i].size(0)); };
      if (needs(i)) result[i] = own(all.weight);
      if (needs(i + parts)) result[i + parts] = own(all.bias);
    }
    return result;
  }

  static Tensors first_half(const Tensors& in) { return {in.begin() + 1, in.begin() + 1 + parts(in)}; }
  static Tensors second_half(const Tensors& in) { return {in.begin() + 1 + parts(in), in.end()}; }
  static std::ptrdiff_t parts(const Tensors& in) { return static_cast<std::ptrdiff_t>(parts_of(in)); }
};

}  // namespace

Tensor joined_linear(const Tensor& x, const Tensors& weights, const Tensors& biases) {
  const char* name = "joined_linear";
  check<ValueError>(!weights.empty() && (biases.empty() || biases.size() == weights.size()),
                    "{}: expected weights, and as many biases or none; got {} and {}", name, weights.size(),
                    biases.size());
  Tensors in{x};
  in.insert(in.end(), weights.begin(), weights.end());
  in.insert(in.end(), biases.begin(), biases.end());
  in.resize(1 + 2 * weights.size());
  DType dtype = x.dtype();
  bool together = true;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor &weight = weights[i], &bias = in[1 + weights.size() + i];
    detail::check_linear(name, x, weight, bias);
    check<ValueError>(bias.defined() == in.back().defined(), "{}: some weights have a bias, others none",
                      name);
    check<DTypeError>(
        weight.dtype() == weights[0].dtype() && (!bias.defined() || bias.dtype() == in.back().dtype()),
        "{}: weights or biases of several dtypes: {} beside {}", name, describe(weight),
        describe(weights[0]));
    dtype = detail::linear_dtype(x.dtype(), weight, bias);
    together &= weight.passes() == 1 && (!bias.defined() || bias.passes() == 1);
  }
  return together ? apply<JoinedLinear>(in, dtype) : composed(in);
}

namespace {

const RegisterOp joined_linear_op("joined_linear", [](OpCases& c) {
  const Function biased = [](const Tensors& in) {
    return joined_linear(in[0], {in[1], in[2], in[3]}, {in[4], in[5], in[6]});
  };
  const Function unbiased = [](const Tensors& in) { return joined_linear(in[0], {in[1], in[2]}); };
  const auto three = [&](const Shape& x) {
    return Tensors{c.normal(x),   c.normal({2, 3}), c.normal({4, 3}), c.normal({1, 3}),
                   c.normal({2}), c.normal({4}),    c.normal({1})};
  };
  c.sample("rows", three({5, 3}), biased);
  c.sample("sequence", three({2, 2, 3}), biased);
  c.sample("vector", three({3}), biased);
  c.sample("empty", three({0, 3}), biased);
  c.sample("no bias", {c.normal({5, 3}), c.normal({2, 3}), c.normal({2, 3})}, unbiased);
  c.sample("transposed", {c.normal({3, 5}), c.normal({3, 2}), c.normal({3, 4})}, [](const Tensors& in) {
    return joined_linear(in[0].t(), {in[1].t(), in[2].t()});
  });

  const Tensor x = zeros({2, 3}), weight = zeros({4, 3});
  c.fails<ShapeError>("inner", "joined_linear: x f32[2,3] does not fit weight f32[4,5], expected x [..., 5]",
                      {x, weight, zeros({4, 5})}, unbiased);
  c.fails<ShapeError>("bias", "joined_linear: bias f32[3] does not fit weight f32[4,3], expected [4]",
                      [=] { joined_linear(x, {weight}, {zeros({3})}); });
  c.fails<ValueError>("none", "expected weights, and as many biases or none; got 0 and 0",
                      [=] { joined_linear(x, {}); });
  c.fails<ValueError>("some biases", "joined_linear: some weights have a bias, others none", [=] {
    joined_linear(x, {weight, weight}, {{}, zeros({4})});
  });
  c.fails<DTypeError>("dtypes", "joined_linear: weights or biases of several dtypes",
                      {x, weight, weight.to(DType::f64)}, unbiased);
});

}  // namespace
}  // namespace tandem
