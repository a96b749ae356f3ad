// Averaged weights, parameters that learn from some epoch on, and rates of their own.
#include <doctest/doctest.h>

#include <filesystem>

#include "nn/io/files.h"
#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/optim/ema.h"
#include "nn/optim/sgd.h"
#include "nn/train/trainer.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

using Values = std::vector<double>;

Values averages_of(const nn::Ema& ema) {
  Values all;
  for (const auto& [name, tensor] : ema.state_dict())
    if (name != "updates") append(all, tensor);
  return all;
}

}  // namespace

TEST_CASE("ema: the average of the weights; those that do not learn stay") {
  const nn::InitScope init({.dtype = DType::f64});
  Mlp model;
  model.second.requires_grad_(false);
  nn::Ema ema(model, 0.5);
  Values expected = flat_parameters(model);
  CHECK(averages_of(ema) == expected);
  for (int t = 1; t <= 30; ++t) {
    const NoGradGuard no_grad;
    for (const Tensor& p : model.parameters())
      if (p.requires_grad()) p.copy_(p * 0.9 + 0.01 * t);
    ema.update();
    const double d = std::min(0.5, (1.0 + t) / (10.0 + t));
    const Values now = flat_parameters(model);
    for (size_t i = 0; i < now.size(); ++i) expected[i] = d * expected[i] + (1 - d) * now[i];
  }
  CHECK(distance(averages_of(ema), expected) < 1e-14);
  const Values own = flat_parameters(model);
  {
    const nn::Ema::Weights averages(ema);
    CHECK(flat_parameters(model) == averages_of(ema));
  }
  CHECK(flat_parameters(model) == own);
  ema.update(full({1}, NAN, {DType::f64}));
  CHECK(distance(averages_of(ema), expected) < 1e-14);
  CHECK(nn::find(ema.state_dict(), "updates")->item() == 30);
  ema.restart();
  CHECK(averages_of(ema) == own);
  CHECK(nn::find(ema.state_dict(), "updates")->item() == 0);
  check_throws<ConfigError>("ema: expected a decay in (0, 1), got 1", [&] { nn::Ema(model, 1); });
}

TEST_CASE("ema: the average of what is frozen later comes to it") {
  Mlp model;
  nn::Ema ema(model, 0.9);
  {
    const NoGradGuard no_grad;
    for (const Tensor& p : model.parameters()) p.mul_(2);
  }
  ema.update();
  model.requires_grad_(false);
  for (int i = 0; i < 300; ++i) ema.update();
  CHECK(distance(averages_of(ema), flat_parameters(model)) < 1e-6);
}

TEST_CASE("ema: what does not fit is refused whole") {
  Mlp model;
  nn::Ema ema(model, 0.9);
  const Values before = averages_of(ema);
  nn::StateDict state = nn::clone(ema.state_dict());
  for (nn::NamedTensor& entry : state)
    if (entry.name != "updates") entry.tensor = zeros_like(entry.tensor);
  state.back().tensor = zeros({5});
  check_throws<ShapeError>("ema: load_state_dict: \"out.bias\": expected f32[4], got f32[5]",
                           [&] { ema.load_state_dict(state); });
  state.pop_back();
  check_throws<ConfigError>("\"out.bias\" is missing", [&] { ema.load_state_dict(state); });
  CHECK(averages_of(ema) == before);
}

// Whole and cut into two, under each plan, with accumulation: unfreezing and averages go on where they were.
TEST_CASE("fine-tuning: a resumed run is the uninterrupted one, bit for bit, and its best are averages") {
  const Blobs train(48), valid(32, DType::f32, 2);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)));
    const auto run = [&](const std::string& name, int64_t epochs, bool resume) {
      Mlp model;
      nn::AdamW optimizer{{{model.first.parameters(), {.lr = 2e-3}},
                           {model.second.parameters(), {}},
                           {model.out.parameters(), {.lr = 5e-2, .weight_decay = 0}}},
                          {.lr = 1e-2}};
      nn::Trainer trainer(model, optimizer,
                          {.passes = 2,
                           .alpha = 1,
                           .plan = plan,
                           .epochs = epochs,
                           .batch_size = 12,
                           .accumulate = 2,
                           .clip_norm = 1,
                           .ema = 0.9,
                           .run_dir = folder.path() + "/" + std::string(name_of(plan)) + name,
                           .progress = false});
      trainer.on_epoch = [&](int64_t epoch) { model.first.requires_grad_(epoch >= 2); };
      trainer.on_epoch(0);
      const Values first = flat_parameters(model.first);
      resume ? trainer.resume(train, valid) : trainer.fit(train, valid);
      if (epochs == 2) CHECK(flat_parameters(model.first) == first);
      if (epochs == 4) CHECK(flat_parameters(model.first) != first);
      return flat_parameters(model);
    };
    const Values whole = run("whole", 4, false);
    run("cut", 2, false);
    CHECK(run("cut", 4, true) == whole);
    const auto last =
        nn::load_safetensors(folder.path() + "/" + std::string(name_of(plan)) + "cut/last.safetensors")
            .tensors;
    Values own, average, best;
    for (const auto& [name, tensor] : last) {
      if (name.starts_with("model.")) append(own, tensor);
      if (name.starts_with("ema.") && name != "ema.updates") append(average, tensor);
      if (name.starts_with("best.")) append(best, tensor);
    }
    CHECK(own != average);
    CHECK(best == whole);
    CHECK(nn::find(last, "ema.updates")->item() == 16);
  }
}

TEST_CASE("fine-tuning: a group for each parameter is one for all, to the last bit") {
  const auto run = [](bool alone) {
    Mlp model;
    std::vector<nn::ParameterGroup> groups{{model.parameters()}};
    if (alone) {
      groups.clear();
      for (const Tensor& parameter : model.parameters()) groups.push_back({{parameter}});
    }
    nn::AdamW optimizer{groups, {.lr = 1e-2}};
    nn::Trainer trainer(model, optimizer, {.passes = 2, .alpha = 1, .epochs = 1, .progress = false});
    trainer.fit(Blobs(48), Blobs(16));
    return flat_parameters(model);
  };
  CHECK(run(true) == run(false));
}
