// y = f(z), z = x W^T + b; with the cotangent g of y:
//   dz = g f'(z),  dx = dz W,  dW = dz^T x,  db = the sum of dz's rows
// All rows of all passes and samples are one matrix, so each product is ONE 2-d product. Where nothing is
// recorded, b and f run in the product's epilogue. A recorded relu does too (f'(z) follows from y); gelu
// keeps z for the backward. dz and db are made in one sweep over memory.
#include "ops/linear.h"

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/detail/cached_cast.h"
#include "ops/detail/linear_sweep.h"
#include "ops/detail/loop.h"
#include "ops/detail/matrix.h"
#include "ops/matmul.h"

namespace tandem {
namespace {

Tensor activate(const Tensor& z, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return relu(z);
    case Activation::gelu:
      return gelu(z);
    case Activation::gelu_tanh:
      return gelu(z, Approximate::tanh);
    default:
      return z;
  }
}

detail::Epilogue epilogue(Activation activation) {
  switch (activation) {
    case Activation::relu:
      return detail::Epilogue::relu;
    case Activation::gelu:
      return detail::Epilogue::gelu;
    case Activation::gelu_tanh:
      return detail::Epilogue::gelu_tanh;
    default:
      return detail::Epilogue::none;
  }
}

// One row: dz = g f'(z), added to sums where there are any. Flat, so that f' does not make the loop scalar.
template <class F, class T, class A>
[[gnu::noinline, gnu::flatten]] void sweep_row(const T* g, const T* z, T* dz, A* sums, int64_t cols) {
  using C = compute_t<T>;
  if constexpr (std::is_same_v<F, detail::SlopeNone>) {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) sums[j] += static_cast<C>(g[j]);
  } else if (sums) {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) {
      const C value = static_cast<C>(g[j]) * F::slope(static_cast<C>(z[j]));
      dz[j] = value;
      sums[j] += value;
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) dz[j] = static_cast<C>(g[j]) * F::slope(static_cast<C>(z[j]));
  }
}

// Rows are summed in fixed chunks, in order.
template <class F, class T>
void sweep(const detail::LinearSweep<T>& args) {
  using A = accumulate_t<T>;
  A* const db = args.sums;
  const int64_t rows = args.rows, cols = args.cols;
  const int64_t chunk = std::max({int64_t{1}, detail::kGrain / std::max<int64_t>(cols, 1), (rows + 63) / 64});
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const Tensor partial = zeros({db ? chunks : 0, cols}, {dtype_of<A>});
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      A* sums = db ? partial.data<A>() + c * cols : nullptr;
      for (int64_t row = c * chunk; row < std::min(rows, (c + 1) * chunk); ++row) {
        T* dz = args.dz ? args.dz + row * cols : nullptr;
        sweep_row<F>(args.g + row * cols, args.z + row * cols, dz, sums, cols);
      }
    }
  });
  if (!db) return;
  parallel_for(cols, 4096, [&](int64_t begin, int64_t end) {
    std::fill(db + begin, db + end, A(0));
    for (int64_t c = 0; c < chunks; ++c) {
      const A* sums = partial.data<A>() + c * cols;
#pragma omp simd
      for (int64_t j = begin; j < end; ++j) db[j] += sums[j];
    }
  });
}

struct Linear final : Op {
  static constexpr bool batches_passes = true;
  Activation activation;
  DType dtype;  // of the product
  bool has_bias = false;
  Linear(Activation activation, DType dtype) : activation(activation), dtype(dtype) {}
  const char* name() const override { return "linear"; }

  Tensor forward(const Tensors& in) override {
    const Tensor &x = in[0], &weight = in[1];
    Shape shape = x.shape();
    shape[x.dim() - 1] = weight.shape()[0];
    const Tensor y = output(shape, dtype, x.device());
    const Tensor bias = in[2].defined() ? dense(bias_for(y, in[2])) : Tensor();
    const bool keeps_z = recording() && activation >= Activation::gelu;
    // A device's product can write z beside y; it knows the one gelu only.
    const bool writes_both = keeps_z && activation == Activation::gelu_tanh && y.device() != kCpu;
    const Tensor z = writes_both ? empty_like(y) : y;
    const auto f = keeps_z && !writes_both ? detail::Epilogue::none : epilogue(activation);
    detail::matmul_on(y, {.a = detail::as_matrix(detail::fold_rows(x.to(dtype))),
                          .b = detail::transposed(detail::as_matrix(detail::cached_cast(weight, dtype))),
                          .c = detail::as_matrix(detail::fold_rows(y)),
                          .bias = bias.defined() ? bias.device_raw() : nullptr,
                          .bias_dtype = bias.defined() ? bias.dtype() : DType::f32,
                          .epilogue = f,
                          .preactivation = writes_both ? z.device_raw() : nullptr});
    save(x), save(weight);
    has_bias = in[2].defined();
    if (has_bias) save(in[2]);
    if (writes_both) return save(z), y;
    if (keeps_z) return activate(save(z), activation);
    return activation == Activation::relu ? save_output(y) : y;
  }

  // The CPU's product takes an f32 bias beside bf16; a device's takes the output's dtype.
  static Tensor bias_for(const Tensor& y, const Tensor& bias) {
    if (y.device() != kCpu) return detail::cached_cast(bias, y.dtype());
    return y.dtype() == DType::f64 ? bias.to(DType::f64) : bias;
  }

  Tensors vjp(const Tensor& g) override {
    const Tensor x = saved(0), weight = saved(1);
    Tensor dz = g, dbias, dweight;
    const DType bias_dtype = dtype == DType::bf16 ? DType::f32 : dtype;
    // A device's product makes the bias' gradient beside the weight's.
    const bool both = !grad_enabled() && activation == Activation::none && needs(1) && needs(2) &&
                      g.device() != kCpu && weight.dtype() == bias_dtype;
    if (grad_enabled()) {  // recorded, so in terms of other ops
      if (activation != Activation::none) {
        const Tensor z = linear(x, weight, has_bias ? saved(2) : Tensor());
        dz = grad(activate(z, activation), {z}, g, {.create_graph = true})[0];
      }
      dbias = dz;
    } else if (both) {
      std::tie(dweight, dbias) = parameter_gradients(g, x, weight);
    } else if (activation != Activation::none || needs(2)) {
      const Tensor cotangent = dense(g);
      if (needs(2)) dbias = empty({weight.size(0)}, {bias_dtype, g.device()});
      if (activation != Activation::none) dz = empty_like(cotangent);
      differentiate(cotangent, dz, dbias);
    }
    if (needs(1) && !dweight.defined())
      dweight = matmul(detail::fold_rows(dz).t(), detail::fold_rows(x.to(dtype)), weight.dtype());
    const Tensor w = grad_enabled() ? weight.to(dtype) : detail::cached_cast(weight, dtype);
    return {needs(0) ? matmul(dz, w) : Tensor(), dweight, dbias};
  }

  // dz^T x and the sums of dz^T's rows.
  std::pair<Tensor, Tensor> parameter_gradients(const Tensor& dz, const Tensor& x,
                                                const Tensor& weight) const {
    const Tensor dweight = empty(weight.shape(), {weight.dtype(), dz.device()});
    const Tensor dbias = empty({weight.size(0)}, {weight.dtype(), dz.device()});
    detail::matmul_on(dweight, {.a = detail::transposed(detail::as_matrix(detail::fold_rows(dz))),
                                .b = detail::as_matrix(detail::fold_rows(x.to(dtype))),
                                .c = detail::as_matrix(dweight),
                                .row_sums = dbias.device_raw()});
    return {dweight, dbias};
  }

  void differentiate(const Tensor& g, const Tensor& dz, const Tensor& dbias) const {
    const int64_t cols = g.shape().back(), rows = cols ? g.numel() / cols * g.passes() : 0;
    const Tensor z = activation == Activation::none ? g : saved(2 + has_bias).detach();
    dispatch_floating(name(), dtype, [&]<class T>() {
      using A = accumulate_t<T>;
      A* db = dbias.defined() ? dbias.device_data<A>() : nullptr;
      T* out = activation == Activation::none ? nullptr : dz.device_data<T>();
      const detail::LinearSweep<T> args{
          epilogue(activation), g.device_data<T>(), z.device_data<T>(), out, db, false, rows, cols, cols};
      if (run_on_device(g, args)) return;
      switch (activation) {
        case Activation::none:
          return sweep<detail::SlopeNone>(args);
        case Activation::relu:
          return sweep<detail::SlopeRelu>(args);
        case Activation::gelu:
          return sweep<detail::SlopeGelu<detail::GeluExact>>(args);
        case Activation::gelu_tanh:
          return sweep<detail::SlopeGelu<detail::GeluTanh>>(args);
      }
    });
  }
};

DType result_dtype(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const DType parameters = bias.defined() ? promote(weight.dtype(), bias.dtype()) : weight.dtype();
  return x.dtype() == DType::bf16 && parameters == DType::f32 ? DType::bf16 : promote(x.dtype(), parameters);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  for (const Tensor* t : {&x, &weight, &bias}) {
    check<DTypeError>((t == &bias && !t->defined()) || is_floating(t->dtype()),
                      "linear: expected floating dtypes (bf16, f32, f64), got x {}, weight {}, bias {}",
                      describe(x), describe(weight), describe(bias));
  }
  check<ShapeError>(weight.dim() == 2, "linear: expected a weight [out, in], got {}", describe(weight));
  check<ShapeError>(x.dim() > 0 && x.size(-1) == weight.size(1),
                    "linear: x {} does not fit weight {}, expected x [..., {}]", describe(x),
                    describe(weight), weight.size(1));
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0)},
                    "linear: bias {} does not fit weight {}, expected [{}]", describe(bias), describe(weight),
                    weight.size(0));
  const DType dtype = result_dtype(x, weight, bias);
  if (weight.passes() > 1 || (bias.defined() && bias.passes() > 1)) {
    const Tensor z = matmul(x.to(dtype), weight.to(dtype).t());
    return activate(bias.defined() ? z + bias.to(dtype) : z, activation);
  }
  return apply<Linear>({x, weight, bias}, activation, dtype);
}

namespace {

Samples samples(SampleMaker& make) {
  auto with = [](Activation activation) {
    return [activation](const Tensors& in) {
      return linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor(), activation);
    };
  };
  // relu's sample stays away from its kink: |x W^T| < 0.12 beside |bias| > 0.2.
  return {
      {"rows", {make.normal({2, 3}), make.normal({4, 3}), make.normal({4})}, with(Activation::none)},
      {"no bias", {make.normal({2, 3}), make.normal({4, 3})}, with(Activation::none)},
      {"vector", {make.normal({3}), make.normal({4, 3}), make.normal({4})}, with(Activation::none)},
      {"sequence", {make.normal({2, 2, 3}), make.normal({2, 3}), make.normal({2})}, with(Activation::none)},
      {"empty", {make.normal({0, 3}), make.normal({4, 3}), make.normal({4})}, with(Activation::none)},
      {"no inputs", {make.normal({2, 0}), make.normal({3, 0}), make.normal({3})}, with(Activation::gelu)},
      {"relu",
       {make.uniform({2, 3}, -0.2, 0.2), make.uniform({4, 3}, -0.2, 0.2), make.away_from_zero({4})},
       with(Activation::relu)},
      {"gelu", {make.normal({2, 2, 3}), make.normal({4, 3}), make.normal({4})}, with(Activation::gelu)},
      {"gelu without bias", {make.normal({2, 3}), make.normal({4, 3})}, with(Activation::gelu)},
      {"gelu_tanh",
       {make.normal({2, 3}), make.normal({4, 3}), make.normal({4})},
       with(Activation::gelu_tanh)},
      {"transposed",
       {make.normal({3, 2}), make.normal({3, 4}), make.normal({4})},
       [](const Tensors& in) { return linear(in[0].t(), in[1].t(), in[2]); }},
  };
}

const RegisterOp registered{
    {.name = "linear", .samples = samples, .errors = [] {
       return ErrorSamples{
           fails<ShapeError>("inner", "linear: x f32[2,3] does not fit weight f32[4,5], expected x [..., 5]",
                             [] {
                               linear(zeros({2, 3}), zeros({4, 5}));
                             }),
           fails<ShapeError>("bias", "linear: bias f32[3] does not fit weight f32[4,3], expected [4]",
                             [] {
                               linear(zeros({2, 3}), zeros({4, 3}), zeros({3}));
                             }),
           fails<ShapeError>("weight", "linear: expected a weight [out, in], got f32[3]",
                             [] {
                               linear(zeros({2, 3}), zeros({3}));
                             }),
           fails<DTypeError>("i64", "linear: expected floating dtypes (bf16, f32, f64), got x i64[2,3]", [] {
             linear(zeros({2, 3}, {DType::i64}), zeros({4, 3}));
           })};
     }}};

}  // namespace
}  // namespace tandem
