// Training on the device against the CPU: the same masks, so the same losses, gradients and weights, to
// rounding.
#include <doctest/doctest.h>

#include <filesystem>

#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "nn/io/files.h"
#include "tests/cuda/same_training.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const models::VitConfig kVit{.image_size = 8,
                             .classes = 3,
                             .patch_size = 4,
                             .dim = 16,
                             .depth = 2,
                             .heads = 2,
                             .mlp_dim = 32,
                             .dropout = 0.2,
                             .attention_dropout = 0.1,
                             .drop_path = 0.1};
const models::CnnConfig kCnn{.image_size = 8, .classes = 3, .width = 4, .dropout = 0.2};
using VitObjective = nn::Classification<models::Vit>;

}  // namespace

TEST_CASE("training on the device: a ViT under every plan, to 1e-4 of the CPU's losses") {
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)));
    check_same_training<models::Vit, VitObjective>(
        kVit, {random_images(6, 8)}, {.passes = 3, .alpha = 2, .rates = {0.1, 0.3, 0.5}, .plan = plan}, 1e-4);
  }
}

TEST_CASE("training on the device: micro-batches are the same step") {
  check_same_training<models::Vit, VitObjective>(kVit, {random_images(4, 8), random_images(3, 8)},
                                                 {.passes = 2, .alpha = 1}, 1e-4);
}

TEST_CASE("training on the device: mixed precision") {
  check_same_training<models::Vit, VitObjective>(
      kVit, {random_images(6, 8)}, {.passes = 2, .alpha = 1, .precision = DType::bf16}, 5e-3, 2);
}

TEST_CASE("training on the device: a CNN, with running statistics") {
  check_same_training<models::Cnn, nn::Classification<models::Cnn>>(kCnn, {random_images(6, 8)},
                                                                    {.passes = 2, .alpha = 1}, 1e-4);
}

TEST_CASE("training on the device: the trainer trains and validates there, as on the CPU") {
  const auto best = [](Device where) {
    const nn::InitScope init({.seed = 3, .device = where});
    Mlp model;
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
    nn::Trainer trainer(model, optimizer,
                        {.passes = 2, .alpha = 1, .epochs = 3, .batch_size = 16, .progress = false});
    return trainer.fit(Blobs(96), Blobs(48, DType::f32, 2)).best().accuracy;
  };
  const double there = best(device());
  CHECK(there > 0.5);  // guessing: 0.25
  CHECK(std::abs(there - best(kCpu)) <= 1.0 / 48 + 1e-9);
}

TEST_CASE("training on the device: a model that is moved there is one that was made there") {
  const auto trained = [](bool moved) {
    const nn::InitScope init({.seed = 7, .device = moved ? kCpu : device()});
    models::Cnn model(kCnn);
    if (moved) {
      const Tensor weight = model.parameters()[0], before = weight.detach().clone();
      weight.grad() = ones_like(before);
      model.to(device());
      CHECK(model.device() == device());
      CHECK(weight.device() == device());
      CHECK(weight.grad().device() == device());
      CHECK(weight.to_vector<float>() == before.to_vector<float>());
      for (const auto& [name, buffer] : model.named_buffers()) CHECK(buffer.device() == device());
    }
    nn::Classification objective(model);
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-3});
    nn::Trainer trainer(objective, optimizer, {.passes = 2, .progress = false});
    for (int i = 0; i < 2; ++i) trainer.step({random_images(4, 8)});
    model.to(kCpu);
    return flat_parameters(model);
  };
  CHECK(trained(true) == trained(false));
}

TEST_CASE("training on the device: resumed, with the mean of epochs before and after") {
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  const auto run = [&](const char* name, int64_t epochs, bool resume) {
    const nn::InitScope init({.seed = 3, .device = device()});
    Mlp model;
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
    nn::Trainer trainer(model, optimizer,
                        {.passes = 2,
                         .epochs = epochs,
                         .batch_size = 16,
                         .average = 3,
                         .run_dir = folder.path() + "/" + name,
                         .progress = false});
    const Blobs train(48), valid(24, DType::f32, 2);
    resume ? trainer.resume(train, valid) : trainer.fit(train, valid);
    return flat_parameters(model);
  };
  const auto whole = run("whole", 3, false);
  run("parts", 2, false);
  CHECK(run("parts", 3, true) == whole);
}

namespace {

// Parameters and buffers.
std::vector<double> flat_state(const nn::Module& module) {
  std::vector<double> all = flat_parameters(module);
  for (const auto& [name, buffer] : module.named_buffers()) {
    const auto values = buffer.to_vector<double>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

// Trains by fit(): full batches of 6 and a last one of 2, so two recordings.
template <class Model = models::Vit, class Config = models::VitConfig>
std::vector<double> fitted(bool cuda_graph, nn::TrainerOptions options, std::vector<double>* losses = nullptr,
                           const Config& config = kVit) {
  const nn::InitScope init({.seed = 7, .device = device()});
  Model model(config);
  nn::AdamW optimizer(model.parameters(), {.lr = 2e-3});
  options.epochs = 3, options.batch_size = 6, options.clip_norm = 0.5, options.progress = false;
  options.schedule = nn::Schedule::parse("cosine", {.warmup = 3, .total = 12});
  options.cuda_graph = cuda_graph;
  nn::Classification<Model> objective(model);
  nn::Trainer trainer(objective, optimizer, options);
  trainer.on_step = [&](const nn::Metrics& now) {
    if (losses) losses->push_back(now.loss);
  };
  const data::Batch all = random_images(20, 8);
  const data::TensorDataset set(all.inputs, all.target);
  trainer.fit(set, set);
  return flat_state(model);
}

}  // namespace

TEST_CASE("cuda graph: replayed steps are the steps as they would have run, bit for bit") {
  std::vector<double> plain_losses, replayed_losses;
  const nn::TrainerOptions options{
      .passes = 2, .alpha = 1, .alpha_schedule = nn::AlphaSchedule::warmup, .alpha_warmup = 6};
  const auto plain = fitted(false, options, &plain_losses),
             replayed = fitted(true, options, &replayed_losses);
  REQUIRE(replayed_losses.size() == plain_losses.size());
  for (size_t i = 0; i < plain_losses.size(); ++i) {
    INFO("step ", i);
    CHECK(replayed_losses[i] == plain_losses[i]);
  }
  CHECK(replayed == plain);
}

TEST_CASE("cuda graph: every plan, mixed precision, and R-Drop at every second step") {
  for (nn::TrainerOptions options :
       {nn::TrainerOptions{.passes = 3, .plan = nn::Plan::replay},
        nn::TrainerOptions{.plan = nn::Plan::sequential}, nn::TrainerOptions{.precision = DType::bf16},
        nn::TrainerOptions{.rdrop_every = 2}, nn::TrainerOptions{.precision = DType::bf16, .rdrop_every = 2},
        nn::TrainerOptions{.accumulate = 2}}) {
    INFO(std::string(name_of(options.plan)), " ", std::string(name_of(options.precision)), " every ",
         options.rdrop_every);
    CHECK(fitted(true, options) == fitted(false, options));
  }
}

TEST_CASE("cuda graph: running statistics") {
  const auto run = [](bool cuda_graph) {
    return fitted<models::Cnn>(cuda_graph, {.passes = 2, .alpha = 1}, nullptr, kCnn);
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("cuda graph: two replays of one step differ by their masks, which are those of their steps") {
  const nn::InitScope init({.seed = 7, .device = device()});
  models::Vit model(kVit);
  VitObjective objective(model);
  nn::SGD optimizer(model.parameters(), {.lr = 0});  // the weights stay
  nn::Trainer trainer(objective, optimizer, {.passes = 2, .alpha = 1, .cuda_graph = true, .progress = false});
  std::vector<double> losses;
  for (int i = 0; i < 5; ++i) losses.push_back(trainer.step({random_images(4, 8)}).loss);
  for (int i = 0; i < 5; ++i) {
    const nn::StepResult alone = nn::accumulate_gradients(
        objective, {random_images(4, 8)}, {.passes = 2, .alpha = 1, .step = static_cast<uint64_t>(i)});
    CHECK(losses[i] == alone.loss);
    if (i > 0) CHECK(losses[i] != losses[i - 1]);
  }
}

TEST_CASE("cuda graph: a gradient that is not finite changes nothing, and says so") {
  const nn::InitScope init({.seed = 7, .device = device()});
  models::Cnn model(kCnn);
  nn::Classification objective(model);
  nn::AdamW optimizer(model.parameters(), {.lr = 1e-3});
  nn::Trainer trainer(objective, optimizer, {.passes = 2, .cuda_graph = true, .progress = false});
  for (int i = 0; i < 3; ++i) trainer.step({random_images(4, 8)});
  const auto before = flat_state(model);
  data::Batch bad = random_images(4, 8);
  bad.inputs[0].data<float>()[5] = NAN;
  CHECK_THROWS_AS(trainer.step({bad}), ValueError);
  CHECK(flat_state(model) == before);
  bad = random_images(4, 8);
  bad.target.data<int64_t>()[1] = 3;
  CHECK_THROWS_WITH_AS(
      trainer.step({bad}),
      "rdrop_cross_entropy: target is 3 at unit 1, expected a class in [0, 3) or ignore_index -100",
      ValueError);
  CHECK(flat_state(model) == before);
  CHECK(std::isfinite(trainer.step({random_images(4, 8)}).loss));
  CHECK(flat_state(model) != before);
}

TEST_CASE("cuda graph: on the CPU it is an error that says what was expected") {
  Mlp model;
  nn::AdamW optimizer(model.parameters(), {});
  CHECK_THROWS_WITH_AS(nn::Trainer(model, optimizer, {.cuda_graph = true}),
                       "cuda_graph: the model is on the CPU, expected a device that can record its work",
                       ConfigError);
}
