// A number beside a tensor whose dtype does not have it: compared as a number, or refused, never cut.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "autograd/error.h"
#include "ops/ops.h"
#include "tests/testing.h"

using namespace tandem;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr DType kWhole[] = {DType::boolean, DType::u8, DType::i32, DType::i64};
const std::vector<double> kNumbers{
    -kInf,  -0x1p63, -0x1p40, -0x1p31 - 1, -0x1p31,     -1,  -0.5, 0,          0.5,          1,
    1.5,    2,       254.5,   255,         255.5,       256, 300,  0x1p31 - 1, 0x1p31 - 0.5, 0x1p31,
    0x1p40, 0x1p63,  1e300,   kInf,        std::nan("")};

std::vector<double> values_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return {0, 1};
    case DType::u8:
      return {0, 1, 44, 254, 255};
    case DType::i32:
      return {-0x1p31, -1, 0, 1, 2, 300, 0x1p31 - 1};
    default:
      return {-0x1p63, -0x1p40, -1, 0, 1, 2, 300, 0x1p40};
  }
}

Tensor tensor_of(DType dtype) {
  const auto values = values_of(dtype);
  std::vector<int64_t> whole(values.begin(), values.end());
  return from_values(whole, {static_cast<int64_t>(whole.size())}).to(dtype);
}

bool has(DType dtype, double number) {  // said again, from the other side
  for (double value : {number}) {
    if (!(std::abs(value) <= 0x1p63) || value != std::floor(value)) return false;
    if (dtype == DType::boolean) return value == 0 || value == 1;
    if (dtype == DType::u8) return value >= 0 && value <= 255;
    if (dtype == DType::i32) return value >= -2147483648.0 && value <= 2147483647.0;
  }
  return number != 0x1p63;
}

}  // namespace

TEST_CASE("integers are compared with any number as numbers") {
  using Compare = Tensor (*)(const Tensor&, double);
  const std::pair<Compare, bool (*)(double, double)> comparisons[] = {
      {[](const Tensor& x, double y) { return eq(x, y); }, [](double a, double b) { return a == b; }},
      {[](const Tensor& x, double y) { return ne(x, y); }, [](double a, double b) { return a != b; }},
      {[](const Tensor& x, double y) { return lt(x, y); }, [](double a, double b) { return a < b; }},
      {[](const Tensor& x, double y) { return le(x, y); }, [](double a, double b) { return a <= b; }},
      {[](const Tensor& x, double y) { return gt(x, y); }, [](double a, double b) { return a > b; }},
      {[](const Tensor& x, double y) { return ge(x, y); }, [](double a, double b) { return a >= b; }},
  };
  for (DType dtype : kWhole) {
    const auto values = values_of(dtype);
    const Tensor x = tensor_of(dtype);
    for (double number : kNumbers) {
      for (size_t k = 0; k < std::size(comparisons); ++k) {
        if (dtype == DType::boolean && number != 0 && number != 1) {  // what 2 < x < 5 would be
          testing::check_throws<DTypeError>("write (x > 2) & (x < 5)", [&] { comparisons[k].first(x, number); });
          continue;
        }
        const auto got = comparisons[k].first(x, number).to_vector<double>();
        for (size_t i = 0; i < values.size(); ++i) {
          CAPTURE(name_of(dtype));
          CAPTURE(values[i]);
          CAPTURE(number);
          CAPTURE(k);
          CHECK((got[i] != 0) == comparisons[k].second(values[i], number));
        }
      }
    }
  }
}

TEST_CASE("a floating dtype whose numbers end before one is compared with it as a number") {
  for (const auto& [dtype, largest] : {std::pair{DType::f32, 0x1.FFFFFEp127}, {DType::bf16, 0x1.FEp127}}) {
    const std::vector<double> values{-kInf, -largest, -1, 0, largest, kInf, std::nan("")};
    const Tensor x = from_values(values, {static_cast<int64_t>(values.size())}).to(dtype);
    for (double number : {1e300, -1e300, 0x1.FFFFFFp127, 1e38, kInf, -kInf}) {
      const auto is = [&](const Tensor& got, auto holds) {
        const auto each = got.to_vector<double>();
        for (size_t i = 0; i < values.size(); ++i) {
          CAPTURE(name_of(dtype));
          CAPTURE(values[i]);
          CAPTURE(number);
          CHECK((each[i] != 0) == holds(values[i], number));
        }
      };
      is(eq(x, number), [](double a, double b) { return a == b; });
      is(ne(x, number), [](double a, double b) { return a != b; });
      is(lt(x, number), [](double a, double b) { return a < b; });
      is(le(x, number), [](double a, double b) { return a <= b; });
      is(gt(x, number), [](double a, double b) { return a > b; });
      is(ge(x, number), [](double a, double b) { return a >= b; });
    }
  }
}

TEST_CASE("a comparison that no value can change keeps shape and passes") {
  const Tensor x = stack_passes({zeros({2, 3}, {DType::u8}), ones({2, 3}, {DType::u8})});
  const Tensor all = lt(x, 300), none = eq(x, 0.5);
  CHECK(all.shape() == Shape{2, 3});
  CHECK(all.passes() == 2);
  CHECK(all.to(DType::f32).sum().pass(1).item() == 6);
  CHECK(none.to(DType::f32).sum().pass(1).item() == 0);
}

TEST_CASE("a number becomes an element only where the dtype has it") {
  for (DType dtype : kWhole) {
    const Tensor x = tensor_of(dtype), mask = ones({}, {DType::boolean});
    for (double number : kNumbers) {
      CAPTURE(name_of(dtype));
      CAPTURE(number);
      const std::pair<const char*, std::function<Tensor()>> calls[] = {
          {"full", [&] { return full({2}, number, {dtype}); }},
          {"fill_", [&] { return x.clone().fill_(number); }},
          {"masked_fill", [&] { return masked_fill(x, mask, number); }},
          {"pad",
           [&] {
             return pad(x, {1, 0}, number).slice(0, 0, 1);
           }},
          {"arange", [&] { return arange(number, number + 1, 4e3, {dtype}); }},
      };
      for (const auto& [name, call] : calls) {
        if (std::string(name) == "arange" && !(std::abs(number) < 0x1p50))
          continue;  // no values, or an error
        CAPTURE(name);
        if (!has(dtype, number)) {
          CHECK_THROWS_AS(call(), DTypeError);
        } else {
          CHECK(call().to(DType::f64).slice(0, 0, 1).item() == number);
        }
      }
    }
  }
}

TEST_CASE("arithmetic of integers refuses a number that neither they nor their negatives have") {
  for (DType dtype : {DType::u8, DType::i32, DType::i64}) {
    const Tensor x = ones({2}, {dtype});
    for (double number : kNumbers) {
      CAPTURE(name_of(dtype));
      CAPTURE(number);
      const bool fits = has(dtype, number) || has(dtype, -number);
      const std::function<Tensor()> calls[] = {
          [&] { return x + number; }, [&] { return x - number; }, [&] { return x * number; },
          [&] { return x.clone().add_(x, number); }, [&] { return x.clone().mul_(number); }};
      for (const auto& call : calls) {
        if (fits) {
          CHECK_NOTHROW(call());
        } else {
          CHECK_THROWS_AS(call(), DTypeError);
        }
      }
    }
  }
  const Tensor bytes = from_values(std::vector<uint8_t>{3, 200}, {2});
  CHECK((bytes - 3).to_vector<double>() == std::vector<double>{0, 197});
  CHECK((bytes + 55).to_vector<double>() == std::vector<double>{58, 255});
}

TEST_CASE("clamp of integers: bounds that bind are whole, bounds beyond all values are none") {
  const Tensor x = from_values(std::vector<int64_t>{-1, 0, 1}, {3});
  CHECK_THROWS_AS(clamp(x, 0.5, 2.5), DTypeError);
  CHECK_THROWS_AS(clamp(x, 0, 0.5), DTypeError);
  CHECK(clamp(x, 0, kInf).to_vector<double>() == std::vector<double>{0, 0, 1});
  CHECK(clamp(x, -kInf, 0).to_vector<double>() == std::vector<double>{-1, 0, 0});
  const Tensor bytes = from_values(std::vector<uint8_t>{0, 44, 200}, {3});
  CHECK(clamp(bytes, -1, 300).to_vector<double>() == std::vector<double>{0, 44, 200});
  CHECK(clamp(bytes, -1, 100).to_vector<double>() == std::vector<double>{0, 44, 100});
  CHECK_THROWS_AS(clamp(bytes, 300, 400), DTypeError);
  CHECK_THROWS_AS(clamp(bytes, -2, -1), DTypeError);
}

TEST_CASE("whole numbers beyond their dtype wrap around") {
  const Tensor i32 = from_values(std::vector<int32_t>{2147483647, -2147483647 - 1}, {2});
  const Tensor i64 = from_values(std::vector<int64_t>{std::numeric_limits<int64_t>::max()}, {1});
  const auto are = [](const Tensor& x, const std::vector<int64_t>& values) {
    CHECK(x.to_vector<int64_t>() == values);
  };
  are(i32 + 1, {-2147483648, -2147483647});
  are(i32 - i32.flatten().slice(0, 1, 2), {-1, 0});
  are(i32 * i32, {1, 0});
  are(i32 * 3, {2147483645, -2147483648});
  are(i32.clone().add_(i32, 2), {2147483645, -2147483648});
  are(i32.clone().mul_(2), {-2, 0});
  are(i64 + i64, {-2});
  are(i64 * 2, {-2});
}
