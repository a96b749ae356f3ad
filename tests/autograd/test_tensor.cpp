// Tensor: indexing, views, conversions.
#include "autograd/noise.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

bool shares(const Tensor& a, const Tensor& b) { return a.impl()->storage == b.impl()->storage; }
Tensor iota(const Shape& shape) { return arange(0, static_cast<double>(shape.numel())).reshape(shape); }

}  // namespace

TEST_CASE("sizes that no memory can hold are errors before memory is taken") {
  const int64_t big = int64_t{1} << 40;
  const int64_t calls = backend(kCpu).stats().system_calls;
  check_throws<ShapeError>("has more elements than 64 bits can count", [&] { zeros({big, big}); });
  check_throws<ShapeError>("has more elements", [&] { from_values(Values{}, {big, big}); });
  check_throws<ShapeError>("has more elements", [&] { zeros({0, big, big}); });
  check_throws<ShapeError>("has more elements", [&] { zeros({1}).expand({big, big}).numel(); });
  check_throws<ShapeError>("bytes times 1 passes", [&] { zeros({int64_t{1} << 62}); });
  check_throws<DeviceError>("cpu: out of memory: asked for 1152921504606846976 bytes",
                            [&] { zeros({int64_t{1} << 58}); });
  CHECK(backend(kCpu).stats().system_calls == calls);
}

TEST_CASE("at most eight dimensions, and room for the passes") {
  const Shape eight{1, 1, 1, 1, 1, 1, 1, 2};
  const Tensor x = empty(eight, {}, 3).fill_(1);
  CHECK((x + x).to_vector<float>() == std::vector<float>(6, 2));
  CHECK(x.passes_as_batch().dim() == 9);
  check_throws<ShapeError>("dimensions", [&] { x.unsqueeze(0); });
  check_throws<ShapeError>("at most 8 dimensions", [&] { x.passes_as_batch().unsqueeze(0); });
}

TEST_CASE("conversions and single elements") {
  const Tensor x = tensor({-1.75, 0, 2.5});
  CHECK(x.to_vector<int32_t>() == std::vector<int32_t>{-1, 0, 2});
  CHECK(x.to(DType::i64).to_vector<int64_t>() == std::vector<int64_t>{-1, 0, 2});
  CHECK(x.to(DType::boolean).to_vector<uint8_t>() == std::vector<uint8_t>{1, 0, 1});
  CHECK(x.to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK(tensor({1.00390625F}).to(DType::bf16).item() == 1);  // ties to even
  CHECK(x.to(DType::f32).impl() == x.impl());
  const int64_t odd = (int64_t{1} << 60) + 1;  // not a double
  CHECK(from_values(std::vector<int64_t>{odd}, {1}).to_vector<int64_t>()[0] == odd);
  CHECK(from_values(std::vector<int64_t>{odd}, {1}).item<int64_t>() == odd);
  CHECK((scalar(2).item<bool>() && scalar(-2.5).item<int32_t>() == -2));
  check_throws<ShapeError>("item: expected one element, got f32[3]", [&] { x.item(); });
  check_throws<ShapeError>("item", [] { zeros({0}).item(); });
  check_throws<ShapeError>("got f32[1] x 2 passes", [] { empty({1}, {}, 2).item(); });
  check_throws<DTypeError>("data: the tensor is f32, not f64", [&] { x.data<double>(); });
}

TEST_CASE("index() takes what Python's [] takes") {
  const Tensor x = iota({2, 3, 4});
  CHECK(values(x.index({1, 2, 3})) == Values{23});
  CHECK(x.index({-1}).shape() == Shape{3, 4});
  CHECK(values(x.index({Ellipsis{}, -1})) == Values{3, 7, 11, 15, 19, 23});
  CHECK(values(x.index({0, {}, {1, 3}})) == Values{1, 2, 5, 6, 9, 10});
  CHECK(values(x.index({{1, 2}, {1, 3}})) == Values{16, 17, 18, 19, 20, 21, 22, 23});  // not x[1, 2, 1, 3]
  CHECK(values(x.index({{1, 3}})) == Values{12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23});
  CHECK(values(x.index({0, 0, {{}, -1, 2}})) == Values{0, 2});
  CHECK(values(x.index({0, 0, Slice{{}, -1, 2}})) == Values{0, 2});
  CHECK(values(x.index({1, {2, std::nullopt}, {std::nullopt, 2}})) == Values{20, 21});
  CHECK(x.index({NewAxis{}, Ellipsis{}, NewAxis{}, 0}).shape() == Shape{1, 2, 3, 1});
  CHECK(x.index({{1, {}}, Ellipsis{}, NewAxis{}, {0, 2}}).shape() == Shape{1, 3, 1, 2});
  CHECK(x.index({}).shape() == x.shape());
  CHECK(x.index({{}}).shape() == x.shape());
  CHECK(values(x[{1, 2}][0][-1]) == Values{20, 21, 22, 23});
  const std::vector<Index> list{0, {1, 3}, 2};
  CHECK(values(x.index(list)) == Values{6, 10});
  CHECK(shares(x.index({0, {1, 3}}), x));
  check_throws<ShapeError>("index: 4 indices for f32[2,3,4]", [&] { x.index({0, 0, 0, 0}); });
  check_throws<ShapeError>("more than one ellipsis", [&] { x.index({Ellipsis{}, Ellipsis{}}); });
  check_throws<ValueError>("select: index 2 is out of range for size 2", [&] { x.index({2}); });
  check_throws<ValueError>("slice: expected a step other than 0", [&] { x.index({{{}, {}, 0}}); });
  check_throws<AutogradError>("index: an undefined Tensor was used", [&] { x.index({Tensor()}); });
}

namespace {

// Whether an expression of tensors compiles.
template <class T>
concept four_numbers = requires(T x) {
  x.index({{1, 2, 3, 4}});
};
template <class T>
concept dots_in_braces = requires(T x) {
  x.index({{Ellipsis{}, 3}});
};
template <class T>
concept half_index = requires(T x) {
  x.index({1.5});
};
template <class T>
concept half_bound = requires(T x) {
  x.index({{1.5, 3}});
};
template <class T>
concept truth_index = requires(T x) {
  x.index({true});
};
template <class T>
concept truth_place = requires(T x) {
  x[true];
};
template <class T>
concept slices = requires(T x) {
  x.index({{1, 3}, {}, {{}, {}, -1}});
};
static_assert(!four_numbers<Tensor> && !dots_in_braces<Tensor> && !half_index<Tensor> &&
              !half_bound<Tensor> && !truth_index<Tensor> && !truth_place<Tensor> && slices<Tensor>);

}  // namespace

TEST_CASE("a negative step goes backwards, as in Python, and copies") {
  const Tensor x = iota({5});
  CHECK(values(x.index({{{}, {}, -1}})) == Values{4, 3, 2, 1, 0});
  CHECK(values(x.index({{{}, {}, -2}})) == Values{4, 2, 0});
  CHECK(values(x.index({{3, 0, -1}})) == Values{3, 2, 1});
  CHECK(values(x.index({{-2, {}, -3}})) == Values{3, 0});
  CHECK(values(x.index({{100, -100, -4}})) == Values{4, 0});
  CHECK(x.index({{1, 3, -1}}).numel() == 0);
  CHECK(zeros({0}).index({{{}, {}, -1}}).numel() == 0);
  CHECK(values(x.slice(0, INT64_MAX, INT64_MIN, INT64_MIN)) == Values{4});
  CHECK(values(x.slice(0, -1, -6, -2)) == Values{4, 2, 0});
  CHECK(x.slice(0, -1, -1, -1).numel() == 0);
  const Tensor y = iota({2, 3}), turned = y.index({{{}, {}, -1}, {{}, {}, -1}});
  CHECK(values(turned) == Values{5, 4, 3, 2, 1, 0});
  CHECK((turned.is_contiguous() && !shares(turned, y)));
  CHECK(!shares(x.index({{0, {}, -1}}), x));  // of one element, too
}

TEST_CASE("slices clip, whatever the numbers") {
  const Tensor x = iota({5});
  CHECK(values(x.slice(0, -2, 100)) == Values{3, 4});
  CHECK(values(x.slice(0, INT64_MIN, INT64_MAX, 3)) == Values{0, 3});
  CHECK(values(x.slice(0, 1, INT64_MAX, INT64_MAX)) == Values{1});
  CHECK(values(iota({5, 9}).slice(0, 3, 9, INT64_MAX)).size() == 9);
  CHECK(x.slice(0, 4, 2).numel() == 0);
  CHECK(x.slice(0, 0, 5).impl() == x.impl());
}

TEST_CASE("views share memory; only what strides cannot express is copied") {
  const Tensor x = iota({2, 3, 4});
  for (const Tensor& view :
       Tensors{x.view({6, 4}), x.reshape({-1}), x.permute({2, 0, 1}), x.transpose(0, -1), x.flatten(1),
               x.flatten(0, -2), x.unsqueeze(-1), x[1], x.slice(-1, 1, 3), x.select(1, -1),
               x.expand({5, 2, 3, 4}), x.detach(), x.passes_as_batch()}) {
    CHECK(shares(view, x));
  }
  CHECK(!shares(x.clone(), x));
  CHECK(!shares(x.transpose(0, 1).reshape({24}), x));
  CHECK(!shares(x.transpose(0, 1).contiguous(), x));
  CHECK(x.contiguous().impl() == x.impl());
  CHECK(x.reshape({2, 3, 4}).impl() == x.impl());
  CHECK(x.flatten(1).shape() == Shape{2, 12});
  CHECK(x.flatten(0, -2).shape() == Shape{6, 4});
  CHECK(scalar(1).flatten().shape() == Shape{1});
  CHECK(zeros({2, 1, 3}).squeeze(1).shape() == Shape{2, 3});
  CHECK(zeros({2, 1, 3}).squeeze(0).shape() == Shape{2, 1, 3});
  CHECK(x.unsqueeze(-1).shape() == Shape{2, 3, 4, 1});
  CHECK(values(x.expand({2, -1, -1, -1}).sum({1, 2, 3})) == Values{276, 276});
  CHECK(values(iota({2, 3}).t()) == Values{0, 3, 1, 4, 2, 5});
  check_throws<ShapeError>("view: f32[3,2,4] with strides [4,12,1] cannot be seen as [24] without a copy",
                           [&] { x.transpose(0, 1).view({24}); });
  check_throws<ShapeError>("t: expected 2 dimensions", [&] { x.t(); });
  check_throws<ShapeError>("flatten: start_dim 2 is after end_dim 0", [&] { x.flatten(2, 0); });
  check_throws<ShapeError>("reshape: f32[2,3,4] does not fit shape [5,-1]", [&] { x.reshape({5, -1}); });
  check_throws<ShapeError>("does not tell the -1", [] { zeros({0}).reshape({0, -1}); });
  check_throws<ShapeError>("reshape: a size is negative", [&] { x.reshape({-2, 12}); });
  check_throws<ShapeError>("dim 3 is out of range", [&] { x.transpose(3, 0); });
}

TEST_CASE("the stride of a dimension of size 1 means nothing to reshape") {
  const Tensor x = iota({2, 1, 7}).slice(2, 0, 3);  // strides 7, 7, 1
  CHECK(values(x.reshape({6})) == Values{0, 1, 2, 7, 8, 9});
  CHECK(shares(x.reshape({2, 3}), x));
}

TEST_CASE("reshape of any view equals reshape of its dense copy") {
  const NoiseKey key = noise_key(3, 0, 0, 0, Purpose::shuffle);
  uint64_t at = 0;
  auto pick = [&](uint64_t n) { return static_cast<int64_t>(bounded(key, 0, at++, n)); };
  int copies = 0, views = 0;
  for (int round = 0; round < 2000; ++round) {
    Shape sizes;
    for (int64_t d = 0, dims = 1 + pick(4); d < dims; ++d) sizes.push_back(1 + pick(4));
    Tensor x = iota(sizes);
    for (int64_t step = 0, steps = pick(4); step < steps; ++step) {
      const int64_t d = pick(x.dim());
      switch (pick(4)) {
        case 0:
          x = x.transpose(d, pick(x.dim()));
          break;
        case 1:
          x = x.slice(d, pick(x.size(d)), x.size(d), 1 + pick(2));
          break;
        case 2:
          x = x.dim() < 7 ? x.unsqueeze(d) : x;
          break;
        default:
          if (x.size(d) == 1) {
            Shape wide = x.shape();
            wide[static_cast<int>(d)] = 3;
            x = x.expand(wide);
          }
      }
    }
    Shape target;  // the numel of x, factored at random
    for (int64_t rest = x.numel(); rest > 1 || target.empty();) {
      int64_t factor = 1 + pick(rest);
      while (rest % factor != 0) ++factor;
      if (target.size() == 7) factor = rest;
      target.push_back(factor);
      rest /= factor;
    }
    const Tensor reshaped = x.reshape(target);
    REQUIRE(reshaped.shape() == target);
    REQUIRE(values(reshaped) == values(x));
    ++(shares(reshaped, x) ? views : copies);
    if (x.is_contiguous()) REQUIRE(shares(reshaped, x));
  }
  CHECK(views > 200);
  CHECK(copies > 200);
}

TEST_CASE("set_data takes another tensor's memory in place; views of the old memory stay") {
  const Tensor x = tensor({1, 2, 3, 4}, {2, 2}), same = x, view = x.select(0, 1);
  x.set_data(tensor({5, 6, 7, 8}, {2, 2}).t());
  CHECK(same.to_vector<float>() == std::vector<float>{5, 7, 6, 8});
  CHECK(view.to_vector<float>() == std::vector<float>{3, 4});
  CHECK_THROWS_WITH_AS(x.set_data(zeros({4})), "set_data: expected f32[2,2], got f32[4]", ShapeError);
  CHECK_THROWS_WITH_AS(x.set_data(zeros({2, 2}, {DType::i64})), "set_data: expected f32[2,2], got i64[2,2]",
                       DTypeError);
}
