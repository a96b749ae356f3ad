#include "ops/rdrop/device.h"

#include "autograd/kernel.h"

namespace tandem::detail {
namespace {

const int64_t* targets_of(const RDropUnits& units) {
  return units.target.defined() ? units.target.device_data<int64_t>() : nullptr;
}
const uint8_t* valid_of(const RDropUnits& units) {
  return units.mask.defined() ? static_cast<const uint8_t*>(units.mask.device_raw()) : nullptr;
}

RDropWeights weights_of(const RDropOptions& options, bool step) {
  RDropWeights weights{options.alpha, options.divisor, nullptr, nullptr};
  if (!step || !recorded_scalars()) return weights;
  const StepScalars& now = recorded_values();
  if (options.alpha != 0 && now.alpha != 0)
    weights.alpha = options.alpha / now.alpha, weights.alpha_of = recorded_scalars();
  if (options.divisor != 0)
    weights.divisor = options.divisor / now.divisor, weights.divisor_of = recorded_scalars();
  return weights;
}

}  // namespace

Tensor count_units(RDropCaller caller, const RDropOptions& options, const RDropUnits& units,
                   const Tensor& like, int64_t count, int64_t classes, bool check) {
  const Tensor sums = empty({rdrop_slot::count}, {DType::f64, like.device()});
  run_on_device(like, RDropCount{count, classes, options.ignore_index, targets_of(units), valid_of(units),
                                 static_cast<double>(caller), sums.device_data<double>()});
  if (check) read_loss_sums(sums);
  return sums;
}

RDropOnDevice::RDropOnDevice(RDropCaller caller, const RDropOptions& options, const RDropUnits& units,
                             const Tensor& like, int64_t count, int64_t classes, bool step)
    : caller_(caller),
      options_(options),
      units_(units),
      like_(like),
      count_(count),
      classes_(classes),
      weights_(weights_of(options, step)) {
  const Device device = like.device();
  sums_ = options.divisor > 0 ? empty({rdrop_slot::count}, {DType::f64, device})
                              : count_units(caller, options, units, like, count, classes, false);
  const bool labelled = units.target.defined();
  parts_count_ = labelled ? count : (count + kRDropMseUnits - 1) / kRDropMseUnits;
  parts_ = empty({parts_count_ * static_cast<int64_t>(sizeof(RDropPart))}, {DType::u8, device});
}

RDropRows RDropOnDevice::rows(int passes, int64_t count) const {
  return {.passes = passes,
          .units = count,
          .classes = classes_,
          .label_smoothing = options_.label_smoothing,
          .ignore_index = options_.ignore_index};
}

template <class T>
void RDropOnDevice::cross_entropy(int passes, PassRows<const T> logits, PassRows<T> grad, int64_t first,
                                  int64_t count) {
  const uint8_t* valid = valid_of(units_);
  run_on_device(like_,
                RDropUnitRows<T>{rows(passes, count), weights_, logits, grad, targets_of(units_) + first,
                                 valid ? valid + first : nullptr, first, sums_.device_data<double>(),
                                 static_cast<RDropPart*>(parts_.device_raw()) + first});
}

template <class T>
void RDropOnDevice::mse(int passes, PassRows<const T> y, PassRows<T> grad, const T* target) {
  run_on_device(like_,
                RDropMseUnits<T>{rows(passes, count_), weights_, y, grad, target, valid_of(units_),
                                 sums_.device_data<double>(), static_cast<RDropPart*>(parts_.device_raw())});
}

RDropOutcome RDropOnDevice::finish(const Tensor& loss, int copies) {
  const bool wide = loss.dtype() == DType::f64;
  run_on_device(like_, RDropFinish{parts_count_, classes_, options_.ignore_index, weights_,
                                   static_cast<const RDropPart*>(parts_.device_raw()),
                                   static_cast<double>(caller_), static_cast<double>(copies),
                                   sums_.device_data<double>(), wide ? nullptr : loss.device_data<float>(),
                                   wide ? loss.device_data<double>() : nullptr});
  RDropOutcome outcome{{}, sums_};
  if (recorded_scalars()) return outcome;
  const LossSums sums = read_loss_sums(sums_);
  outcome.sums = {sums.ce, sums.kl, sums.valid, sums.correct};
  return outcome;
}

template void RDropOnDevice::cross_entropy(int, PassRows<const bf16>, PassRows<bf16>, int64_t, int64_t);
template void RDropOnDevice::cross_entropy(int, PassRows<const float>, PassRows<float>, int64_t, int64_t);
template void RDropOnDevice::cross_entropy(int, PassRows<const double>, PassRows<double>, int64_t, int64_t);
template void RDropOnDevice::mse(int, PassRows<const bf16>, PassRows<bf16>, const bf16*);
template void RDropOnDevice::mse(int, PassRows<const float>, PassRows<float>, const float*);
template void RDropOnDevice::mse(int, PassRows<const double>, PassRows<double>, const double*);

}  // namespace tandem::detail

namespace tandem {

LossSums read_loss_sums(const Tensor& sums) {
  namespace slot = detail::rdrop_slot;
  check<ShapeError>(sums.shape() == Shape{slot::count} && sums.dtype() == DType::f64,
                    "read_loss_sums: expected f64[{}], got {}", static_cast<int>(slot::count),
                    describe(sums));
  const std::vector<double> values = sums.to_vector<double>();
  const auto whole = [&](int at) { return static_cast<int64_t>(values[at]); };
  if (const auto error = static_cast<detail::RDropError>(whole(slot::error));
      error != detail::RDropError::none) {
    detail::RDropFault{error, whole(slot::unit), whole(slot::pass), whole(slot::index), values[slot::value]}
        .raise_error(static_cast<detail::RDropCaller>(whole(slot::caller)), whole(slot::classes),
                     whole(slot::ignored));
  }
  return {values[slot::fit], values[slot::distance], whole(slot::valid), whole(slot::correct)};
}

}  // namespace tandem
