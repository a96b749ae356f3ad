// A training step on the device is given to it whole before anything of it is read: what the host does
// meanwhile, and that an error found afterwards has changed nothing.
#include <doctest/doctest.h>

#include <cmath>

#include "models/cnn/cnn.h"
#include "nn/data/image_dataset.h"
#include "tests/cuda/same_training.h"
#include "tests/cuda/simulator.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const nn::TrainerOptions kOptions{.passes = 2, .epochs = 2, .batch_size = 8, .progress = false};

// Tells how often the host had waited for the device when each batch was made.
class Watched final : public data::Dataset {
 public:
  int64_t size() const override { return blobs_.size(); }
  data::Batch batch(std::span<const int64_t> indices, const data::BatchContext& context) const override {
    if (context.training) waits.push_back(simulator()->waits());
    return blobs_.batch(indices, context);
  }
  mutable std::vector<uint64_t> waits;

 private:
  Blobs blobs_{40};
};

// The loss of two heads added up: its numbers are no loss's device_sums.
struct Sum final : nn::Objective {
  explicit Sum(Mlp& model) : model(model) {}
  nn::Module& module() override { return model; }
  Tensor forward(const data::Batch& batch) override { return model.forward(batch.inputs[0]); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    LossParts sum = rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
    const LossParts other = rdrop_cross_entropy(logits * 0.5, batch.target, options, batch.valid, passes);
    sum.loss = sum.loss + other.loss;
    sum.ce += other.ce, sum.kl += other.kl;
    return sum;
  }
  Mlp& model;
};

// An embedding, of whose 5 rows ids beyond are an error that only the device can see.
struct Words : nn::Module {
  nn::Embedding embedding{*this, "embedding", 5, 6};
  nn::Dropout drop{*this, "drop", 0.2};
  nn::Linear out{*this, "out", 6, 4};
  Tensor forward(const Tensor& ids) { return out(drop(mean(embedding(ids), {1}))); }
};

}  // namespace

TEST_CASE("steps on the device: the next batch is made before the host waits for the step") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  for (const bool cuda_graph : {false, true}) {
    INFO("cuda_graph ", cuda_graph);
    const nn::InitScope init({.seed = 3, .device = device()});
    Mlp model;
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
    nn::TrainerOptions options = kOptions;
    options.cuda_graph = cuda_graph;
    nn::Trainer trainer(model, optimizer, options);
    std::vector<uint64_t> after;  // each step
    trainer.on_step = [&](const nn::Metrics&) { after.push_back(sim->waits()); };
    const Watched train;
    trainer.fit(train, Blobs(16, DType::f32, 2));
    REQUIRE(train.waits.size() == 10);
    REQUIRE(after.size() == 10);
    // Of an epoch of 5 steps, batch i + 1 is made while step i runs; the very first steps ask what they can
    // leave.
    for (const size_t i : {7, 8}) {
      CHECK(train.waits[i + 1] == after[i - 1]);
      CHECK(after[i] - train.waits[i + 1] <= 3);  // the loss's numbers and the norm
    }
  }
}

TEST_CASE("steps on the device: the numbers of an objective that adds losses up are the CPU's") {
  const auto losses = [](Device where) {
    const nn::InitScope init({.seed = 3, .device = where});
    Mlp model;
    Sum objective(model);
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
    nn::Trainer trainer(objective, optimizer, kOptions);
    std::vector<double> seen;
    trainer.on_step = [&](const nn::Metrics& now) { seen.insert(seen.end(), {now.ce, now.kl}); };
    const nn::FitResult result = trainer.fit(Blobs(40), Blobs(16, DType::f32, 2));
    seen.push_back(result.best().loss);
    return seen;
  };
  CHECK(distance(losses(device()), losses(kCpu)) < 1e-4);
}

TEST_CASE("steps on the device: what is wrong is thrown after the step, which has changed nothing") {
  const nn::InitScope init({.seed = 3, .device = device()});
  Words model;
  nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
  nn::Trainer trainer(model, optimizer, kOptions);
  const auto batch = [](int64_t id, int64_t label) {
    return data::Batch{{from_values(std::vector<int64_t>{0, 1, 2, id}, {2, 2})},
                       from_values(std::vector<int64_t>{label, 1}, {2}),
                       {},
                       2};
  };
  for (int i = 0; i < 2; ++i) trainer.step({batch(3, 0)});  // the first step reads at once
  const auto before = flat_parameters(model);
  const auto state = nn::clone(optimizer.state_dict());
  check_throws<ValueError>("embedding: ", [&] { trainer.step({batch(5, 0)}); });
  check_throws<ValueError>("target is 4", [&] { trainer.step({batch(3, 4)}); });
  const Tensor bias = model.out.bias.detach(), usual = bias.clone();
  bias.fill_(INFINITY);
  check_throws<ValueError>("", [&] { trainer.step({batch(3, 0)}); });
  bias.copy_(usual);
  CHECK(flat_parameters(model) == before);
  const auto after = optimizer.state_dict();
  REQUIRE(after.size() == state.size());
  for (size_t i = 0; i < after.size(); ++i) {
    INFO(after[i].name);
    CHECK(same_bits(after[i].tensor, state[i].tensor));
  }
  CHECK(std::isfinite(trainer.step({batch(3, 0)}).loss));
  CHECK(flat_parameters(model) != before);
}

TEST_CASE("steps on the device: images go there as bytes and are normalised there, to the same training") {
  data::ImageSet images{24, 3, 8, 8, {}, {}, {"a", "b", "c"}};
  for (int64_t i = 0; i < 24 * 3 * 64; ++i)
    images.pixels.push_back(static_cast<uint8_t>((i * 37 + i / 64 * 11) % 256));
  for (int64_t i = 0; i < 24; ++i) images.labels.push_back(i % 3);
  const data::ImageDataset dataset(images, data::measure_normalization(images),
                                   {.crop_padding = 2, .flip = true});
  const data::Indices all{5, 0, 17, 23};
  const data::BatchContext here{.training = true, .seed = 4, .step = 2};
  data::BatchContext there = here;
  there.for_device = true;
  const data::Batch bytes = dataset.batch(all, there);
  CHECK(bytes.inputs[0].dtype() == DType::u8);
  const Tensor expected = dataset.batch(all, here).inputs[0];
  CHECK(close(bytes.to(device()).inputs[0].to(kCpu), expected, 1e-6).close);
  CHECK(close(bytes.to(kCpu).inputs[0], expected, 1e-6).close);
  CHECK(bytes.upload(device()).inputs[0].dtype() == DType::u8);

  const auto trained = [&](Device where, bool cuda_graph) {
    const nn::InitScope init({.seed = 7, .device = where});
    models::Cnn model({.image_size = 8, .channels = 3, .classes = 3, .width = 4, .dropout = 0.2});
    nn::AdamW optimizer(model.parameters(), {.lr = 2e-3});
    nn::TrainerOptions options = kOptions;
    options.cuda_graph = cuda_graph;
    nn::Trainer(model, optimizer, options).fit(dataset, dataset);
    return flat_parameters(model);
  };
  const auto on_device = trained(device(), false);
  CHECK(distance(on_device, trained(kCpu, false)) < 1e-3);
  CHECK(on_device == trained(device(), true));
}
