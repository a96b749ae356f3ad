// Tensors, shapes, dtypes and devices as text.
#include <fmt/format.h>

#include <cmath>
#include <sstream>

#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

Tensor iota(const Shape& shape) { return arange(0, static_cast<double>(shape.numel())).reshape(shape); }

}  // namespace

TEST_CASE("a tensor as text is what PyTorch prints") {
  CHECK(to_string(Tensor()) == "tensor(undefined)");
  CHECK(to_string(scalar(1.5)) == "tensor(1.5000)");
  CHECK(to_string(scalar(NAN)) == "tensor(nan)");
  CHECK(to_string(tensor({1, -2, 10})) == "tensor([ 1., -2., 10.])");
  CHECK(to_string(tensor({{0.5}, {-2}, {10}})) ==
        "tensor([[ 0.5000],\n        [-2.0000],\n        [10.0000]])");
  CHECK(to_string(arange(99'999, 100'001, 1, {DType::i64})) == "tensor([ 99999, 100000])");
  CHECK(to_string(tensor({false, true})) == "tensor([false,  true])");
  CHECK(to_string(tensor({1e-7, 1})) == "tensor([1.0000e-07, 1.0000e+00])");
  CHECK(to_string(tensor({0.1, 1000.5})) == "tensor([1.0000e-01, 1.0005e+03])");
  CHECK(to_string(tensor({1e9, 2e9})) == "tensor([1.0000e+09, 2.0000e+09])");
  CHECK(to_string(tensor({1, 2000})) == "tensor([1.0000e+00, 2.0000e+03])");
  CHECK(to_string(tensor({1e-5, 2e-5})) == "tensor([1.0000e-05, 2.0000e-05])");
  CHECK(to_string(tensor({NAN, INFINITY, -1})) == "tensor([nan, inf, -1.])");
  CHECK(to_string(tensor({0.5, INFINITY})) == "tensor([0.5000,    inf])");
  CHECK(to_string(zeros({0})) == "tensor([])");
  CHECK(to_string(iota({1, 2, 2})) == "tensor([[[0., 1.],\n         [2., 3.]]])");
  CHECK(to_string(arange(0, 40)) ==
        "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12., 13.,\n"
        "        14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27.,\n"
        "        28., 29., 30., 31., 32., 33., 34., 35., 36., 37., 38., 39.])");
  CHECK(to_string(arange(0, 2000, 1, {DType::i64})) == "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])");
  CHECK(to_string(arange(0, 2000)) ==
        "tensor([0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 1.9970e+03, 1.9980e+03,\n"
        "        1.9990e+03])");
  CHECK(to_string(zeros({2, 2, 1001})) ==
        "tensor([[[0., 0., 0.,  ..., 0., 0., 0.],\n         [0., 0., 0.,  ..., 0., 0., 0.]],\n\n"
        "        [[0., 0., 0.,  ..., 0., 0., 0.],\n         [0., 0., 0.,  ..., 0., 0., 0.]]])");
  const Tensor huge = zeros({1}).expand({1 << 20, 1 << 20});  // only what is shown is read
  const std::string row = "[0., 0., 0.,  ..., 0., 0., 0.]", next = ",\n        ";
  CHECK(to_string(huge) == "tensor([" + row + next + row + next + row + next + "..." + next + row + next +
                               row + next + row + "])");
}

TEST_CASE("what the numbers of a tensor do not show stands behind them") {
  CHECK(to_string(zeros({2}, {DType::f64})) == "tensor([0., 0.], dtype=f64)");
  CHECK(to_string(zeros({0, 3}, {DType::i32})) == "tensor([], shape=[0,3], dtype=i32)");
  CHECK(to_string(stack_passes({tensor({1}), tensor({2})})) == "tensor([[1.],\n        [2.]], passes=2)");
  CHECK(to_string(arange(0, 18, 1, {DType::i32})) ==  // as many as fit into a line, and then the rest
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17],\n"
        "       dtype=i32)");
}

TEST_CASE("tensors, shapes, dtypes and devices are written to streams and by fmt") {
  const Tensor x = tensor({{1, 2}});
  std::ostringstream stream;
  stream << x << ' ' << x[0] << ' ' << x.shape() << ' ' << x.dtype() << ' ' << x.device();
  CHECK(stream.str() == "tensor([[1., 2.]]) tensor([1., 2.]) [1,2] f32 cpu");
  CHECK(fmt::format("{} {} {} {} {}", x, x[0], x.shape(), x.dtype(), x.device()) ==
        "tensor([[1., 2.]]) tensor([1., 2.]) [1,2] f32 cpu");
}
