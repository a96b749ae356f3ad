// Duplicated indices, and gradients that do not depend on the number of threads.
#include <doctest/doctest.h>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "ops/indexing.h"
#include "ops/join.h"
#include "ops/views.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

TEST_CASE("of two sources for one element the last wins, and gets the gradient") {
  const Tensor x = tensor({1, 2, 3}).requires_grad_(), src = tensor({10, 20}).requires_grad_();
  const Tensor index = from_values(std::vector<int64_t>{1, 1}, {2});
  const Tensor y = scatter(x, 0, index, src);
  CHECK(y.to_vector<float>() == std::vector<float>{1, 20, 3});
  y.backward(tensor({5, 6, 7}));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{5, 0, 7});
  CHECK(src.grad().to_vector<float>() == std::vector<float>{0, 6});
}

TEST_CASE("indices may differ between passes, of data that is shared or not") {
  const Tensor x = tensor({1, 2, 3, 4, 5, 6}, {2, 3}).requires_grad_();
  const Tensor index = stack_passes(
      {from_values(std::vector<int64_t>{2, 0}, {2, 1}), from_values(std::vector<int64_t>{1, 1}, {2, 1})});
  const Tensor y = gather(x, 1, index);
  CHECK(y.to_vector<float>() == std::vector<float>{3, 4, 2, 5});
  y.backward(stack_passes({tensor({10, 20}, {2, 1}), tensor({30, 40}, {2, 1})}));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 30, 10, 20, 40, 0});

  const Tensor rows = index_select(x.detach(), 0, index.reshape({2}).pass(1));
  CHECK(rows.to_vector<float>() == std::vector<float>{4, 5, 6, 4, 5, 6});
}

TEST_CASE("many columns are gathered and scattered as few are") {
  const int64_t rows = 700, columns = 130, few = 3;  // `few` are below what is turned first
  const Shape shape{rows, columns};
  Tensors inputs;
  for (uint64_t i = 0; i < 3; ++i) {
    inputs.push_back(empty(shape, {}, 2));
    fill_normal(noise_key(i, 0, 0, 0, Purpose::init), 0, 1, inputs[i].data<float>(), 2 * shape.numel());
  }
  std::vector<int64_t> places(shape.numel());
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i * i % 691);
  const Tensor index = from_values(places, shape);
  const auto run = [&](const auto& op, int64_t begin, int64_t end) {  // the result and the gradients
    const auto part = [&](const Tensor& x) { return x.slice(1, begin, end).clone(); };
    const Tensor x = part(inputs[0]).requires_grad_(), src = part(inputs[1]).requires_grad_();
    const Tensor y = op(x, part(index), src);
    y.backward(part(inputs[2]));
    return Tensors{y.detach(), x.grad(), src.grad().defined() ? src.grad() : zeros({1, 1})};
  };
  const auto agrees = [&](const auto& op) {
    const Tensors all = run(op, 0, columns);
    for (int64_t c = 0; c < columns; c += few) {
      const Tensors some = run(op, c, std::min(c + few, columns));
      for (size_t k = 0; k < all.size(); ++k) {
        const Tensor y = all[k].size(1) == 1 ? all[k] : all[k].slice(1, c, std::min(c + few, columns));
        if (!same_bits(y.contiguous(), some[k])) return false;
      }
    }
    return true;
  };
  CHECK(agrees([](const Tensor& x, const Tensor& i, const Tensor&) { return gather(x, 0, i); }));
  CHECK(agrees([](const Tensor& x, const Tensor& i, const Tensor& s) { return scatter(x, 0, i, s); }));
  CHECK(agrees([](const Tensor& x, const Tensor& i, const Tensor& s) { return scatter_add(x, 0, i, s); }));
}

TEST_CASE("a gradient summed over many duplicates has the same bits for any number of threads") {
  const Tensor x = empty({50, 700}), v = empty({3000, 700});
  fill_normal(noise_key(1, 0, 0, 0, Purpose::init), 0, 1, x.data<float>(), x.numel());
  fill_normal(noise_key(2, 0, 0, 0, Purpose::init), 0, 1, v.data<float>(), v.numel());
  std::vector<int64_t> values(3000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int64_t>(i * i % 50);
  const Tensor index = from_values(values, {3000});
  const int threads = num_threads();
  Tensors gradients;
  for (int n : {1, 2, 5}) {
    set_num_threads(n);
    const Tensor leaf = x.clone().requires_grad_();
    index_select(leaf, 0, index).backward(v);
    gradients.push_back(leaf.grad());
  }
  set_num_threads(threads);
  CHECK(same_bits(gradients[1], gradients[0]));
  CHECK(same_bits(gradients[2], gradients[0]));
}

TEST_CASE("a class token shared by all passes joins tokens of m passes") {
  const Tensor token = tensor({1, 2}, {1, 2}).requires_grad_();
  const Tensor tokens = stack_passes({tensor({3, 4}, {1, 2}), tensor({5, 6}, {1, 2})});
  const Tensor y = cat({token, tokens});
  CHECK(y.shape() == Shape{2, 2});
  CHECK(y.to_vector<float>() == std::vector<float>{1, 2, 3, 4, 1, 2, 5, 6});
  y.backward(stack_passes({tensor({1, 2, 0, 0}, {2, 2}), tensor({10, 20, 0, 0}, {2, 2})}));
  CHECK(token.grad().to_vector<float>() == std::vector<float>{11, 22});
}
