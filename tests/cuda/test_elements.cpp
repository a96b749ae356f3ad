// Elementwise work in every dtype: as vectors, one by one, in rows that lie apart, in many dimensions, and
// repeated along some of them; more elements than one block has threads.
#include <doctest/doctest.h>

#include "autograd/engine.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kAll[] = {DType::boolean, DType::u8,  DType::i32, DType::i64,
                          DType::bf16,    DType::f32, DType::f64};
constexpr DType kNumbers[] = {DType::u8, DType::i32, DType::i64, DType::bf16, DType::f32, DType::f64};
constexpr DType kFloats[] = {DType::bf16, DType::f32, DType::f64};

// x in eight dimensions, none of which merge.
Tensor reversed(const Tensor& x) {
  return x.reshape({3, 3, 2, 3, 2, 2, 2, 4}).permute({7, 6, 5, 4, 3, 2, 1, 0});
}

// Ways in which x [3, 3, 6, 32] lies in memory when it is looked at.
struct Layout {
  const char* name;
  Tensor (*of)(const Tensor&);
};
const Layout kLayouts[] = {
    {"dense", [](const Tensor& x) { return x; }},
    {"flat, of no vectors", [](const Tensor& x) { return x.flatten().slice(0, 1, 1726); }},
    {"rows apart", [](const Tensor& x) { return x.slice(3, 0, 16); }},
    {"four dimensions, every second of the last",
     [](const Tensor& x) { return x.slice(3, 1, 31, 2).slice(2, 1, 5); }},
    {"columns first",
     [](const Tensor& x) {
       return x.permute({3, 1, 0, 2});
     }},
    {"a row repeated",
     [](const Tensor& x) {
       return x.slice(0, 1, 2).slice(2, 2, 3).expand({3, 3, 6, 32});
     }},
    {"eight dimensions", reversed},
    {"eight dimensions, vectors",
     [](const Tensor& x) {
       return x.reshape({3, 3, 2, 3, 1, 2, 2, 8}).permute({6, 5, 4, 3, 2, 1, 0, 7});
     }},
    {"an element repeated",
     [](const Tensor& x) {
       return x.slice(3, 2, 3).expand({3, 3, 6, 32});
     }},
};
const Shape kShape{3, 3, 6, 32};

// x and another pass.
Tensor two_passes(const Tensor& x) { return stack_passes({x, flip(x, {3})}); }

// f of every layout of all inputs, and of the first input in it beside others that are dense.
void check_layouts(const Tensors& inputs, const Function& f, double tolerance) {
  for (const Layout& layout : kLayouts) {
    INFO(std::string(layout.name), " ", std::string(describe(inputs[0])));
    const auto laid_out = [&](const Tensors& in) {
      Tensors views;
      for (const Tensor& x : in) views.push_back(layout.of(x));
      return f(views);
    };
    agree(inputs, laid_out, {tolerance, 0, false});
    if (inputs.size() < 2 || layout.of(inputs[0]).shape() != kShape) continue;
    const auto mixed = [&](const Tensors& in) {
      Tensors views = in;
      views.back() = layout.of(in.back());
      return f(views);
    };
    agree(inputs, mixed, {tolerance, 0, false});
  }
  // The passes are a dimension, too.
  Tensors passes = inputs;
  passes.back() = two_passes(inputs.back());
  agree(passes,
        [&](const Tensors& in) {
          Tensors views;
          for (const Tensor& x : in) views.push_back(reversed(x));
          return f(views);
        },
        {tolerance, 0, false});
}

// x of 2048 elements as so many dimensions that do not merge, the last of them dense: vectors where x is
// aligned.
Tensor in_dims(const Tensor& x, int dims) {
  if (dims == 1) return x;
  if (dims == 2) return x.reshape({128, 16}).slice(1, 0, 8);
  Shape sizes, order;
  for (int d = 0; d < dims - 2; ++d) sizes.push_back(2);
  sizes.push_back(2048 / 8 >> (dims - 2)), sizes.push_back(8);
  for (int d = dims - 2; d >= 0; --d) order.push_back(d);
  order.push_back(dims - 1);
  return x.reshape(sizes).permute(order);
}

double tolerance_of(DType dtype) { return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 2e-6 : 1e-2; }

}  // namespace

TEST_CASE("elements: of one operand and of two, in every dtype and layout") {
  for (const DType dtype : kNumbers) {
    const Tensor a = random_values(kShape, dtype, 1), b = random_values(kShape, dtype, 2);
    for (const auto& f : {add, sub, mul, maximum, minimum})
      check_layouts(
          {a, b}, [f](const Tensors& in) { return f(in[0], in[1]); }, 0);
    check_layouts(
        {a}, [](const Tensors& in) { return affine(in[0], 3, 2); },
        is_floating(dtype) ? tolerance_of(dtype) : 0);
  }
  for (const DType dtype : kFloats) {
    const Tensor a = (abs(random_values(kShape, dtype, 1)) + 0.5).detach(),
                 b = random_values(kShape, dtype, 2);
    const double tolerance = tolerance_of(dtype);
    check_layouts(
        {a, b}, [](const Tensors& in) { return pow(in[0], in[1]); }, tolerance);
    check_layouts(
        {b, a}, [](const Tensors& in) { return div(in[0], in[1]); }, tolerance);
    check_layouts(
        {a}, [](const Tensors& in) { return pow(in[0], 2.5); }, tolerance);
    check_layouts(
        {b}, [](const Tensors& in) { return gelu(in[0]); }, tolerance);
  }
}

TEST_CASE("elements: comparisons, choices and conversions, in every dtype and layout") {
  for (const DType dtype : kAll) {
    const Tensor a = random_values(kShape, dtype, 3), b = random_values(kShape, dtype, 4),
                 chosen = random_values(kShape, DType::boolean, 5);
    using Predicate = Tensor (*)(const Tensor&, const Tensor&);
    for (const Predicate f : {Predicate{eq}, Predicate{ne}, Predicate{lt}, Predicate{le}, Predicate{gt},
                              Predicate{ge}, Predicate{logical_and}, Predicate{logical_or}})
      check_layouts(
          {a, b}, [f](const Tensors& in) { return f(in[0], in[1]); }, 0);
    check_layouts(
        {chosen, a, b}, [](const Tensors& in) { return where(in[0], in[1], in[2]); }, 0);
    // What a negative number becomes as u8 is not said anywhere.
    const Tensor positive = is_floating(dtype) ? abs(a) : a;
    for (const DType to : kAll)
      check_layouts(
          {positive}, [to](const Tensors& in) { return in[0].to(to).clone(); }, 0);
  }
}

TEST_CASE("elements: in place, in every dtype and layout") {
  for (const DType dtype : kAll) {
    const Tensor a = random_values(kShape, dtype, 6), b = random_values(kShape, dtype, 7);
    const auto in_place = [&](const std::function<void(const Tensor&, const Tensor&)>& work) {
      for (const Layout& layout : kLayouts) {
        if (layout.of(a).strides()[0] == 0 || layout.of(a).strides().back() == 0)
          continue;  // elements are shared
        INFO(std::string(layout.name), " ", std::string(describe(a)));
        agree({a, b},
              [&](const Tensors& in) {
                const Tensor target = in[0].clone();
                work(layout.of(target), layout.of(in[1]));
                return target;
              },
              {0, 0, false});
      }
      agree({two_passes(a), two_passes(b)},
            [&](const Tensors& in) {
              const Tensor target = in[0].clone();
              work(reversed(target), reversed(in[1]));
              return target;
            },
            {0, 0, false});
    };
    in_place([](const Tensor& x, const Tensor&) { x.fill_(1); });
    in_place([](const Tensor& x, const Tensor& y) { x.copy_(y); });
    if (dtype == DType::boolean) continue;
    in_place([](const Tensor& x, const Tensor& y) { x.add_(y); });
    in_place([](const Tensor& x, const Tensor& y) { x.add_(y, 2); });
    in_place([](const Tensor& x, const Tensor&) { x.mul_(2); });
  }
}

TEST_CASE("elements: functions and their derivatives of both orders, in one dimension to eight") {
  using Unary = Tensor (*)(const Tensor&);
  const Unary functions[] = {abs,
                             square,
                             reciprocal,
                             exp,
                             expm1,
                             log,
                             log1p,
                             sqrt,
                             rsqrt,
                             sin,
                             cos,
                             erf,
                             relu,
                             [](const Tensor& x) { return leaky_relu(x); },
                             [](const Tensor& x) { return elu(x); },
                             tanh,
                             sigmoid,
                             silu,
                             softplus,
                             [](const Tensor& x) { return gelu(x); },
                             [](const Tensor& x) { return gelu(x, Approximate::tanh); }};
  for (const DType dtype : kFloats) {
    const Tensor x = (abs(random_values({2048}, dtype, 8)) + 0.5).detach(),
                 v = random_values({2048}, dtype, 9);
    for (size_t k = 0; k < std::size(functions); ++k) {
      for (int dims = 1; dims <= 8; ++dims) {
        INFO("function ", k, " of ", std::string(name_of(dtype)), " in ", dims, " dimensions");
        agree({x, v},
              [&](const Tensors& in) {
                const Tensor view = in_dims(in[0], dims), y = functions[k](view);
                const Tensor slope =
                    grad(y, {view}, in_dims(in[1].detach(), dims), {.create_graph = true})[0];
                return concat({y.flatten(), slope.flatten()});
              },
              {tolerance_of(dtype), 4 * tolerance_of(dtype), true});
      }
    }
  }
}
