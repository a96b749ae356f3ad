// Norms and softmax at sizes that are cut into several chunks, which the samples of the registry are not.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/engine.h"
#include "autograd/parallel.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/norms/norms.h"
#include "ops/softmax.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Case {
  const char* name;
  Shape x, weight;
  Function function;  // of x, weight, bias
};

const std::vector<Case> cases{
    {"layer_norm", {700, 130}, {130}, [](auto& in) { return layer_norm(in[0], {130}, in[1], in[2]); }},
    {"rms_norm", {700, 130}, {130}, [](auto& in) { return rms_norm(in[0], in[1]) + in[2] * 0.5; }},
    {"group_norm", {40, 12, 13, 15}, {12}, [](auto& in) { return group_norm(in[0], 3, in[1], in[2]); }},
    {"batch_norm",
     {40, 12, 13, 15},
     {12},
     [](auto& in) { return batch_norm(in[0], {}, in[1], in[2], true); }},
    {"batch_norm with relu",
     {40, 12, 13, 15},
     {12},
     [](auto& in) { return batch_norm(in[0], {}, in[1], in[2], true, 1e-5, true); }},
    {"batch_norm of vectors", {900, 70}, {70}, [](auto& in) {
       return batch_norm(in[0], {}, in[1], in[2], true);
     }}};

Tensors leaves(const Case& c, DType dtype, int passes) {
  SampleMaker make(5, dtype, kCpu);
  const Tensor x = make.normal(c.x);
  return {(passes > 1 ? several_passes(x, passes, 3) : x).detach().clone().requires_grad_(),
          make.normal(c.weight).requires_grad_(), make.normal(c.weight).requires_grad_()};
}

}  // namespace

TEST_CASE("norms: fused gradients equal the composed ones") {
  for (const Case& c : cases) {
    for (int passes : {1, 3}) {
      INFO(c.name, ", passes ", passes);
      const Tensors in = leaves(c, DType::f64, passes);
      const Tensor y = c.function(in), v = cotangent_like(y, 9);
      const Tensors fused = grad(y, in, v, {.retain_graph = true});
      const Tensors composed = grad(y, in, v, {.create_graph = true});
      for (size_t i = 0; i < in.size(); ++i) {
        const Closeness result = close(fused[i], composed[i].detach(), 1e-11);
        CHECK_MESSAGE(result.close, "input ", i, ": ", result.message);
      }
    }
  }
}

TEST_CASE("norms and softmax: the same bits for any number of threads") {
  std::vector<Case> all = cases;
  all.push_back({"softmax", {700, 130}, {130}, [](auto& in) { return softmax(in[0] * in[1] + in[2], -1); }});
  all.push_back(
      {"log_softmax", {700, 130}, {130}, [](auto& in) { return log_softmax(in[0] * in[1] + in[2], -1); }});
  const int before = num_threads();
  for (const Case& c : all) {
    INFO(c.name);
    std::vector<Tensors> runs;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const Tensors in = leaves(c, DType::f32, 2);
      const Tensor y = c.function(in);
      Tensors run = grad(y, in, cotangent_like(y, 9));
      run.push_back(y.detach());
      runs.push_back(run);
    }
    set_num_threads(before);
    for (size_t k = 0; k < runs[0].size(); ++k) {
      CHECK(same_bits(runs[0][k], runs[1][k]));
      CHECK(same_bits(runs[0][k], runs[2][k]));
    }
  }
}

TEST_CASE("layer_norm of single values is the bias, and moves nothing") {
  const Tensor x = tensor({3, -2, 0.5}, {3, 1}).requires_grad_(), b = tensor({0.25});
  const Tensor y = layer_norm(x, {1}, tensor({2}), b);
  for (float value : y.to_vector<float>()) CHECK(value == 0.25f);
  y.backward(tensor({1, -3, 0.7}, {3, 1}));
  // The true gradient is 0; rounding of g w is multiplied by rstd = 1 / sqrt(eps) = 316.
  for (float value : x.grad().to_vector<float>()) CHECK(std::abs(value) < 6 * 316 * 1.2e-7);
}

TEST_CASE("batch_norm with relu is relu of batch_norm, in training and evaluation") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensors in = leaves(cases[3], dtype, 2);
    const BatchStatistics running{zeros({12}, {dtype}), ones({12}, {dtype})};
    for (const bool training : {true, false}) {
      const Tensor fused = batch_norm(in[0], running, in[1], in[2], training, 1e-5, true);
      CHECK(same_bits(fused, relu(batch_norm(in[0], running, in[1], in[2], training))));
    }
  }
}

TEST_CASE("batch_norm hands out the statistics of each pass, and running ones take their average") {
  const Tensor x = stack_passes({tensor({1, 3, 5, 7}, {2, 2}), tensor({2, 0, 8, 4}, {2, 2})});
  const BatchStatistics batch = batch_norm_training(x).batch;
  REQUIRE(batch.mean.passes() == 2);
  CHECK(batch.mean.pass(0).to_vector<double>() == std::vector<double>{3, 5});
  CHECK(batch.mean.pass(1).to_vector<double>() == std::vector<double>{5, 2});
  CHECK(batch.var.pass(0).to_vector<double>() == std::vector<double>{8, 8});
  CHECK(batch.var.pass(1).to_vector<double>() == std::vector<double>{18, 8});
  const BatchStatistics running{zeros({2}), ones({2})};
  update_running(running, batch, 0.5);
  CHECK(running.mean.to_vector<double>() == std::vector<double>{2, 1.75});
  CHECK(running.var.to_vector<double>() == std::vector<double>{7, 4.5});
}

TEST_CASE("softmax: -inf gets nothing, a row of nothing but -inf is 0") {
  const float inf = std::numeric_limits<float>::infinity();
  const auto y = softmax(tensor({0, -inf, -inf, -inf}, {2, 2}), -1).to_vector<float>();
  CHECK(y[0] == 1);
  CHECK(y[1] == 0);
  CHECK(y[2] == 0);
  CHECK(y[3] == 0);
  CHECK(logsumexp(tensor({-inf, -inf})).item() == -inf);
  CHECK(logsumexp(tensor({inf, 1})).item() == inf);
}
