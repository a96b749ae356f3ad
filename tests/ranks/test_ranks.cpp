// N ranks are the training of one: run by `mpirun -n N test_ranks`. Every rank also trains alone, and holds
// what the ranks came to against that. --device=NAME: on a device of its own for each of a machine's ranks,
// or with --one-device on the first one for all; --host-sums: NCCL is expected to join none.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "autograd/load_device.h"
#include "models/cnn/cnn.h"
#include "models/transformer/transformer.h"
#include "nn/methods/methods.h"
#include "nn/optim/adam.h"
#include "nn/optim/sgd.h"
#include "nn/ranks/join.h"
#include "tests/files.h"
#include "tests/nn/train/toy.h"
#include "tests/program_folder.h"

namespace tandem::testing {
namespace {
Device chosen = kCpu;
bool joins_devices = true;  // whether NCCL does
}  // namespace
Device device() { return chosen; }

namespace {

Ranks* ranks = nullptr;

struct Trained {
  nn::FitResult result;
  std::vector<double> weights, buffers;
};

// A training of Model(arguments...) by `who`, the ranks or (null) this process alone.
template <class Model, class Optimizer = nn::SGD, class Objective = nn::Classification<Model>, class Config>
Trained train(Ranks* who, nn::TrainerOptions options, const data::Dataset& data, const Config& config,
              DType dtype = DType::f64, const std::function<void(nn::Trainer&)>& prepare = {},
              const data::Dataset* valid = nullptr) {
  const nn::InitScope init({.seed = 7, .dtype = dtype, .device = device()});
  Model model(config);
  Objective objective(model);
  std::unique_ptr<nn::Optimizer> optimizer;
  if constexpr (std::is_same_v<Optimizer, nn::SGD>) {
    optimizer = std::make_unique<nn::SGD>(model.parameters(), nn::SGDOptions{.lr = 0.05, .momentum = 0.9});
  } else {
    optimizer = std::make_unique<Optimizer>(model.parameters());
  }
  options.ranks = who;
  options.progress = false;
  nn::Trainer trainer(objective, *optimizer, options);
  if (prepare) prepare(trainer);
  Trained trained{trainer.fit(data, valid ? *valid : data), flat_parameters(model), {}};
  for (const auto& [name, buffer] : model.named_buffers()) append(trained.buffers, buffer);
  return trained;
}

void check_same(const Trained& a, const Trained& b, double tolerance) {
  REQUIRE(a.result.train.size() == b.result.train.size());
  for (size_t i = 0; i < a.result.train.size(); ++i) {
    CHECK(a.result.train[i].loss == doctest::Approx(b.result.train[i].loss).epsilon(tolerance));
    CHECK(a.result.train[i].kl == doctest::Approx(b.result.train[i].kl).epsilon(tolerance));
    CHECK(a.result.valid[i].ce == doctest::Approx(b.result.valid[i].ce).epsilon(tolerance));
    CHECK(a.result.valid[i].accuracy == b.result.valid[i].accuracy);
  }
  CHECK(distance(a.weights, b.weights) < tolerance);
  if (!b.buffers.empty()) CHECK(distance(a.buffers, b.buffers) < tolerance);
}

// Trains with the ranks, twice, and alone.
template <class F> void check_ranks(F train_by, double tolerance = 1e-9) {
  const Trained alone = train_by(nullptr), together = train_by(ranks), again = train_by(ranks);
  check_same(together, alone, tolerance);
  CHECK(together.weights == again.weights);
}

struct SmallMlp : Mlp {
  explicit SmallMlp(int) {}
};

// 30 samples in batches of 8: the last one has 6. Five epochs of four steps.
nn::TrainerOptions options() {
  return {.passes = 2, .epochs = 5, .batch_size = 8, .clip_norm = 0.5, .seed = 3};
}

}  // namespace

TEST_CASE("sums: of numbers, of the first ranks, of tensors while others are under way, of texts") {
  const int n = ranks->size();
  double x[] = {1.0 + ranks->rank(), 0.5};
  ranks->sum(x);
  CHECK(x[0] == n * (n + 1) / 2);
  CHECK(x[1] == 0.5 * n);
  for (int count = 1; count <= n; ++count) {
    if (ranks->rank() >= count) continue;
    double one = 1;
    ranks->sum({&one, 1}, count);
    CHECK(one == count);
  }
  const Tensor a = full({100000}, 1 + ranks->rank()), b = full({3}, 2, {DType::f64});
  ranks->begin_sum(a), ranks->begin_sum(b);
  double between = 1;
  ranks->sum({&between, 1});
  ranks->end_sums();
  CHECK(between == n);
  CHECK(a.to_vector<double>() == std::vector<double>(100000, n * (n + 1) / 2));
  CHECK(b.to_vector<double>() == std::vector<double>(3, 2 * n));
  const std::vector<std::string> texts = ranks->gather(std::string(ranks->rank() * 3, 'x'));
  REQUIRE(std::ssize(texts) == n);
  for (int i = 0; i < n; ++i) CHECK(texts[i] == std::string(i * 3, 'x'));
}

TEST_CASE("an MLP: accumulation, clipping, averaged weights, an uneven last batch") {
  const Blobs data(30, DType::f64);
  auto o = options();
  for (const int64_t accumulate : {1, 3}) {
    CAPTURE(accumulate);
    o.accumulate = accumulate, o.ema = 0.9, o.average = 2;
    check_ranks([&](Ranks* who) { return train<SmallMlp, nn::AdamW>(who, o, data, 0); });
  }
}

TEST_CASE("an MLP in f32") {
  const Blobs data(30);
  check_ranks([&](Ranks* who) { return train<SmallMlp>(who, options(), data, 0, DType::f32); }, 1e-4);
}

TEST_CASE("an MLP in f32: a device's sums are made there") {
  if (device() == kCpu) return;
  const std::unique_ptr<RankSums> sums = backend(device()).join(*ranks);
  REQUIRE((sums != nullptr) == joins_devices);
  if (!sums) return;
  const Tensor a = full({1000}, 1 + ranks->rank(), {DType::f32, device()}),
               b = full({3}, 2, {DType::f64, device()});
  sums->begin(a.device_raw(), 1000, false);
  sums->begin(b.device_raw(), 3, true);
  sums->end();
  const int n = ranks->size();
  CHECK(a.to_vector<double>() == std::vector<double>(1000, n * (n + 1) / 2));
  CHECK(b.to_vector<double>() == std::vector<double>(3, 2 * n));
}

TEST_CASE("three passes of unequal rates under every plan, R-Drop at every second step") {
  const Blobs data(30, DType::f64);
  auto o = options();
  o.passes = 3, o.rates = {0, 0.1, 0.4}, o.rdrop_every = 2;
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    CAPTURE(nn::name_of(plan));
    o.plan = plan;
    check_ranks([&](Ranks* who) { return train<SmallMlp>(who, o, data, 0); });
  }
}

TEST_CASE("plain training, and the KL that it measures") {
  const Blobs data(30, DType::f64);
  auto o = options();
  o.passes = 1, o.measure_kl = 2;
  check_ranks([&](Ranks* who) { return train<SmallMlp>(who, o, data, 0); });
}

TEST_CASE("batch norm's statistics are those of all ranks, also where there are more ranks than samples") {
  const data::Batch images = random_images(21, 8, DType::f64);
  const data::TensorDataset data({images.inputs[0]}, images.target);
  const models::CnnConfig config{.image_size = 8, .classes = 3, .width = 4, .dropout = 0.2};
  auto o = options();
  o.batch_size = 6;  // the last one has three samples: with accumulation, two and one
  for (const int64_t accumulate : {1, 2}) {
    CAPTURE(accumulate);
    o.accumulate = accumulate;
    check_ranks([&](Ranks* who) { return train<models::Cnn>(who, o, data, config); });
  }
}

TEST_CASE("a step that is not finite on one rank is left out on all, or goes back with all") {
  const data::Batch images = random_images(21, 8, DType::f64), points = whole(Blobs(30, DType::f64), 0, 30);
  const data::TensorDataset valid_images({images.inputs[0].clone()}, images.target);
  const data::TensorDataset valid_points({points.inputs[0].clone()}, points.target);
  images.inputs[0].data<double>()[64 * 13] = NAN, points.inputs[0].data<double>()[6 * 13] = NAN;
  const data::TensorDataset bad_images({images.inputs[0]}, images.target);
  const data::TensorDataset bad_points({points.inputs[0]}, points.target);
  const models::CnnConfig config{.image_size = 8, .classes = 3, .width = 4, .dropout = 0.2};
  auto o = options();
  o.on_nan = nn::OnNan::skip, o.batch_size = 6, o.accumulate = 2;
  for (const int passes : {1, 2}) {
    o.passes = passes;
    check_ranks([&](Ranks* who) {
      const Trained trained = train<SmallMlp>(who, o, bad_points, 0, DType::f64, {}, &valid_points);
      CHECK(trained.result.skipped == 5);  // one in each epoch
      return trained;
    });
    check_ranks([&](Ranks* who) {
      return train<models::Cnn>(who, o, bad_images, config, DType::f64, {}, &valid_images);
    });
  }
  const Scratch scratch;  // back: the last batch of an epoch is the first that is not finite
  o.on_nan = nn::OnNan::back, o.epochs = 1, o.save_steps = 1, o.eval_steps = 2;
  for (o.seed = 0; bad_points.shuffled_batches(o.seed, 0, 6).back().front() != 13; ++o.seed) continue;
  int folders = 0;
  check_ranks([&](Ranks* who) {
    const std::string own = scratch.folder("run" + std::to_string(folders++));
    o.run_dir = who ? ranks->gather(own)[0] : own;
    return train<SmallMlp>(who, o, bad_points, 0, DType::f64, {}, &valid_points);
  });
  o.on_nan = nn::OnNan::stop, o.run_dir = "";
  check_throws<NonFiniteError>("in sample 13 of the data set", [&] {
    train<SmallMlp>(ranks, o, bad_points, 0, DType::f64, {}, &valid_points);
  });
}

TEST_CASE(
    "what plans, metrics and labels bring: early stopping by a metric, class weights, few to validate") {
  const Blobs data(30, DType::f64), few(2, DType::f64, 3);
  auto o = options();
  o.eval_steps = 3, o.patience = 2, o.drop_last = true, o.eval_batch_size = 1;
  int64_t measured = 0;
  o.metric = {.name = "made up", .measure = [&](const nn::Metrics& m) { return ++measured, m.ce; }};
  check_ranks([&](Ranks* who) {
    measured = 0;
    const Trained trained = train<SmallMlp>(who, o, data, 0, DType::f64, {}, &few);
    CHECK((measured > 0) == (!who || who->first()));
    return trained;
  });
}

TEST_CASE("texts of unequal lengths: padding differs between ranks") {
  std::vector<data::Ids> source, target;
  for (int i = 0; i < 26; ++i) {
    source.emplace_back(1 + i * 7 % 9), target.emplace_back(1 + i * 5 % 8);
    for (size_t k = 0; k < source[i].size(); ++k) source[i][k] = 4 + (i * 3 + k) % 16;
    for (size_t k = 0; k < target[i].size(); ++k) target[i][k] = 4 + (i + k * 5) % 16;
  }
  const data::PairDataset data(source, target, 12, data::TooLong::cut);
  const models::TransformerConfig config{.vocab = 20,
                                         .dim = 8,
                                         .heads = 2,
                                         .mlp_dim = 16,
                                         .encoder_layers = 1,
                                         .decoder_layers = 1,
                                         .attention_dropout = 0.1,
                                         .layer_drop = 0.1,
                                         .word_dropout = 0.1};
  auto o = options();
  o.batch_size = 48, o.label_smoothing = 0.1;
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::replay}) {
    o.plan = plan;
    check_ranks([&](Ranks* who) {
      return train<models::Transformer, nn::SGD, models::SequenceToSequence>(who, o, data, config);
    });
  }
}

TEST_CASE("a run of several ranks goes on with them, or with one") {
  const Blobs data(30, DType::f64);
  const Scratch scratch;
  const std::string folder = ranks->gather(scratch.folder("run"))[0], copy = scratch.file("one");
  auto o = options();
  o.run_dir = folder, o.save_steps = 3;
  struct Stop {};
  const auto stop = [](nn::Trainer& trainer) {
    trainer.on_step = [&trainer](const nn::Metrics& now) {
      if (now.step == 7) trainer.save(), throw Stop();
    };
  };
  CHECK_THROWS_AS(train<SmallMlp>(ranks, o, data, 0, DType::f64, stop), Stop);
  const Trained whole = [&] {
    auto elsewhere = o;
    elsewhere.run_dir = "";
    return train<SmallMlp>(nullptr, elsewhere, data, 0);
  }();
  const auto go_on = [&](Ranks* who) {
    const nn::InitScope init({.seed = 8, .dtype = DType::f64});
    SmallMlp model(0);
    nn::SGD optimizer(model.parameters(), nn::SGDOptions{.lr = 0.05, .momentum = 0.9});
    o.ranks = who, o.progress = false;
    nn::Trainer trainer(model, optimizer, o);
    Trained trained{trainer.resume(data, data), flat_parameters(model), {}};
    return trained;
  };
  double done = 1;
  ranks->sum({&done, 1});
  if (ranks->first()) std::filesystem::copy(folder, copy);
  check_same(go_on(ranks), whole, 1e-9);
  if (ranks->first()) {
    o.run_dir = copy;
    check_same(go_on(nullptr), whole, 1e-9);
  }
  ranks->sum({&done, 1});
}

TEST_CASE("ranks that differ say in what, before the first step") {
  const Blobs data(30, DType::f64), other(30, DType::f64, 2);
  const bool last = ranks->rank() == ranks->size() - 1;
  const std::string who = "rank " + std::to_string(ranks->size() - 1) + " differs from rank 0 in its ";
  check_throws<ConfigError>(who + "training data: ",
                            [&] { train<SmallMlp>(ranks, options(), last ? other : data, 0); });
  auto o = options();
  if (last) o.alpha = 5;
  check_throws<ConfigError>(who + "alpha: 5, not 1", [&] { train<SmallMlp>(ranks, o, data, 0); });
  check_throws<ConfigError>(who + "weights at the start: ", [&] {
    train<SmallMlp>(ranks, options(), data, 0, last ? DType::f32 : DType::f64);
  });
}

TEST_CASE("what ranks cannot do is refused") {
  Mlp model;
  nn::SGD optimizer(model.parameters(), nn::SGDOptions{.lr = 0.1});
  nn::Trainer trainer(model, optimizer, {.progress = false, .ranks = ranks});
  check_throws<ConfigError>("step: with ranks", [&] { trainer.step({whole(Blobs(4), 0, 4)}); });
}

}  // namespace tandem::testing

int main(int argc, char** argv) {
  using namespace tandem;
  testing::find_test_devices();
  std::string device = "cpu";
  bool one_device = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("--device=")) device = argument.substr(9);
    one_device |= argument == "--one-device";
    if (argument == "--host-sums") testing::joins_devices = false;
  }
  if (const std::optional<nn::Launch> launch = nn::find_launch(); launch && device != "cpu" && !one_device)
    choose_device(fmt::format("cuda:{}", launch->local_rank));  // before an MPI that knows CUDA starts it
  const std::unique_ptr<Ranks> ranks = nn::join_ranks();
  if (!ranks) {
    std::fprintf(stderr, "usage: mpirun -n N %s\n", argv[0]);
    return 2;
  }
  testing::ranks = ranks.get();
  testing::chosen = load_device(device);
  const int status = doctest::Context(argc, argv).run();
  if (status != 0) std::abort();  // the others may wait for this one
  return status;
}
