// Steps on the device that are not finite, and those for which it has no memory.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "autograd/anomaly.h"
#include "autograd/grad_mode.h"
#include "nn/io/files.h"
#include "nn/nn.h"
#include "ops/ops.h"
#include "tests/device.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// Blobs of which one sample overflows in the model below.
struct Spiked final : data::Dataset {
  explicit Spiked(int64_t bad) : bad(bad) {}
  int64_t size() const override { return blobs.size(); }
  data::Batch batch(std::span<const int64_t> indices, const data::BatchContext& context) const override {
    data::Batch batch = blobs.batch(indices, context);
    const NoGradGuard no_grad;
    for (size_t i = 0; i < indices.size(); ++i)
      if (indices[i] == bad) batch.inputs[0].select(0, static_cast<int64_t>(i)).fill_(2000);
    return batch;
  }
  Blobs blobs{48};
  int64_t bad;
};

struct Fragile : nn::Module {
  nn::Linear first{*this, "first", 6, 16}, out{*this, "out", 16, 4};
  nn::Dropout drop{*this, "drop", 0.2};
  Tensor forward(const Tensor& x) { return out(drop(tanh(first(x + 0 * exp(x * 0.1))))); }
};

struct Run {
  explicit Run(nn::TrainerOptions options) : trainer(model, optimizer, std::move(options)) {}
  nn::InitScope init{{.seed = 3, .device = device()}};
  Fragile model;
  nn::AdamW optimizer{model.parameters(), {.lr = 1e-2}};
  nn::Trainer trainer;
};

nn::TrainerOptions options_of(nn::OnNan on_nan, const std::string& dir, DType precision, bool cuda_graph) {
  return {.precision = precision,
          .cuda_graph = cuda_graph,
          .epochs = 2,
          .batch_size = 8,
          .on_nan = on_nan,
          .run_dir = dir,
          .save_steps = 2,
          .progress = false};
}

}  // namespace

TEST_CASE("not finite on the device: the op that makes it, forward and backward, also in bf16") {
  const Tensor x = tensor({4, 0, 200}).to(device()).detach().requires_grad_();
  const DetectAnomalyGuard guard;
  exp(x);
  CHECK(guard.first_infinity() == "exp made inf in 1 of 3 elements of f32[3], of finite inputs");
  CHECK(count_non_finite(exp(x).to(DType::bf16)).infinite == 1);
  const std::string message = message_of<NonFiniteError>([&] { sqrt(x * x).sum().backward(); });
  CHECK_MESSAGE(contains(message, "then the backward of mul made nan in 1 of 3 elements"), message);
}

TEST_CASE("not finite on the device: told by op and samples, skipped, gone back from; recorded steps, too") {
  for (const DType precision : {DType::f32, DType::bf16}) {
    for (const bool cuda_graph : {false, true}) {
      CAPTURE(std::string(name_of(precision)));
      CAPTURE(cuda_graph);
      const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
      const Blobs valid(16);
      const auto steps = Blobs(48).shuffled_batches(0, 0, 8);
      const Spiked first(steps[0][3]), later(steps[4][3]);
      const std::string message = message_of<NonFiniteError>([&] {
        Run(options_of(nn::OnNan::stop, folder.path() + "/stop", precision, cuda_graph))
            .trainer.fit(later, valid);
      });
      CHECK_MESSAGE(contains(message, "step 5 is not finite: "), message);
      CHECK_MESSAGE(contains(message, "its origin: exp made inf"), message);
      CHECK_MESSAGE(contains(message, "its batch: " + nn::list_of(steps[4])), message);
      for (const Spiked* train : {&first, &later}) {
        Run skips(options_of(nn::OnNan::skip, folder.path() + "/skip", precision, cuda_graph));
        CHECK(skips.trainer.fit(*train, valid).skipped == 2);
        for (const double weight : flat_parameters(skips.model)) CHECK(std::isfinite(weight));
      }
      Run back(options_of(nn::OnNan::back, folder.path() + "/back", precision, cuda_graph));
      CHECK(back.trainer.fit(later, valid).skipped >= 2);
      for (const double weight : flat_parameters(back.model)) CHECK(std::isfinite(weight));
    }
  }
}
