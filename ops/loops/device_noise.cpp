#include "ops/loops/device_noise.h"

#include "autograd/error.h"
#include "autograd/pass_context.h"

namespace tandem {

detail::DeviceNoise device_noise(const Noise& noise, int64_t samples) {
  constexpr uint64_t kSamples = uint64_t{1} << 48;  // what a counter can hold, see autograd/noise.h
  check<ValueError>(noise.sample_offset <= kSamples - static_cast<uint64_t>(samples),
                    "noise: {} samples from {} on, expected indices below 2^48", samples,
                    noise.sample_offset);
  return {noise.key,        noise.site,          noise.call,     noise.purpose,
          noise.first_pass, noise.sample_offset, noise.of_batch, recorded_scalars()};
}

}  // namespace tandem
