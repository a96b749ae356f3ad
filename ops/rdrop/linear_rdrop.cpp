// z = h W^T + b for some units at a time: with dz the loss's gradient there, made in place of z,
//   dh = dz W,  dW += dz^T h,  db += the sum of dz's rows
// so that logits of all units and passes never exist at once. All sums over units are made in order.
#include <algorithm>

#include "autograd/registry.h"
#include "ops/comparison.h"
#include "ops/linear_kernel.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/loop.h"
#include "ops/packing.h"
#include "ops/products/cached_cast.h"
#include "ops/products/linear_parts.h"
#include "ops/products/matrix.h"
#include "ops/rdrop/loss.h"
#include "ops/rdrop/rdrop.h"

namespace tandem {
namespace {

using detail::MatrixBatch;

constexpr const char* kName = "linear_rdrop_cross_entropy";
constexpr int64_t kChunkRows = 256;  // at least, of all passes: each chunk reads the weight and adds to dW

int64_t units_per_chunk(const Tensor& hidden, int64_t units, int64_t classes, DType logits) {
  const int64_t m = hidden.passes(), unit_bytes = m * classes * size_of(logits);
  const int64_t fewest = std::max<int64_t>(1, kChunkRows / m);
  const int64_t most = std::min(std::max(backend(hidden.device()).part_bytes() / unit_bytes, fewest),
                                std::max<int64_t>(1, units));
  if (hidden.device() == kCpu) return most;
  const int64_t chunks = std::max<int64_t>(1, (units + most - 1) / most);  // of the same size
  return (units + chunks - 1) / chunks;
}

// Rows [first, first + rows) of one pass of x [..., cols]; of a batch those of the passes from there on.
MatrixBatch matrix(const Tensor& x, int64_t pass, int64_t first, int64_t rows) {
  const int64_t cols = x.size(-1), offset = pass * x.pass_stride() + first * cols;
  return {static_cast<char*>(x.device_raw()) + offset * size_of(x.dtype()),
          x.dtype(),
          rows,
          cols,
          cols,
          1,
          x.pass_stride()};
}

// sum += the first n rows of every pass of x, whose dtype is L; on a device there are no others.
template <class L> void add_rows(const Tensor& x, int64_t n, const Tensor& to) {
  const int64_t cols = x.size(-1);
  if (run_on_device(x, detail::LinearSweep<L>{.g = x.device_data<L>(),
                                              .sums = to.device_data<accumulate_t<L>>(),
                                              .accumulate = true,
                                              .rows = n * x.passes(),
                                              .cols = cols,
                                              .row_stride = cols}))
    return;
  using S = accumulate_t<L>;  // L: on the CPU logits are wide
  const S* data = x.data<S>();
  S* sum = to.data<S>();
  parallel_for(cols, std::max<int64_t>(64, detail::kGrain / (n * x.passes())),
               [&](int64_t begin, int64_t end) {
                 detail::ColumnSums<S> sums(end - begin);
                 std::vector<S> total(end - begin);
                 for (int64_t row = 0; row < n * x.passes(); ++row) {
                   const S* from = data + row / n * x.pass_stride() + row % n * cols + begin;
                   S* to_row = sums.next_row();
#pragma omp simd
                   for (int64_t j = 0; j < end - begin; ++j) to_row[j] += from[j];
                 }
                 sums.write(total.data());
                 for (int64_t j = begin; j < end; ++j) sum[j] += total[j - begin];
               });
}

// The units that count, each a row of a sample of one position, where enough others can be left out: of those
// neither logits nor gradients are made. Undefined otherwise, and on a device, where it is not known in time.
PackedRows counted_units(const rdrop::Inputs& inputs, int64_t units) {
  constexpr int64_t kFewest = 20;  // one of so many units; with fewer, copying the others costs what it saves
  const int64_t left_out = units - inputs.counted;
  if (inputs.target.device() != kCpu || left_out == 0 || left_out * kFewest < units) return {};
  std::vector<PackedRows::Range> each(units);
  for (int64_t u = 0; u < units; ++u) each[u] = {0, inputs.counts(u)};
  return {each, 1};
}

struct Operands {
  Tensor hidden, weight, bias;
};

struct LinearRDrop final : rdrop::LossOp {
  using LossOp::LossOp;

  Tensor forward(const Tensors& in) override {
    // Of the gradients of weight and bias. Logits are of that type on the CPU; on a device, whose memory they
    // come from and go to, of the type that linear() gives them.
    const bool on_device = in[0].device() != kCpu;
    const DType dtype = in[0].dtype(), wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    const DType of_logits = on_device ? dtype : wide;
    const Operands x{dense(in[0]), dense(detail::cached_cast(in[1], dtype)),
                     in[2].defined() ? dense(in[2].to(wide)) : Tensor()};
    const Operands d{save(new_gradient(in, 0, dtype)), save(new_gradient(in, 1, wide)),
                     save(new_gradient(in, 2, wide))};
    const bool learns = d.hidden.defined() || d.weight.defined() || d.bias.defined();

    const int64_t classes = x.weight.size(0), units = x.hidden.numel() / x.weight.size(1);
    const int64_t chunk = units_per_chunk(x.hidden, units, classes, of_logits);
    rdrop::LossSum sum(inputs, x.hidden, units, classes);
    Tensor logits;
    for (int64_t begin = 0; begin < units; begin += chunk) {
      const int64_t n = std::min(chunk, units - begin);
      if (!logits.defined() || (on_device && logits.size(0) != n)) {
        logits = {};  // before the next, which takes its memory
        logits = empty({n, classes}, {of_logits, in[0].device()}, x.hidden.passes());
      }
      const Rows rows = on_device ? stacked(x.hidden, begin, n) : Rows{x.hidden, begin, n, x.hidden.passes()};
      multiply(x, rows, logits);
      sum.add_cross_entropy(logits, learns ? logits : Tensor(), begin, n);
      if (learns) add_gradients(x, rows, begin, n, logits, d);
    }
    return finish(sum, x.hidden);
  }

  Tensors vjp(const Tensor& g) override {
    return {scaled_gradient(0, g), scaled_gradient(1, g), scaled_gradient(2, g)};
  }

 private:
  // Memory for the gradient of input i, where it is asked for; those of the parameters are sums.
  Tensor new_gradient(const Tensors& in, int i, DType dtype) {
    if (!recording() || !in[i].defined() || !in[i].requires_grad()) return {};
    const Tensor gradient = empty(in[i].shape(), {dtype, in[i].device()}, in[i].passes());
    return i == 0 ? gradient : gradient.zero_();
  }

  // Rows of the hidden states, in `parts` passes of `hidden`, of each of which a product is made.
  struct Rows {
    Tensor hidden;
    int64_t first, count;
    int parts;
  };
  // Those of all passes of units [begin, begin + n), one behind the other: the weight is read once, and what
  // its gradient has from them added at once.
  static Rows stacked(const Tensor& hidden, int64_t begin, int64_t n) {
    const int64_t width = hidden.size(-1), units = hidden.numel() / width;
    const Tensor rows = dense(hidden.reshape({units, width}).slice(0, begin, begin + n));
    return {rows, 0, n * hidden.passes(), 1};
  }

  // The logits of some rows.
  static void multiply(const Operands& x, const Rows& rows, const Tensor& logits) {
    for (int i = 0; i < rows.parts; ++i) {
      detail::matmul_on(logits, {.a = matrix(rows.hidden, i, rows.first, rows.count),
                                 .b = detail::transposed(matrix(x.weight, 0, 0, x.weight.size(0))),
                                 .c = matrix(logits, i, 0, rows.count),
                                 .bias = x.bias.defined() ? x.bias.device_raw() : nullptr,
                                 .bias_dtype = x.bias.defined() ? x.bias.dtype() : logits.dtype()});
    }
  }

  // From the gradient with respect to these logits, of units [begin, begin + n), the others.
  static void add_gradients(const Operands& x, const Rows& rows, int64_t begin, int64_t n,
                            const Tensor& dlogits, const Operands& d) {
    if (d.bias.defined())
      dispatch_floating(kName, dlogits.dtype(), [&]<class L>() { add_rows<L>(dlogits, n, d.bias); });
    const Tensor dz = dlogits.to(x.hidden.dtype());
    MatrixBatch weight = matrix(x.weight, 0, 0, x.weight.size(0));
    weight.batch_stride = 0;
    const int64_t passes = dz.passes(), at_once = passes / rows.parts;
    for (int64_t i = 0; i < passes && d.hidden.defined(); i += at_once)
      detail::matmul_on(
          d.hidden,
          {.a = matrix(dz, i, 0, n), .b = weight, .c = matrix(d.hidden, i, begin, n), .batch = at_once});
    for (int i = 0; i < rows.parts && d.weight.defined(); ++i)
      detail::matmul_on(d.weight, {.a = detail::transposed(matrix(dz, i, 0, rows.count)),
                                   .b = matrix(rows.hidden, i, rows.first, rows.count),
                                   .c = matrix(d.weight, 0, 0, x.weight.size(0)),
                                   .accumulate = true});
  }
};

}  // namespace

LossParts linear_rdrop_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                     const Tensor& target, const RDropOptions& options,
                                     const Tensor& valid_mask, int passes) {
  rdrop::unit_shape(kName, hidden);  // which has a last dimension
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
  rdrop::Inputs inputs = rdrop::check_inputs(kName, hidden, target, valid_mask, options);
  rdrop::check_labels(inputs, classes);  // before anything is computed
  inputs.copies = rdrop::copies_of(kName, hidden.passes(), passes);
  // As in linear(): bf16 activations beside f32 parameters are multiplied as bf16.
  Tensor h = hidden.to(detail::linear_dtype(hidden.dtype(), weight, bias));
  const int64_t units = inputs.target.numel();
  if (const PackedRows counted = counted_units(inputs, units); counted.defined()) {
    h = pack_padded(h.reshape({units, 1, h.size(-1)}), counted);
    for (int64_t u = 0; u < units; ++u)
      if (inputs.counts(u)) inputs.numbers.push_back(u);
    inputs.target = pack_padded(inputs.target.reshape({units, 1}), counted);
    inputs.mask = {};
  } else if (h.device() != kCpu || inputs.counted < units) {
    // What does not count must not be seen in the weight's gradient, either: 0 * NaN.
    Tensor counts = ne(inputs.target.reshape({units}), static_cast<double>(options.ignore_index));
    if (inputs.mask.defined()) counts = logical_and(counts, inputs.mask.reshape({units}));
    h = where(counts.unsqueeze(1), h.reshape({units, h.size(-1)}), 0.0);
  }
  return rdrop::apply_loss<LinearRDrop>({h, weight, bias}, inputs);
}

namespace {

const RegisterOp registered{
    kName,
    [](OpCases& c) {
      const auto with = [](const std::vector<int64_t>& labels, RDropOptions options) {
        const Tensor target = from_values(labels, {static_cast<int64_t>(labels.size())});
        return [=](const Tensors& in) {
          return linear_rdrop_cross_entropy(in[0], in[1], in.size() > 2 ? in[2] : Tensor(),
                                            target.to(in[0].device()), options)
              .loss;
        };
      };
      const Tensor two = stack_passes({c.normal({3, 2}), c.normal({3, 2})});
      c.sample("one pass, no bias", {c.normal({2, 3}), c.normal({4, 3})}, with({1, 3}, {}));
      c.sample("2 passes", {two, c.normal({4, 2}), c.normal({4})}, with({0, 3, 1}, {.alpha = 3}));
      c.sample("smoothed, one ignored", {two, c.normal({3, 2}), c.normal({3})},
               with({0, -100, 1}, {.label_smoothing = 0.2, .divisor = 4}));
      c.sample("most are ignored", {two, c.normal({3, 2}), c.normal({3})},
               with({-100, -100, 1}, {.alpha = 2}));
      c.sample("none counts", {two, c.normal({3, 2})}, with({-100, -100, -100}, {}));
      c.sample("no unit", {c.normal({0, 2}), c.normal({3, 2}), c.normal({3})}, with({}, {}));

      const Tensor target = from_values(std::vector<int64_t>{5}, {1});
      const auto f = [=](Shape h, Shape w, Shape b, RDropOptions options = {}) {
        return [=] { linear_rdrop_cross_entropy(zeros(h), zeros(w), zeros(b), target, options); };
      };
      c.fails<ShapeError>("weight", "expected a weight [classes, 2] of one pass, got f32[4,3]",
                          f({1, 2}, {4, 3}, {4}));
      c.fails<ShapeError>("bias", "expected a bias [4] of one pass, got f32[3]", f({1, 2}, {4, 2}, {3}));
      c.fails<ShapeError>("target", "target is i64[1], expected one pass of [2]", f({2, 2}, {4, 2}, {4}));
      c.fails<ValueError>("label",
                          "linear_rdrop_cross_entropy: target is 5 at unit 0, expected a class in [0, 4)",
                          f({1, 2}, {4, 2}, {4}));
      c.fails<ConfigError>("alpha", "linear_rdrop_cross_entropy: alpha is -1",
                           f({1, 2}, {6, 2}, {6}, {.alpha = -1}));
    },
    {.second_order = false, .crosses_passes = true}};

}  // namespace
}  // namespace tandem
