#include "autograd/step_scalars.h"

namespace tandem {
namespace {
thread_local const StepScalars* recorded = nullptr;
}

const StepScalars* recorded_scalars() { return recorded; }
RecordedScalars::RecordedScalars(const StepScalars* scalars) : outer_(recorded) { recorded = scalars; }
RecordedScalars::~RecordedScalars() { recorded = outer_; }

}  // namespace tandem
