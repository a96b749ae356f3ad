// DetectAnomalyGuard: the op that made the first number that is not finite, and where it ran.
#include "autograd/anomaly.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/scope.h"
#include "ops/ops.h"
#include "tests/testing.h"

namespace tandem {
using namespace testing;
namespace {

const std::string kPlace = "encoder.1", kOther = "head";

TEST_CASE("anomaly: the op of the forward that makes a NaN, after the one that made an infinity") {
  const Tensor x = tensor({1, -1, 0});
  const auto run = [&] {
    Tensor y;
    {
      const Scope scope(kPlace);
      y = log(relu(x));  // -inf at two places
    }
    const Scope scope(kOther);
    return sum(y * relu(x));
  };
  CHECK(std::isnan(run().item()));  // without the guard it is nobody's error
  const DetectAnomalyGuard guard;
  const std::string message = message_of<NonFiniteError>(run);
  CHECK_MESSAGE(
      message ==
          "log made inf in 2 of 3 elements of f32[3], of finite inputs; in encoder.1; then mul made nan in 2 "
          "of 3 elements of f32[3], of none in its inputs; in head",
      message);
}

TEST_CASE("anomaly: an infinity alone is told, and no error; masks are no one's") {
  const Tensor x = tensor({1, 200});
  const DetectAnomalyGuard guard;
  const Tensor hidden = masked_fill(x, gt(x, 100), -INFINITY);
  CHECK(softmax(hidden, 0).to_vector<float>() == std::vector<float>{1, 0});
  CHECK(guard.first_infinity().empty());
  exp(x);
  CHECK(guard.first_infinity() == "exp made inf in 1 of 2 elements of f32[2], of finite inputs");
}

TEST_CASE("anomaly: the backward of an op, with the module of its forward") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    Tensor x = tensor({4, 0}).to(dtype).detach().requires_grad_();
    const DetectAnomalyGuard guard;
    Tensor y;
    {
      const Scope scope(kPlace);
      y = sqrt(x * x);  // the derivative of sqrt at 0 is infinite, times 0
    }
    const std::string message = message_of<NonFiniteError>([&] { y.sum().backward(); });
    CHECK_MESSAGE(contains(message, "; then the backward of mul made nan in 1 of 2 elements of "), message);
    CHECK_MESSAGE(message.starts_with("the backward of sqrt made inf in 1 of 2 elements of "), message);
    CHECK_MESSAGE(message.ends_with("; in encoder.1"), message);
  }
}

TEST_CASE("anomaly: what no op made is told as such; the guard ends with its scope") {
  const Tensor x = tensor({1, NAN});
  {
    const DetectAnomalyGuard guard;
    check_throws<NonFiniteError>("relu was given nan, which no op before it made", [&] { relu(x); });
    Tensor y = tensor({1}).requires_grad_(), z = y * 2;
    z.register_hook([](const Tensor& g) { return g * NAN; });
    check_throws<NonFiniteError>("affine made nan",
                                 [&] { z.sum().backward(); });  // of the hook's own op: g * NAN
  }
  CHECK(std::isnan(relu(x).to_vector<float>()[1]));
}

TEST_CASE("anomaly: an op's own ops are its own affair, and all passes are counted") {
  const Tensor both = stack_passes({tensor({NAN, 1}), tensor({INFINITY, -INFINITY})});
  const DetectAnomalyGuard guard;
  const Tensor row = tensor({0, -INFINITY});
  CHECK(std::isfinite(log_softmax(row, 0).to_vector<float>()[0]));
  const NonFinite bad = count_non_finite(both);
  CHECK(bad.nan == 1);
  CHECK(bad.infinite == 2);
  CHECK(count_non_finite(tensor({1, 2}).slice(0, 0, 1)).worst() == std::string());
  CHECK(count_non_finite(zeros({2}, {DType::i64})).worst() == std::string());
}

}  // namespace
}  // namespace tandem
