// PassContext: what is being run, for everything that draws noise. The trainer opens one around every
// forward. It is the context of the thread that opened it, and closes there: elsewhere the program ends with
// a message. A tensor of noise belongs to the passes [first, first + count) of a step of m.
//
// Without a context there is no noise: a dropout in training mode outside of one is an AutogradError, since a
// mask that nobody can name could not be drawn again. Example:
//
//   const PassContext passes({.seed = 1, .step = 7, .count = 2});  // loops open an nn::Step instead
//   Tensor noisy = dropout(ones({3, 4}), 0.5);                     // passes() == 2, shape() == {3, 4}
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "autograd/noise.h"
#include "autograd/packed_rows.h"
#include "autograd/ranks.h"
#include "autograd/shape.h"

namespace tandem {

// Elements [begin, begin + count) of one pass of a tensor, and what draws them: positions from `position` on
// of a sample of the global batch.
struct NoiseSpan {
  int64_t begin, count;
  uint64_t sample, position;
};

// The noise of one call at one site: what an op captures at forward to draw the same again in its backward.
struct Noise {
  NoiseKey key;  // of the words below, the seed and the step
  uint64_t site = 0;
  uint32_t call = 0;
  Purpose purpose = Purpose::dropout;  // of the draws
  uint32_t first_pass = 0;             // of those that are run
  std::vector<double> rates;           // effective, one for each pass that is run; each in [0, 1)
  uint64_t sample_offset = 0;          // index in the global batch of this tensor's first sample
  int64_t batch = 0;                   // samples in this tensor; 0: its first dimension
  bool of_batch = false;               // one draw for the whole global batch: sample_offset stays what it is
  PackedRows packed = {};              // of the tensor, where its padding was left out

  bool active() const;  // some rate is above 0
  // That are run.
  int passes() const { return static_cast<int>(rates.size()); }
  // Elements of one sample in a tensor of `numel` elements with leading dimension `size0`; ShapeError naming
  // `op` when the batch does not divide it.
  int64_t per_sample(const char* op, int64_t numel, int64_t size0) const;
  // How the elements of a tensor of this shape fall to samples. ShapeError as of per_sample, and where packed
  // rows are not its first dimension.
  class Spans;
  Spans spans(const char* op, const Shape& shape) const;
  // How many passes keep what is dropped or kept as a whole (of_batch). Empty while a step is being recorded:
  // each of its replays draws anew, on the device.
  std::optional<int> passes_kept() const;
};

// Spans of a tensor's elements, in order: one for each sample.
class Noise::Spans {
 public:
  int64_t size() const { return size_; }        // how many
  int64_t longest() const { return longest_; }  // elements of the longest
  // The i-th, unchecked.
  NoiseSpan operator[](int64_t i) const {
    const uint64_t sample = offset_ + static_cast<uint64_t>(i / together_);
    if (!packed_.defined()) return {i * width_, width_, sample, 0};
    const auto& [first_row, rows, position] = packed_[i];
    const int64_t before = i % together_ * packed_.positions() + position;
    return {first_row * width_, rows * width_, sample, static_cast<uint64_t>(before * width_)};
  }

 private:
  friend struct Noise;
  PackedRows packed_;
  int64_t size_ = 0, longest_ = 0;
  int64_t width_ = 0;     // elements of one span, or of one packed row
  int64_t together_ = 1;  // spans that are one sample
  uint64_t offset_ = 0;
};

// The passes of a step that are run, and what their noise is keyed by.
struct PassOptions {
  uint64_t seed = 0;  // of all noise
  uint64_t step = 0;  // of the optimizer
  int first = 0;      // the range of passes that is run: [first, first + count)
  int count = 1;      // how many
  std::vector<double> rates =
      {};                 // per pass of the step, replacing p in every dropout whose own p > 0; or empty
  double rate_scale = 1;  // multiplies p of every dropout instead; not beside rates
  // Of this micro-batch (and rank) in the global batch. While a step is being recorded: relative to the
  // step's first sample, StepScalars::sample_offset, which a device's kernels add.
  uint64_t sample_offset = 0;
  int64_t batch = 0;               // samples of this micro-batch; 0: each tensor's first dimension
  bool updates_statistics = true;  // false while a plan runs a forward a second time
  DType compute = DType::f32;      // of the layers' products, from f32 inputs: f32 or bf16 (mixed precision)
  RankGroup ranks = {};            // that compute this micro-batch together: batch_norm's batch is of all
};

class PassContext {
 public:
  // ConfigError when the compute type is another, the range is empty, a rate is outside of [0, 1) or the list
  // is shorter than the range.
  [[nodiscard("it acts while it lives: give it a name")]] explicit PassContext(PassOptions options);
  ~PassContext();
  PassContext(const PassContext&) = delete;
  PassContext& operator=(const PassContext&) = delete;

  static PassContext* current();  // null outside of every context
  // The current context; an AutogradError naming `op` when there is none.
  static PassContext& require(const char* op);

  const PassOptions& options() const { return options_; }  // as it was opened
  // The noise of the next call at the current module (Scope) for a rate p of its own. Calls are counted per
  // site and purpose, so that a module used twice in one forward draws twice.
  Noise noise(Purpose purpose, double p);
  // Whether any of the noise so far was active: without, all passes are the same.
  bool drew_noise() const { return drew_noise_; }

 private:
  PassOptions options_;
  std::map<std::pair<uint64_t, Purpose>, uint32_t> calls_;
  bool drew_noise_ = false;
  PassContext* outer_;
};

}  // namespace tandem
