// The noise of one call as a device's kernels take it, in their Args: plain numbers. The host's and the
// device's compiler both read this; draws are those of autograd/noise.h.
#pragma once

#include <array>
#include <cstdint>

#include "autograd/noise.h"
#include "autograd/step_scalars.h"

namespace tandem::detail {

struct DeviceNoise {
  NoiseKey given;  // the key, unless `scalars` is there
  uint64_t site = 0;
  uint32_t call = 0;
  Purpose purpose = Purpose::dropout;
  uint32_t first_pass = 0;
  uint64_t sample_offset = 0;            // of the tensor's first sample
  bool of_batch = false;                 // or else it is behind that of `scalars`
  const StepScalars* scalars = nullptr;  // on the device; null unless the step is being recorded

  // The draws that the tensor's kernel makes: Draws d = noise.draws(); once a thread, since with `scalars` it
  // reads memory and mixes the key. Then d.block(pass, sample, b) is the four words at the positions 4 b to
  // 4 b + 3; passes and samples are numbered as in the tensor, from 0.
  struct Draws {
    std::array<uint32_t, 2> key;
    uint32_t first_pass;
    uint64_t first_sample;

    constexpr std::array<uint32_t, 4> block(uint32_t pass, uint64_t sample, uint64_t b) const {
      const uint64_t s = first_sample + sample;
      return philox4x32_10(
          {static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32), static_cast<uint32_t>(s),
           (first_pass + pass) | static_cast<uint32_t>(s >> 32) << 16},
          key);
    }
  };
  constexpr Draws draws() const {
    const NoiseKey key = scalars ? noise_key(scalars->seed, scalars->step, site, call, purpose) : given;
    return {{static_cast<uint32_t>(key.value), static_cast<uint32_t>(key.value >> 32)},
            first_pass,
            sample_offset + (scalars && !of_batch ? scalars->sample_offset : 0)};
  }
};

}  // namespace tandem::detail

namespace tandem {

struct Noise;
// The noise of a tensor of `samples` samples. While a step is being recorded on this thread the key and the
// sample offset are the recorded step's own (StepScalars). ValueError where noise cannot count so many
// samples.
detail::DeviceNoise device_noise(const Noise& noise, int64_t samples);

}  // namespace tandem
