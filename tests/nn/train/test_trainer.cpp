#include "nn/train/trainer.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "autograd/grad_mode.h"
#include "nn/io/files.h"
#include "nn/io/safetensors.h"
#include "nn/optim/adam.h"
#include "nn/optim/sgd.h"
#include "nn/train/run_folder.h"
#include "tests/nn/train/toy.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Setup {
  explicit Setup(nn::TrainerOptions options, double lr = 1e-2)
      : optimizer(model.parameters(), nn::AdamWOptions{.lr = lr}),
        trainer(model, optimizer, quiet(std::move(options))) {}
  static nn::TrainerOptions quiet(nn::TrainerOptions options) {
    options.progress = false;
    return options;
  }
  Mlp model;
  nn::AdamW optimizer;
  nn::Trainer trainer;
};

std::string read(const std::string& file) { return data::read_file("test", file, 1 << 26); }

}  // namespace

TEST_CASE("a small model learns, and its metrics are those of a separate evaluation") {
  const Blobs train(256), test(128, DType::f32, 2);
  Setup s({.passes = 2, .alpha = 0.5, .epochs = 8, .batch_size = 32});
  const nn::FitResult result = s.trainer.fit(train, test);
  REQUIRE(result.valid.size() == 8);
  CHECK(result.best().accuracy > 0.75);
  CHECK(result.train.back().ce < result.train.front().ce);
  CHECK(result.train.back().kl > 0);
  nn::Classification<Mlp> objective(s.model);
  const nn::Metrics again = nn::evaluate(objective, test);
  CHECK(again.accuracy == result.best().accuracy);  // the best weights are back
  CHECK(again.ce == doctest::Approx(result.best().ce));
  CHECK(again.kl == 0);
}

TEST_CASE("evaluation is one pass without noise, and leaves the batch and the mode alone") {
  const Blobs test(40);
  Mlp model;
  nn::Classification<Mlp> objective(model);
  const nn::Metrics a = nn::evaluate(objective, test), b = nn::evaluate(objective, test, 7);
  CHECK(a.ce == doctest::Approx(b.ce).epsilon(1e-6));
  CHECK(a.accuracy == b.accuracy);
  CHECK(model.is_training());
  const data::Batch batch = whole(test, 0, 8);
  const auto before = batch.inputs[0].to_vector<float>();
  nn::accumulate_gradients(objective, {batch}, {.passes = 3});
  CHECK(batch.inputs[0].to_vector<float>() == before);
}

TEST_CASE("the same seed gives the same run, another seed another, for any number of passes") {
  const Blobs train(64), test(32);
  auto weights = [&](uint64_t seed) {
    Setup s({.passes = 2, .epochs = 2, .batch_size = 16, .seed = seed});
    s.trainer.fit(train, test);
    return flat_parameters(s.model);
  };
  CHECK(weights(1) == weights(1));
  CHECK(weights(1) != weights(2));
}

TEST_CASE("a resumed run is the uninterrupted one, bit for bit") {
  const Blobs train(64), test(32);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  const std::string whole_run = folder.path() + "/whole", cut = folder.path() + "/cut";
  auto options = [](const std::string& dir, int64_t epochs) {
    return nn::TrainerOptions{.passes = 2,
                              .alpha = 1,
                              .epochs = epochs,
                              .batch_size = 24,
                              .schedule = nn::Schedule::cosine(3, 30),
                              .clip_norm = 1,
                              .seed = 4,
                              .run_dir = dir};
  };
  Setup a(options(whole_run, 6));
  const nn::FitResult full = a.trainer.fit(train, test);
  {
    Setup b(options(cut, 3));
    b.trainer.fit(train, test);
  }
  Setup c(options(cut, 6));
  const nn::FitResult resumed = c.trainer.resume(train, test);
  CHECK(flat_parameters(c.model) == flat_parameters(a.model));
  REQUIRE(resumed.valid.size() == full.valid.size());
  for (size_t i = 0; i < full.valid.size(); ++i) {
    CHECK(resumed.valid[i].ce == full.valid[i].ce);
    CHECK(resumed.train[i].loss == full.train[i].loss);
    CHECK(resumed.train[i].lr == full.train[i].lr);
  }
  CHECK(nn::load_safetensors(cut + "/best.safetensors").tensors.size() == 6);
}

TEST_CASE("a resume from a file that is no checkpoint says so and changes nothing") {
  const Blobs train(32), test(16);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  Setup s({.epochs = 1, .run_dir = folder.path()});
  CHECK_THROWS_AS(s.trainer.resume(train, test), IoError);  // missing
  nn::save_safetensors(folder.path() + "/last.safetensors", {{"x", zeros({2})}});
  const auto before = flat_parameters(s.model);
  CHECK_THROWS_AS(s.trainer.resume(train, test), IoError);
  CHECK(flat_parameters(s.model) == before);
}

TEST_CASE("R-Drop every k-th step: plain steps between, with no KL") {
  const Blobs train(64), test(16);
  Setup s({.passes = 3, .rates = {0.1, 0.2, 0.3}, .rdrop_every = 3, .epochs = 2, .batch_size = 16});
  std::vector<bool> has_kl;
  s.trainer.on_step = [&](const nn::Metrics& m) { has_kl.push_back(m.kl > 0); };
  s.trainer.fit(train, test);
  CHECK(has_kl == std::vector<bool>{true, false, false, true, false, false, true, false});
}

TEST_CASE("plain training tells the KL between passes that it does not make, and is not changed by it") {
  const Blobs train(64), test(16);
  const auto train_with = [&](int64_t measure_kl, std::vector<double>* each = nullptr) {
    Setup s({.passes = 1, .measure_kl = measure_kl, .epochs = 2, .batch_size = 8});
    if (each) s.trainer.on_step = [each](const nn::Metrics& now) { each->push_back(now.kl); };
    const nn::FitResult result = s.trainer.fit(train, test);
    return std::pair(flat_parameters(s.model), result.train);
  };
  std::vector<double> each;
  const auto [weights, epochs] = train_with(3, &each);
  CHECK(weights == train_with(0).first);
  CHECK(train_with(0).second[0].kl == 0);
  double sum = 0;
  for (int step = 0; step < 8; ++step) {
    CAPTURE(step);
    CHECK(std::isnan(each[step]) == (step % 3 != 0));
    if (step % 3 == 0) sum += each[step];
  }
  CHECK(std::isnan(each[8]));
  CHECK(!std::isnan(each[9]));
  CHECK(epochs[0].kl == doctest::Approx(sum / 3));
  const auto seldom = train_with(100).second;  // an epoch without a measurement has the last one's
  CHECK(seldom[0].kl == each[0]);
  CHECK(seldom[1].kl == each[0]);
  // The first step's is that of R-Drop, whose passes 0 and 1 are the same.
  Setup two({.passes = 2, .epochs = 1, .batch_size = 8});
  double first = NAN;
  two.trainer.on_step = [&](const nn::Metrics& now) { first = std::isnan(first) ? now.kl : first; };
  two.trainer.fit(train, test);
  CHECK(each[0] == doctest::Approx(first).epsilon(1e-6));
  CHECK(first > 1e-3);
}

TEST_CASE("alpha's schedules") {
  const Blobs train(64), test(16);
  auto alphas = [&](nn::TrainerOptions options) {
    options.epochs = 1, options.batch_size = 16, options.alpha = 2;
    Setup s(options);
    std::vector<double> seen;
    s.trainer.on_step = [&](const nn::Metrics& m) {
      seen.push_back(m.alpha);
      CHECK(m.loss == doctest::Approx(m.ce + m.alpha / 2 * m.kl).epsilon(1e-9));
    };
    s.trainer.fit(train, test);
    return seen;
  };
  CHECK(alphas({}) == std::vector<double>{2, 2, 2, 2});
  CHECK(alphas({.alpha_schedule = nn::AlphaSchedule::warmup, .alpha_warmup = 4}) ==
        std::vector<double>{0.5, 1, 1.5, 2});
  const auto with_lr =
      alphas({.alpha_schedule = nn::AlphaSchedule::lr, .schedule = nn::Schedule::linear(0, 4)});
  for (int i = 0; i < 4; ++i) CHECK(with_lr[i] == doctest::Approx(2 * nn::Schedule::linear(0, 4)(i + 1)));
}

TEST_CASE("early stopping ends the run and keeps the best weights") {
  const Blobs train(32), test(64, DType::f32, 3, 2.0);
  Setup s({.epochs = 60, .batch_size = 8, .patience = 3}, 3e-2);
  const nn::FitResult result = s.trainer.fit(train, test);
  CHECK(result.stopped_early);
  CHECK(static_cast<int64_t>(result.valid.size()) == result.best_epoch + 4);
}

TEST_CASE("a loss that is not finite is an error, and nothing on disk is touched") {
  const Blobs train(32), test(16);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  Setup s({.epochs = 1, .batch_size = 32, .run_dir = folder.path()});
  s.trainer.fit(train, test);
  const std::string before = read(folder.path() + "/last.safetensors") + read(folder.path() + "/metrics.csv");
  {
    NoGradGuard guard;
    s.model.out.parameters()[1].fill_(INFINITY);
  }
  CHECK_THROWS_AS(s.trainer.fit(train, test), ValueError);
  CHECK(read(folder.path() + "/last.safetensors") + read(folder.path() + "/metrics.csv") == before);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    CHECK(entry.path().filename().string().find(".tmp") == std::string::npos);
  }
}

TEST_CASE("metrics.csv has a row for each epoch and split") {
  const Blobs train(32), test(16);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  Setup s({.epochs = 3, .run_dir = folder.path()});
  s.trainer.fit(train, test);
  std::ifstream file(folder.path() + "/metrics.csv");
  std::string line;
  int rows = 0;
  while (std::getline(file, line)) {
    CHECK(std::count(line.begin(), line.end(), ',') == 11);
    ++rows;
  }
  CHECK(rows == 1 + 2 * 3);
}

TEST_CASE("options out of range are ConfigErrors that name the option") {
  auto message = [](nn::TrainerOptions options) -> std::string {
    try {
      Setup s(options);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(message({.passes = 0}) == "passes: expected at least 1, got 0");
  CHECK(message({.alpha = -1}) == "alpha: expected a number >= 0, got -1");
  CHECK(message({.alpha = NAN}).starts_with("alpha: expected a number >= 0, got"));
  CHECK(message({.passes = 2, .rates = {0.1}}) == "rates: expected one for each of the 2 passes, got 1");
  CHECK(message({.passes = 1, .rates = {1.0}}) == "rates: expected rates in [0, 1), got 1");
  CHECK(message({.rdrop_every = 0}) == "rdrop_every: expected at least 1, got 0");
  CHECK(message({.epochs = 0}) == "epochs: expected at least 1, got 0");
  CHECK(message({.batch_size = 0}) == "batch_size: expected at least 1, got 0");
  CHECK(message({.batch_size = 4, .accumulate = 5}) == "accumulate: 5 micro-batches of a batch of 4");
  CHECK(message({.label_smoothing = 1}).starts_with("label_smoothing:"));
  CHECK(message({.clip_norm = -1}).starts_with("clip_norm:"));
  CHECK_THROWS_WITH_AS(nn::parse_plan("fast"), "plan: expected stacked, sequential or replay, got 'fast'",
                       ConfigError);
}

TEST_CASE("a label out of range stops the step with an error that names it") {
  Mlp model;
  nn::Classification<Mlp> objective(model);
  data::Batch batch = whole(Blobs(8), 0, 8);
  batch.target = from_values(std::vector<int64_t>{0, 1, 2, 3, 4, 0, 1, 2}, {8});
  CHECK_THROWS_AS(nn::accumulate_gradients(objective, {batch}, {}), ValueError);
}

TEST_CASE(
    "regression: the loss falls, no accuracy is reported, and the best epoch is that of the least error") {
  struct Line : nn::Module {
    nn::Linear hidden{*this, "hidden", 6, 16}, out{*this, "out", 16, 1};
    nn::Dropout drop{*this, "drop", 0.1};
    Tensor forward(const Tensor& x) { return out(drop(tanh(hidden(x)))); }
  };
  Line model;
  nn::Regression<Line> objective(model);
  nn::AdamW optimizer(model.parameters(), nn::AdamWOptions{.lr = 1e-2});
  nn::Trainer trainer(objective, optimizer,
                      {.passes = 3, .alpha = 0.5, .epochs = 8, .batch_size = 16, .progress = false});
  const Tensors points = whole(Blobs(128), 0, 128).inputs;
  const data::TensorDataset data(points, points[0].sum({1}));
  const nn::FitResult result = trainer.fit(data, data);
  CHECK(result.valid.back().ce < 0.5 * result.valid.front().ce);
  CHECK(result.train.back().kl > 0);
  CHECK(result.train.back().accuracy == -1);
  CHECK(result.valid.back().accuracy == -1);
  for (const nn::Metrics& m : result.valid) CHECK(result.best().ce <= m.ce);
}

TEST_CASE("a label that is ignored does not count towards the divisor") {
  Mlp model;
  nn::Classification<Mlp> objective(model);
  data::Batch batch = whole(Blobs(8), 0, 8);
  const nn::StepResult of_six = nn::accumulate_gradients(objective, {whole(Blobs(8), 0, 6)}, {.seed = 1});
  const auto gradients = flat_gradients(model);
  model.zero_grad();
  batch.target = from_values(std::vector<int64_t>{0, 1, 2, 3, 0, 1, -100, -100}, {8});
  const nn::StepResult result = nn::accumulate_gradients(objective, {batch}, {.seed = 1});
  CHECK(result.units == 6);
  CHECK(result.loss == doctest::Approx(of_six.loss).epsilon(1e-6));
  CHECK(distance(flat_gradients(model), gradients) < 1e-5);
}

TEST_CASE("a gradient that is not finite is an error before the weights change") {
  const Blobs train(32), test(16);
  Setup s({.epochs = 1, .batch_size = 32});
  s.model.out.parameters()[0].register_hook([](const Tensor& g) { return g * NAN; });
  const auto before = flat_parameters(s.model);
  CHECK_THROWS_AS(s.trainer.fit(train, test), ValueError);
  CHECK(flat_parameters(s.model) == before);
}

TEST_CASE("the optimizer has its own rate again after a schedule, and after an error") {
  const Blobs train(32), test(16);
  Setup s({.epochs = 1, .batch_size = 8, .schedule = nn::Schedule::cosine(0, 4)});
  s.trainer.fit(train, test);
  CHECK(s.optimizer.lr() == 1e-2);
}

TEST_CASE("resuming a run that stopped early trains no further") {
  const Blobs train(32), test(64, DType::f32, 3, 2.0);
  const data::TemporaryFolder folder(std::filesystem::temp_directory_path());
  const nn::TrainerOptions options{.epochs = 60, .batch_size = 8, .patience = 3, .run_dir = folder.path()};
  Setup first(options, 3e-2);
  const nn::FitResult stopped = first.trainer.fit(train, test);
  REQUIRE(stopped.stopped_early);
  Setup second(options, 3e-2);
  const nn::FitResult resumed = second.trainer.resume(train, test);
  CHECK(resumed.valid.size() == stopped.valid.size());
  CHECK(flat_parameters(second.model) == flat_parameters(first.model));
}
