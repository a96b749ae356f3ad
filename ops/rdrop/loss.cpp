#include "ops/rdrop/loss.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string_view>

#include "autograd/kernel.h"
#include "ops/arithmetic.h"
#include "ops/rdrop/cpu.h"

namespace tandem::rdrop {
namespace {

constexpr int64_t kSumsSize = sizeof(DeviceSums) / sizeof(double);

// Ops whose labels a device looks at: among its sums a name is a number, of its place here.
constexpr const char* kOps[] = {"rdrop_cross_entropy", "rdrop_mse", "linear_rdrop_cross_entropy",
                                "cross_entropy", "nll_loss"};
double number_of(std::string_view op) {
  return static_cast<double>(std::find(std::begin(kOps), std::end(kOps), op) - std::begin(kOps));
}

template <class T> T* memory_of(const Tensor& x) {
  return x.defined() ? static_cast<T*>(x.device_raw()) : nullptr;
}

template <class T> PassView<T> view(const Tensor& x, int64_t classes) {
  if (!x.defined()) return {};
  return {x.device_data<std::remove_const_t<T>>(), x.pass_stride(), classes};
}

}  // namespace

LossSum::LossSum(const Inputs& inputs, const Tensor& x, int64_t units, int64_t classes)
    : inputs_(inputs),
      problem_{.passes = x.passes(),
               .units = units,
               .classes = classes,
               .alpha = inputs.options.alpha,
               .divisor = inputs.options.divisor,
               .label_smoothing = inputs.options.label_smoothing,
               .ignore_index = inputs.options.ignore_index} {
  if (x.device() == kCpu) {
    problem_.divisor = inputs.divisor();
    return;
  }
  if (inputs.from_step && recorded_scalars()) {
    const StepScalars& step = recorded_values();
    if (problem_.alpha != 0 && step.alpha != 0)
      problem_.alpha /= step.alpha, problem_.alpha_of = recorded_scalars();
    if (problem_.divisor != 0) problem_.divisor /= step.divisor, problem_.divisor_of = recorded_scalars();
  }
  device_sums_ = inputs.options.divisor > 0 ? empty({kSumsSize}, {DType::f64, x.device()})
                                            : count_on_device(inputs, x, units, classes);
  part_count_ = inputs.target.defined() ? units : (units + kPartUnits - 1) / kPartUnits;
  parts_ = empty({part_count_ * static_cast<int64_t>(sizeof(Part))}, {DType::u8, x.device()});
}

void LossSum::add(const LossSums& sums) {
  sums_.ce += sums.ce, sums_.kl += sums.kl;
  sums_.valid += sums.valid, sums_.correct += sums.correct;
}

void LossSum::add_cross_entropy(const Tensor& logits, const Tensor& gradient, int64_t first, int64_t count) {
  Problem problem = problem_;
  problem.units = count;
  const uint8_t* valid = inputs_.valid();
  Part* parts = memory_of<Part>(parts_);
  dispatch_floating(inputs_.op, logits.dtype(), [&]<class T>() {
    const CrossEntropyUnits<T> units{.problem = problem,
                                     .x = view<const T>(logits, problem.classes),
                                     .grad = view<T>(gradient, problem.classes),
                                     .target = inputs_.targets() + first,
                                     .valid = valid ? valid + first : nullptr,
                                     .first = first,
                                     .numbers = inputs_.numbers.empty() ? nullptr : &inputs_.numbers[first],
                                     .sums = memory_of<DeviceSums>(device_sums_),
                                     .parts = parts ? parts + first : nullptr};
    if (!run_on_device(logits, units)) add(cross_entropy_on_cpu(units));
  });
}

void LossSum::add_mse(const Tensor& y, const Tensor& target, const Tensor& gradient) {
  dispatch_floating(inputs_.op, y.dtype(), [&]<class T>() {
    const MseUnits<T> units{.problem = problem_,
                            .x = view<const T>(y, 1),
                            .grad = view<T>(gradient, 1),
                            .target = target.device_data<T>(),
                            .valid = inputs_.valid(),
                            .sums = memory_of<DeviceSums>(device_sums_),
                            .parts = memory_of<Part>(parts_)};
    if (!run_on_device(y, units)) add(mse_on_cpu(units));
  });
}

LossParts LossSum::finish(const Tensor& loss) const {
  const bool wide = loss.dtype() == DType::f64;
  const FinishLoss work{.problem = problem_,
                        .parts = memory_of<Part>(parts_),
                        .part_count = part_count_,
                        .op_number = number_of(inputs_.op),
                        .copies = static_cast<double>(inputs_.copies),
                        .sums = memory_of<DeviceSums>(device_sums_),
                        .loss = wide ? nullptr : loss.device_data<float>(),
                        .wide_loss = wide ? loss.device_data<double>() : nullptr};
  LossSums sums = sums_;
  if (!run_on_device(loss, work)) {
    sums.correct *= inputs_.copies;
    loss.fill_(sums.ce + problem_.alpha / 2 * sums.kl);
  } else if (inputs_.options.deferred) {
    sums.ce = sums.kl = std::numeric_limits<double>::quiet_NaN();
  } else if (!recorded_scalars()) {
    sums = read_loss_sums(device_sums_);
  }
  return {{}, sums.ce, sums.kl, sums.valid, sums.correct, device_sums_};
}

Tensor LossOp::cross_entropy(const Tensor& x) {
  const Tensor logits = dense(x), gradient = recording() ? save(empty_like(logits)) : Tensor();
  const int64_t classes = logits.size(-1), units = logits.numel() / classes;
  LossSum sum(inputs, logits, units, classes);
  sum.add_cross_entropy(logits, gradient, 0, units);
  return finish(sum, logits);
}

Tensor LossOp::finish(const LossSum& sum, const Tensor& x) {
  set_passes(1);
  const Tensor loss = output({}, x.dtype() == DType::f64 ? DType::f64 : DType::f32, x.device());
  parts = sum.finish(loss);
  return loss;
}

Tensor LossOp::divisor() const {
  return parts.device_sums.defined() ? divisor_of(parts.device_sums) : scalar(inputs.divisor(), {DType::f64});
}

Tensor LossOp::scaled_gradient(size_t i, const Tensor& cotangent) const {
  const Tensor gradient = saved(i);
  if (!gradient.defined() || holds_one(cotangent)) return gradient;
  if (gradient.device() != kCpu) return mul(gradient, cotangent).to(gradient.dtype());
  const double factor = cotangent.item();
  return factor == 1 ? gradient : affine(gradient, factor, 0);
}

Tensor count_on_device(const Inputs& inputs, const Tensor& x, int64_t units, int64_t classes) {
  const Tensor sums = empty({kSumsSize}, {DType::f64, x.device()});
  run_on_device(
      x,
      CountUnits{.problem = {.units = units, .classes = classes, .ignore_index = inputs.options.ignore_index},
                 .target = inputs.targets(),
                 .valid = inputs.valid(),
                 .op_number = number_of(inputs.op),
                 .sums = memory_of<DeviceSums>(sums)});
  return sums;
}

Tensor divisor_of(const Tensor& device_sums) {
  return device_sums.select(0, offsetof(DeviceSums, divisor) / sizeof(double));
}

}  // namespace tandem::rdrop

namespace tandem {

LossParts operator+(const LossParts& a, const LossParts& b) {
  return {a.loss + b.loss, a.ce + b.ce, a.kl + b.kl, a.valid, a.correct};
}

LossParts operator*(double factor, const LossParts& parts) {
  return {factor * parts.loss, factor * parts.ce, factor * parts.kl, parts.valid, parts.correct};
}

LossSums read_loss_sums(const Tensor& device_sums) {
  using namespace rdrop;
  check<ShapeError>(device_sums.shape() == Shape{kSumsSize} && device_sums.dtype() == DType::f64,
                    "read_loss_sums: expected f64[{}], got {}", kSumsSize, describe(device_sums));
  DeviceSums sums;
  std::memcpy(&sums, device_sums.to_vector<double>().data(), sizeof sums);
  const auto whole = [](double value) { return static_cast<int64_t>(value); };
  const UnitError error{.value = sums.value,
                        .unit = whole(sums.unit),
                        .index = whole(sums.index),
                        .pass = static_cast<int32_t>(sums.pass),
                        .kind = static_cast<ErrorKind>(whole(sums.error))};
  if (error.kind != ErrorKind::none)
    raise_error(error, kOps[whole(sums.op_number)], whole(sums.classes), whole(sums.ignore_index));
  return {sums.ce, sums.kl, whole(sums.valid), whole(sums.correct)};
}

}  // namespace tandem
