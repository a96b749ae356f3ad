// z = h W^T + b for some units at a time: with dz the loss's gradient there, made in place of z,
//   dh = dz W,  dW += dz^T h,  db += the sum of dz's rows
// so that logits of all units and passes never exist at once. All sums over units are made in order.
#include <cmath>
#include <optional>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/linear_kernel.h"
#include "ops/loops/loop.h"
#include "ops/products/cached_cast.h"
#include "ops/products/matrix.h"
#include "ops/rdrop/device.h"
#include "ops/rdrop/rdrop.h"

namespace tandem {
namespace {

using detail::MatrixBatch;
using detail::RDropOnDevice;
using detail::RDropOutcome;
using detail::RDropUnits;

constexpr const char* kName = "linear_rdrop_cross_entropy";
// Of logits: on a CPU large products that stay near the caches, on a device enough work for all of it.
constexpr int64_t kChunkBytes = int64_t{4} << 20, kDeviceChunkBytes = int64_t{64} << 20;
constexpr int64_t kChunkRows = 256;  // at least, of all passes: each chunk reads the weight and adds to dW

struct LinearRDrop final : Op {
  RDropOptions options;
  RDropUnits units;
  int copies;             // passes for which one of hidden stands
  RDropOutcome* outcome;  // receives the parts during forward()
  int dhidden_at = -1, dweight_at = -1, dbias_at = -1;
  LinearRDrop(const RDropOptions& options, const RDropUnits& units, int copies, RDropOutcome* outcome)
      : options(options), units(units), copies(copies), outcome(outcome) {}
  const char* name() const override { return kName; }
  bool first_order_only() const override { return true; }

  Tensor forward(const Tensors& in) override {
    set_passes(1);
    const Tensor loss = in[0].dtype() == DType::f64 ? run<double>(in) : run<float>(in);
    outcome = nullptr;
    return loss;
  }

  // L: of logits, and of the gradients of weight and bias.
  template <class L>
  Tensor run(const Tensors& in) {
    const DType dtype = in[0].dtype();
    const Tensor hidden = dense(in[0]), weight = dense(detail::cached_cast(in[1], dtype));
    const Tensor bias = in[2].defined() ? dense(in[2].to(dtype_of<L>)) : Tensor();
    const int m = hidden.passes();
    const int64_t dim = weight.size(1), classes = weight.size(0), count = hidden.numel() / dim;
    int saved_count = 0;
    auto gradient = [&](int i, int& at, DType type, bool zero) {
      if (!recording() || !in[i].defined() || !in[i].requires_grad()) return Tensor();
      at = saved_count++;
      const Tensor result = empty(in[i].shape(), {type, in[i].device()}, in[i].passes());
      return save(zero ? result.zero_() : result);
    };
    const Tensor dhidden = gradient(0, dhidden_at, dtype, false),
                 dweight = gradient(1, dweight_at, dtype_of<L>, true),
                 dbias = gradient(2, dbias_at, dtype_of<L>, true);

    const int64_t unit_bytes = m * classes * static_cast<int64_t>(sizeof(L));
    const int64_t fewest = std::max<int64_t>(1, kChunkRows / m);
    const int64_t bytes = hidden.device() == kCpu ? kChunkBytes : kDeviceChunkBytes;
    const int64_t chunk = std::min(std::max(bytes / unit_bytes, fewest), std::max<int64_t>(1, count));
    const Tensor logits = empty({chunk, classes}, {dtype_of<L>, hidden.device()}, m);
    const bool differentiates = saved_count > 0;
    auto matrix = [](const Tensor& x, int pass, int64_t row, int64_t rows) {
      const int64_t cols = x.size(-1);
      char* data =
          static_cast<char*>(x.device_raw()) + (pass * x.pass_stride() + row * cols) * size_of(x.dtype());
      return MatrixBatch{data, x.dtype(), rows, cols, cols, 1, 0};
    };
    std::optional<RDropOnDevice> device;
    if (hidden.device() != kCpu)
      device.emplace(detail::RDropCaller::linear_rdrop, options, units, logits, count, classes);
    for (int64_t begin = 0; begin < count; begin += chunk) {
      const int64_t n = std::min(chunk, count - begin);
      for (int i = 0; i < m; ++i) {
        detail::matmul_on(logits, {.a = matrix(hidden, i, begin, n),
                                   .b = detail::transposed(matrix(weight, 0, 0, classes)),
                                   .c = matrix(logits, i, 0, n),
                                   .bias = bias.defined() ? bias.device_raw() : nullptr,
                                   .bias_dtype = dtype_of<L>});
      }
      const detail::PassRows<L> rows{logits.device_data<L>(), logits.pass_stride(), classes};
      const detail::PassRows<L> slopes = differentiates ? rows : detail::PassRows<L>{};
      if (device) {
        device->cross_entropy<L>(m, {rows.data, rows.pass_stride, classes}, slopes, begin, n);
      } else {
        on_cpu<L>(m, rows, slopes, begin, n);
      }
      if (!differentiates) continue;
      if (dbias.defined()) add_rows<L>(logits, n, dbias);
      const Tensor dlogits = logits.to(dtype);
      for (int i = 0; i < m; ++i) {
        const MatrixBatch dz = matrix(dlogits, i, 0, n);
        if (dhidden.defined())
          detail::matmul_on(dhidden, {dz, matrix(weight, 0, 0, classes), matrix(dhidden, i, begin, n)});
        if (dweight.defined())
          detail::matmul_on(dweight, {.a = detail::transposed(dz),
                                      .b = matrix(hidden, i, begin, n),
                                      .c = matrix(dweight, 0, 0, classes),
                                      .accumulate = true});
      }
    }
    const Tensor loss = output({}, dtype_of<L>, hidden.device());
    if (device) {
      *outcome = device->finish(loss, copies);
    } else {
      outcome->sums.correct *= copies;
      loss.fill_(outcome->sums.fit + options.alpha / 2 * outcome->sums.distance);
    }
    return loss;
  }

  // The loss of units [begin, begin + n), whose rows these are, added to the sums.
  template <class L>
  void on_cpu(int m, detail::PassRows<L> logits, detail::PassRows<L> slopes, int64_t begin, int64_t n) {
    detail::RDropRows rows = detail::rdrop_rows(options, units, m, n, 0);
    rows.classes = logits.row_stride;
    const detail::RDropSums part = detail::rdrop_cross_entropy_rows<L>(
        rows, {logits.data, logits.pass_stride, logits.row_stride}, slopes, units.targets() + begin,
        units.valid() ? units.valid() + begin : nullptr);
    outcome->sums.fit += part.fit, outcome->sums.distance += part.distance;
    outcome->sums.valid += part.valid, outcome->sums.correct += part.correct;
  }

  // sum += the first n rows of every pass of x.
  template <class L>
  static void add_rows(const Tensor& x, int64_t n, const Tensor& to) {
    const int64_t cols = x.size(-1);
    bool done = false;
    for (int i = 0; i < x.passes(); ++i) {
      done = run_on_device(x, detail::LinearSweep<L>{.g = x.device_data<L>() + i * x.pass_stride(),
                                                     .sums = to.device_data<L>(),
                                                     .accumulate = true,
                                                     .rows = n,
                                                     .cols = cols,
                                                     .row_stride = cols});
    }
    if (done) return;
    const L* data = x.data<L>();
    L* sum = to.data<L>();
    parallel_for(cols, std::max<int64_t>(64, detail::kGrain / (n * x.passes())),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = 0; row < n * x.passes(); ++row) {
                     const L* from = data + row / n * x.pass_stride() + row % n * cols;
#pragma omp simd
                     for (int64_t j = begin; j < end; ++j) sum[j] += from[j];
                   }
                 });
  }

  Tensors vjp(const Tensor& g) override {
    auto scaled = [&](int at) { return at < 0 ? Tensor() : detail::scale_gradient(saved(at), g); };
    return {scaled(dhidden_at), scaled(dweight_at), scaled(dbias_at)};
  }
};

}  // namespace

LossParts linear_rdrop_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                     const Tensor& target, const RDropOptions& options,
                                     const Tensor& valid_mask, int passes) {
  const Shape shape = detail::without_last(kName, hidden);
  for (const Tensor* x : {&hidden, &weight, &bias}) {
    check<DTypeError>((x == &bias && !x->defined()) || is_floating(x->dtype()),
                      "{}: expected a floating dtype (bf16, f32, f64), got {}", kName, describe(*x));
  }
  check<ShapeError>(
      weight.dim() == 2 && weight.size(1) == hidden.size(-1) && weight.size(0) > 0 && weight.passes() == 1,
      "{}: expected a weight [classes, {}] of one pass, got {}", kName, hidden.size(-1), describe(weight));
  const int64_t classes = weight.size(0);
  check<ShapeError>(!bias.defined() || (bias.shape() == Shape{classes} && bias.passes() == 1),
                    "{}: expected a bias [{}] of one pass, got {}", kName, classes,
                    bias.defined() ? std::string(describe(bias)) : "none");
  const RDropUnits units = detail::rdrop_units(kName, shape, target, valid_mask, options);
  detail::check_device(kName, "target", target, hidden);
  // Here, since a chunk would not know the unit's number; a device's kernels do.
  for (int64_t u = 0; target.device() == kCpu && u < shape.numel(); ++u) {
    const int64_t label = units.targets()[u];
    const bool counted = (!units.valid() || units.valid()[u] != 0) && label != options.ignore_index;
    if (!counted || (label >= 0 && label < classes)) continue;
    detail::RDropFault{.error = detail::RDropError::label, .unit = u, .value = static_cast<double>(label)}
        .raise_error(detail::RDropCaller::linear_rdrop, classes, options.ignore_index);
  }
  detail::check_passes(kName, hidden.passes(), passes);
  // As in linear(): bf16 activations beside f32 parameters are multiplied as bf16.
  const DType parameters = bias.defined() ? promote(weight.dtype(), bias.dtype()) : weight.dtype();
  const bool mixed = hidden.dtype() == DType::bf16 && parameters == DType::f32;
  const Tensor h = mixed ? hidden : hidden.to(promote(hidden.dtype(), parameters));
  RDropOutcome outcome;
  const Tensor loss = apply<LinearRDrop>({h, weight, bias}, options, units,
                                         detail::copies(hidden.passes(), passes), &outcome);
  return detail::loss_parts(loss, outcome);
}

namespace {

const RegisterOp registered{
    {.name = kName,
     .samples =
         [](SampleMaker& make) {
           auto with = [](const std::vector<int64_t>& labels, RDropOptions options) {
             const Tensor target = from_values(labels, {static_cast<int64_t>(labels.size())});
             return [=](const Tensors& in) {
               return linear_rdrop_cross_entropy(in[0], in[1], in.size() > 2 ? in[2] : Tensor(),
                                                 target.to(in[0].device()), options)
                   .loss;
             };
           };
           const Tensor two = stack_passes({make.normal({3, 2}), make.normal({3, 2})});
           return Samples{
               {"one pass, no bias", {make.normal({2, 3}), make.normal({4, 3})}, with({1, 3}, {})},
               {"2 passes", {two, make.normal({4, 2}), make.normal({4})}, with({0, 3, 1}, {.alpha = 3})},
               {"smoothed, one ignored",
                {two, make.normal({3, 2}), make.normal({3})},
                with({0, -100, 1}, {.label_smoothing = 0.2, .divisor = 4})},
               {"no unit", {make.normal({0, 2}), make.normal({3, 2}), make.normal({3})}, with({}, {})}};
         },
     .errors =
         [] {
           const Tensor target = from_values(std::vector<int64_t>{5}, {1});
           auto f = [=](Shape h, Shape w, Shape b, RDropOptions options = {}) {
             return [=] { linear_rdrop_cross_entropy(zeros(h), zeros(w), zeros(b), target, options); };
           };
           return ErrorSamples{
               fails<ShapeError>("weight", "expected a weight [classes, 2] of one pass, got f32[4,3]",
                                 f({1, 2}, {4, 3}, {4})),
               fails<ShapeError>("bias", "expected a bias [4] of one pass, got f32[3]",
                                 f({1, 2}, {4, 2}, {3})),
               fails<ShapeError>("target", "target is i64[1], expected one pass of [2]",
                                 f({2, 2}, {4, 2}, {4})),
               fails<ValueError>(
                   "label", "linear_rdrop_cross_entropy: target is 5 at unit 0, expected a class in [0, 4)",
                   f({1, 2}, {4, 2}, {4})),
               fails<ConfigError>("alpha", "linear_rdrop_cross_entropy: alpha is -1",
                                  f({1, 2}, {6, 2}, {6}, {.alpha = -1}))};
         },
     .second_order = false,
     .crosses_passes = true}};

}  // namespace
}  // namespace tandem
