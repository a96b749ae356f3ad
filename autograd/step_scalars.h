// The numbers of a training step that change from step to step while its kernels stay the same. A recorded
// step (a CUDA graph) reads them from the device's memory, so that each replay draws other masks with other
// rates.
#pragma once

#include <cstdint>

namespace tandem {

struct StepScalars {
  uint64_t seed = 0;           // of the noise
  uint64_t step = 0;           // of the optimizer, from 0: keys the noise
  uint64_t sample_offset = 0;  // of the step's first sample in the global batch
  double alpha = 0;            // weight of the R-Drop term
  double divisor = 1;          // valid units of the step
  double lr = 0;               // before a parameter group's ratio
};

// Where kernels find them on the device while a step is being recorded on this thread; null otherwise: they
// then take the values that the host gives with every launch.
const StepScalars* recorded_scalars();
// Their values for the step that is being recorded, on the host: what later ones are compared with.
const StepScalars& recorded_values();

// While it lives, launches of this thread refer to `scalars`, an address on the device, which holds `values`
// for the step that is being recorded.
class RecordedScalars {
 public:
  RecordedScalars(const StepScalars* scalars, const StepScalars& values);
  ~RecordedScalars();
  RecordedScalars(const RecordedScalars&) = delete;
  RecordedScalars& operator=(const RecordedScalars&) = delete;

 private:
  const StepScalars* outer_;
  StepScalars outer_values_;
};

}  // namespace tandem
