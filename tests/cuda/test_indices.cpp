// Sorting, gathering and scattering on the device, for lines that take one block and those that take many;
// and what becomes of indices that are out of range.
#include <doctest/doctest.h>

#include <limits>

#include "ops/loops/index.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kAll[] = {DType::boolean, DType::u8,  DType::i32, DType::i64,
                          DType::bf16,    DType::f32, DType::f64};
constexpr DType kFloats[] = {DType::bf16, DType::f32, DType::f64};

double tolerance_of(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 1e-5 : 1e-2; }

Function sorted(int64_t dim, bool descending) {
  return [=](const Tensors& in) { return argsort(in[0], dim, descending); };
}

}  // namespace

TEST_CASE("device: rows of every length and dtype are sorted, equal values in their order") {
  for (const DType dtype : kAll) {
    const Tensor x = random_values({3, 150}, dtype, 21);
    agree({x}, sorted(1, false), {});
    agree({x}, sorted(0, true), {});
    agree({random_values({2, 2100}, dtype, 22)}, sorted(1, true), {});  // several tiles
  }
  for (const DType dtype : {DType::f32, DType::i64}) {
    for (const int64_t n : {1, 2, 3, 31, 32, 33, 511, 512, 513, 1023, 1024, 1025, 2048, 2049, 5000}) {
      INFO(std::string(name_of(dtype)), " x ", n);
      agree({random_values({2, n}, dtype, n)}, sorted(1, n % 2 == 0), {});
    }
  }
  agree({random_values({700, 3}, DType::f32, 5)}, sorted(1, false), {});
}

TEST_CASE("device: NaN is the largest, -0 is 0") {
  for (const DType dtype : kFloats) {
    const Tensor x = random_values({1, 90}, dtype, 22);
    x.slice(1, 3, 80, 9).fill_(std::numeric_limits<double>::quiet_NaN());
    x.slice(1, 4, 80, 8).fill_(0.0);
    x.slice(1, 5, 80, 16).fill_(-0.0);
    x.slice(1, 10, 12).fill_(std::numeric_limits<double>::infinity());
    for (const bool descending : {false, true}) agree({x}, sorted(1, descending), {});
  }
}

TEST_CASE("device: topk, in order of value and of position") {
  for (const DType dtype : kFloats) {
    const Tensor x = random_values({3, 1500}, dtype, 23);
    for (const bool in_order : {true, false}) {
      for (const bool largest : {true, false}) {
        agree({x}, [=](const Tensors& in) { return topk(in[0], 37, 1, largest, in_order).values; }, {});
        agree({x}, [=](const Tensors& in) { return topk(in[0], 2, 0, largest, in_order).indices; }, {});
      }
    }
  }
}

TEST_CASE("device: gather of rows, columns and elements") {
  for (const DType dtype : kAll) {
    const Tensor x = random_values({9, 6, 16}, dtype, 24);
    for (int64_t dim = 0; dim < 3; ++dim) {
      const Tensor line = random_index({13}, x.size(dim), 25);
      agree({x, line}, [=](const Tensors& in) { return index_select(in[0], dim, in[1]); },
            {0, tolerance_of(dtype), true});
      Shape shape{5, 4, 7};
      const Tensor index = random_index(shape, x.size(dim), 26);
      agree({x, index}, [=](const Tensors& in) { return gather(in[0], dim, in[1]); },
            {0, tolerance_of(dtype), true});
    }
  }
}

TEST_CASE("device: scatter and scatter_add, where many values meet in one element") {
  for (const int64_t count : {3, 33, 200, 1500}) {
    for (const int64_t size : {1, 5, 300}) {
      for (int64_t dim = 0; dim < 2; ++dim) {
        const auto shape = [dim](int64_t along, int64_t other) {
          return dim == 0 ? Shape{along, other} : Shape{other, along};
        };
        const Tensor index = random_index(shape(count, 3), size, count + size);
        INFO(count, " values into ", size, " along dim ", dim);
        for (const DType dtype : {DType::f32, DType::bf16, DType::i32}) {
          const double tolerance = dtype == DType::i32 ? 0 : tolerance_of(dtype);
          const Tensor x = random_values(shape(size, 3), dtype, 1),
                       src = random_values(shape(count, 3), dtype, 2);
          agree({x, index, src}, [=](const Tensors& in) { return scatter(in[0], dim, in[1], in[2]); }, {});
          agree({x, index, src}, [=](const Tensors& in) { return scatter_add(in[0], dim, in[1], in[2]); },
                {tolerance, 0, true});
        }
        const Tensor line = random_index({count}, size, count);
        agree({random_values(shape(size, 8), DType::f32, 3), line},
              [=](const Tensors& in) { return index_select(in[0], dim, in[1]); }, {0, 1e-5, true});
      }
    }
  }
}

TEST_CASE("device: indices and values of several passes") {
  const Tensor x = several_passes(random_values({20, 8}, DType::f32, 1), 3, 2);
  const Tensor index = random_index({50, 8}, 20, 3), line = random_index({40}, 20, 4);
  agree({x, index}, [](const Tensors& in) { return gather(in[0], 0, in[1]); }, {0, 1e-5, true});
  agree({x, line}, [](const Tensors& in) { return index_select(in[0], 0, in[1]); }, {0, 1e-5, true});
  agree({x}, [](const Tensors& in) { return sort(in[0], 0).values; }, {});
  agree({x}, [](const Tensors& in) { return cumsum(in[0], 0) + amax(in[0], {1}, true); }, {1e-5, 1e-5, true});
}

TEST_CASE("device: embedding and its gradient, for rows of many positions and of none") {
  for (const DType dtype : kFloats) {
    for (const int64_t width : {1, 3, 8, 64, 130, 260}) {
      INFO(std::string(name_of(dtype)), " x ", width);
      const Tensor table = random_values({11, width}, dtype, 31);
      const Tensor index = random_index({4, 60}, 9, 32);  // rows 9 and 10 are not read
      index.slice(1, 10, 40).fill_(4);                    // and row 4 very often
      for (const int64_t padding : {-1, 4}) {
        agree({table, index}, [=](const Tensors& in) { return embedding(in[0], in[1], padding); },
              {0, tolerance_of(dtype), true});
      }
    }
  }
  agree({random_values({3000, 4}, DType::f32, 33), random_index({2500}, 3000, 34).to(DType::i32)},
        [](const Tensors& in) { return embedding(in[0], in[1]); }, {0, 1e-5, true});
  const Tensor passes = several_passes(random_values({5, 8}, DType::f32, 35), 2, 36);
  agree({passes, random_index({7}, 5, 37)}, [](const Tensors& in) { return embedding(in[0], in[1]); },
        {0, 1e-5, true});
}

TEST_CASE("device: embedding's gradient where all rows are long, and where the positions are many tiles") {
  for (const DType dtype : kFloats) {
    const Comparison comparison{0, tolerance_of(dtype), true};
    const auto look_up = [](const Tensors& in) { return embedding(in[0], in[1]); };
    for (const int64_t width : {64, 264}) {
      INFO(std::string(name_of(dtype)), " x ", width);
      agree({random_values({3, width}, dtype, 38), random_index({500}, 3, 39)}, look_up, comparison);
    }
    agree({random_values({3000, 2}, dtype, 40), random_index({4300}, 3000, 41)}, look_up, comparison);
    agree(
        {random_values({700, 2}, dtype, 40), random_index({4300}, 700, 41)},
        [](const Tensors& in) { return index_select(in[0], 0, in[1]); }, comparison);
  }
}

TEST_CASE("device: the first bad index is found at any place, by one block and by many") {
  const int64_t most = 530 * (int64_t{1} << 14);  // for more than 512 blocks
  const Tensor index = zeros({most}, {DType::i64, device()});
  // Index `value` at `place`, and a later one that is not the first.
  const auto check = [&](int64_t n, int64_t place, int64_t value) {
    INFO("index ", value, " at ", place, " of ", n);
    const Tensor these = index.slice(0, 0, n);
    these.select(0, place).fill_(static_cast<double>(value));
    if (place + 1 < n) these.select(0, n - 1).fill_(-77);
    detail::checked_index("test", these, 9);
    CHECK_THROWS_WITH_AS(backend(device()).synchronize(),
                         fmt::format("test: index {} is out of range for size 9", value).c_str(), ValueError);
    these.select(0, place).fill_(0), these.select(0, n - 1).fill_(0);
  };
  int64_t value = 9;  // the first that is out of range
  for (const int64_t n : {1, 33, 1100, 9000, 16384})
    for (const int64_t place : {0, 1, 2, 5, 9, 17, 32, 67, 130, 258, 516, 1000, 1023, 1025, 3000, 5000, 8000})
      if (place < n) check(n, place, value), value = value < 20 ? value + 1 : 9;
  for (const int64_t block : {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512})
    check((block + 2) << 14, (block << 14) + 37 * block, 9);
  for (const int64_t more : {1, 700, 1500, 2600, 5000})  // the last block has less than others
    check((3 << 14) + more, (3 << 14) + more / 2, 9);
}

TEST_CASE("device: an index out of range is thrown when the host waits for the device, and no later") {
  const Tensor table = random_values({4, 3}, DType::f32, 41).to(device());
  const auto indices = [](std::vector<int64_t> values) {
    return from_values(values, {static_cast<int64_t>(values.size())}).to(device());
  };
  const Tensor y = embedding(table, indices({0, 4, -7}));
  const Tensor z = gather(table, 0, indices({1, 9, 2}).reshape({1, 3}));
  CHECK_THROWS_WITH_AS(y.to_vector<float>(), "embedding: index 4 is out of range for size 4", ValueError);
  // The first is the one that is thrown; then all is as before.
  CHECK(y.slice(0, 0, 1).to_vector<float>() == table.slice(0, 0, 1).to_vector<float>());
  CHECK(y.slice(0, 1, 3).to_vector<float>() == std::vector<float>(6, 0));
  CHECK(z.to_vector<float>()[1] == 0);
  embedding(table, indices({3, -1}));
  CHECK_THROWS_WITH_AS(backend(device()).synchronize(), "embedding: index -1 is out of range for size 4",
                       ValueError);
  CHECK_NOTHROW(backend(device()).synchronize());

  // Many indices are looked at by many blocks; the first bad one counts.
  const Tensor many = random_index({200001}, 4, 42);
  many.slice(0, 150000, 150001).fill_(17);
  many.slice(0, 199999, 200001).fill_(-3);
  one_hot(many.to(device()), 4, DType::u8);
  CHECK_THROWS_WITH_AS(backend(device()).synchronize(), "one_hot: index 17 is out of range for size 4",
                       ValueError);

  const Tensor target = zeros({4, 3}, {DType::f32, device()});
  for (const int64_t count : {2, 40}) {  // values that have no place change nothing
    const Tensor index = random_index({count, 3}, 4, 43);
    index.slice(0, 0, 1).fill_(4);
    const Tensor src = ones({count, 3});
    const Tensor expected = scatter_add(zeros({4, 3}), 0, index.slice(0, 1, count), src.slice(0, 1, count));
    const Tensor result = scatter_add(target, 0, index.to(device()), src.to(device()));
    CHECK_THROWS_WITH_AS(backend(device()).synchronize(), "scatter_add: index 4 is out of range for size 4",
                         ValueError);
    CHECK(result.to_vector<float>() == expected.to_vector<float>());
  }
}
