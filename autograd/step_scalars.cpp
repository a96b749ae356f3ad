#include "autograd/step_scalars.h"

namespace tandem {
namespace {
thread_local const StepScalars* recorded = nullptr;
thread_local StepScalars recorded_now;
}  // namespace

const StepScalars* recorded_scalars() { return recorded; }
const StepScalars& recorded_values() { return recorded_now; }
RecordedScalars::RecordedScalars(const StepScalars* scalars, const StepScalars& values)
    : outer_(recorded), outer_values_(recorded_now) {
  recorded = scalars, recorded_now = values;
}
RecordedScalars::~RecordedScalars() { recorded = outer_, recorded_now = outer_values_; }

}  // namespace tandem
