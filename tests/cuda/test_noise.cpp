// Noise on the device: the bits of the CPU's, for every size, and anew at every replay of a recording.
#include <doctest/doctest.h>

#include "autograd/pass_context.h"
#include "autograd/step_scalars.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

using Noisy = Tensor (*)(const Tensor&, double);
const Noisy kDropout = [](const Tensor& x, double p) { return dropout(x, p); };
const Noisy kDropPath = [](const Tensor& x, double p) { return drop_path(x, p); };

Function in_context(Noisy noisy, const PassOptions& options) {
  return [=](const Tensors& in) {
    PassContext context(options);
    return noisy(in[0], 0.3);
  };
}

}  // namespace

TEST_CASE("device: dropout and drop_path give the CPU's bits, for samples of every size") {
  for (const Noisy noisy : {kDropout, kDropPath}) {
    for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
      // The gradients of several passes are summed, in another order.
      const Comparison passes{0, dtype == DType::bf16 ? 1e-2 : dtype == DType::f32 ? 1e-6 : 1e-14, true};
      for (const int64_t row : {1, 3, 4, 5, 8, 31, 64, 100, 257, 4100, 4104}) {
        INFO(std::string(name_of(dtype)), " x 5 samples of ", row);
        const Tensor x = random_values({5, row}, dtype, row);
        agree({x}, in_context(noisy, {.seed = 3, .step = 7, .sample_offset = (1ull << 40) + 3}), {});
        agree({x}, in_context(noisy, {.seed = 3, .first = 2, .count = 3, .rates = {0.1, 0.1, 0, 0.9, 0.5}}),
              passes);
      }
      const Tensor x = random_values({12, 20}, dtype, 4);
      agree({several_passes(x, 3, 4)}, in_context(noisy, {.seed = 3, .count = 3}), {});
      agree({x}, in_context(noisy, {.seed = 3, .batch = 4}), {});
      agree({x}, in_context(noisy, {.seed = 3, .count = 19, .rates = std::vector<double>(19, 0.5)}), passes);
      agree(
          {x},
          [](const Tensors& in) {
            PassContext context({.seed = 1, .count = 2});
            return dropout(in[0].t().slice(0, 3, 17, 2), 0.5);
          },
          passes);
    }
  }
}

TEST_CASE("device: what is dropped is 0, whatever it was") {
  const Tensor x = full({3, 40}, std::numeric_limits<double>::quiet_NaN());
  for (const Function& drop : {in_context(kDropout, {.seed = 3}), in_context(kDropPath, {.seed = 3})}) {
    // A NaN's bits are the device's own: 1 where there is one.
    agree({x},
          [&](const Tensors& in) {
            const Tensor y = drop(in);
            return where(ne(y, y), ones_like(y), y);
          },
          {0, 0, false});
  }
}

TEST_CASE("device: WordDropout and LayerDrop draw what they draw on the CPU") {
  struct Root : nn::Module {
    nn::WordDropout words{*this, "words", 0.4};
    nn::LayerDrop layers{*this, "layers", 0.5};
  } root;
  const Tensor x = random_values({3, 7, 8}, DType::f32, 1), other = random_values({8}, DType::f32, 2);
  for (uint64_t step = 0; step < 6; ++step) {
    agree({x, other},
          [&](const Tensors& in) {
            PassContext context({.seed = 9, .step = step, .count = 3, .sample_offset = 30});
            const Tensor y = root.words(in[0], in[1]);
            return root.layers(y, [](const Tensor& t) { return t * 2.0; });
          },
          {0, 1e-6, true});
  }
}

TEST_CASE("device: a recording draws the noise of the step that its scalars say") {
  Backend& there = backend(device());
  const Tensor x = random_values({6, 20}, DType::f32, 5).to(device());
  struct Root : nn::Module {
    nn::LayerDrop layers{*this, "layers", 0.5};
  } root;
  const auto run = [&](const PassOptions& options) {
    PassContext context(options);
    const Tensor y = drop_path(dropout(x, 0.4), 0.3);
    return root.layers(y, [](const Tensor& t) { return t + 1.0; });
  };
  const auto options_of = [](const StepScalars& s) {
    return PassOptions{.seed = s.seed, .step = s.step, .count = 2, .sample_offset = s.sample_offset + 12};
  };
  auto* scalars = static_cast<StepScalars*>(there.allocate(sizeof(StepScalars)));
  StepScalars now{.seed = 4, .step = 1};
  there.copy_from_host(scalars, &now, sizeof now);
  Tensor out = run(options_of(now));  // once before, so that every kernel was there
  there.begin_recording();
  {
    const RecordedScalars recorded(scalars, now);
    // Offsets are relative to the step's; seed and step are the scalars' own.
    out.copy_(run({.seed = 99, .step = 99, .count = 2, .sample_offset = 12}));
  }
  const std::unique_ptr<Recording> recording = there.end_recording();
  Tensor before;
  for (uint64_t step = 1; step < 8; ++step) {
    now.step = step, now.sample_offset = 6 * step;
    there.copy_from_host(scalars, &now, sizeof now);
    recording->replay();
    const Tensor replayed = out.to(kCpu);
    CHECK(same_bits(replayed, run(options_of(now)).to(kCpu)));
    if (before.defined()) CHECK_FALSE(same_bits(replayed, before));
    before = replayed;
  }
  there.release(scalars, sizeof(StepScalars));
}
