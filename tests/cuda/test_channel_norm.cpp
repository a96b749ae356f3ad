// Batch norm and group norm: values and gradients, each pass by its own statistics. Their lengths are in
// test_edges.cpp.
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

double tolerance(DType dtype) { return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 1e-5 : 1e-2; }
Comparison within(DType dtype) { return {tolerance(dtype), tolerance(dtype)}; }

// x, weight and bias.
Tensors inputs(const Shape& shape, DType dtype, int passes = 1) {
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  return {normal(shape, 4, dtype, passes), normal({shape[1]}, 5, wide), normal({shape[1]}, 6, wide)};
}

void check_near(const Tensor& there, const Tensor& here, double tolerance) {
  const Closeness c = close(there.to(kCpu), here, tolerance);
  CHECK_MESSAGE(c.close, c.message);
}

}  // namespace

TEST_CASE("channel norm: batch norm, its statistics and gradients, each pass by its own") {
  for (const DType dtype : kFloats) {
    for (const Shape& shape :
         {Shape{4, 8, 3, 5}, Shape{3, 5, 4, 4}, Shape{6, 16}, Shape{2, 3, 37}, Shape{1, 8, 2100}}) {
      for (const int passes : {1, 2}) {
        INFO(std::string(name_of(dtype)), " ", to_string(shape), " ", passes, " passes");
        BatchStatistics here;
        agree(
            inputs(shape, dtype, passes),
            [&](const Tensors& in) {
              const auto [y, batch] = batch_norm_training(in[0], in[1], in[2], 1e-3);
              if (y.device() == kCpu) {
                here = batch;
              } else {
                check_near(batch.mean, here.mean, 1e-5);
                check_near(batch.var, here.var, 1e-5);
              }
              return y;
            },
            within(dtype));
      }
    }
  }
}

TEST_CASE("channel norm: running statistics of batch norm are averaged over the passes") {
  const Tensor x = normal({4, 4, 3, 3}, 5, DType::f32, 3);
  const auto run = [&](Device where) {
    const BatchStatistics running{zeros({4}, {DType::f32, where}), ones({4}, {DType::f32, where})};
    update_running(running, batch_norm_training(x.to(where)).batch, 0.3);
    return running;
  };
  const BatchStatistics here = run(kCpu), there = run(device());
  check_near(there.mean, here.mean, 1e-6);
  check_near(there.var, here.var, 1e-6);
}

TEST_CASE("channel norm: group norm, each pass by its own statistics") {
  for (const DType dtype : kFloats) {
    for (const Shape& shape : {Shape{2, 6, 4, 4}, Shape{3, 4, 5}, Shape{2, 8}, Shape{1, 4, 1500}}) {
      for (const int passes : {1, 2}) {
        INFO(std::string(name_of(dtype)), " ", to_string(shape), " ", passes, " passes");
        agree(
            inputs(shape, dtype, passes),
            [](const Tensors& in) { return group_norm(in[0], 2, in[1], in[2], 1e-3); }, within(dtype));
      }
    }
  }
}

TEST_CASE("channel norm: sums over very many samples keep their digits") {
  const int64_t n = 60000;  // pieces of a channel, one for each sample
  const Tensor x = full({n, 2, 1}, 0.1f, {DType::f32, device()});
  const double tenth = 0.1f;
  const NormalisedBatch batch = batch_norm_training(x);
  CHECK(batch.batch.mean.to(kCpu).select(0, 1).item() == doctest::Approx(tenth).epsilon(1e-6));
  for (const int64_t groups : {0, 1}) {
    const Tensor bias = zeros({2}, {DType::f32, device()}).requires_grad_();
    const Tensor y = groups ? group_norm(x, groups, {}, bias) : batch_norm(x, {}, {}, bias, true);
    y.backward(x);
    CHECK(bias.grad().to(kCpu).select(0, 1).item() == doctest::Approx(n * tenth).epsilon(1e-6));
  }
}
