// Our side of the comparisons with PyTorch (tools/bench/peers/run, tools/gpu/bench).
//
// Each line of standard input is a number of runs and a case with its sizes, as
//   5 rdrop units=2048 classes=10152 precision=f32 kind=eager
// which is run so often; the answer is the seconds of one run, by marks in the device's work. A case is built
// and warmed up when it is first named, and kept until the line "drop". A case that fails is answered by
// "error: ..." and ends the program.
#include <fmt/format.h>

#include <functional>
#include <iostream>
#include <map>
#include <sstream>

#include "autograd/engine.h"
#include "models/transformer/language_model.h"
#include "nn/data/photos/photo_dataset.h"
#include "nn/train/trainer.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"

using namespace tandem;

namespace {

// The sizes of a case, by name.
class Sizes {
 public:
  explicit Sizes(std::istream& line) {
    for (std::string word; line >> word;) {
      const size_t equals = word.find('=');
      check<ConfigError>(equals != std::string::npos, "expected NAME=VALUE, got '{}'", word);
      values_[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  const std::string& text(const std::string& name) const {
    const auto found = values_.find(name);
    check<ConfigError>(found != values_.end(), "expected a value for '{}'", name);
    return found->second;
  }
  double number(const std::string& name) const { return std::stod(text(name)); }
  int64_t operator[](const std::string& name) const { return std::stoll(text(name)); }
  DType precision() const {
    const std::string& name = text("precision");
    check<ConfigError>(name == "f32" || name == "bf16", "precision: expected f32 or bf16, got '{}'", name);
    return name == "f32" ? DType::f32 : DType::bf16;
  }
  // eager: every op of a step is given to the device; recorded: the whole step by one call (--cuda-graph).
  bool recorded() const {
    const std::string& kind = text("kind");
    check<ConfigError>(kind == "eager" || kind == "recorded", "kind: expected eager or recorded, got '{}'",
                       kind);
    return kind == "recorded";
  }

 private:
  std::map<std::string, std::string> values_;
};

Device device() { return nn::InitScope::current().device; }

// Ids and labels come from the host, as in training: which of them count is read there.
Tensor host_integers(const Shape& shape, uint64_t seed, int64_t low, int64_t high) {
  return SampleMaker(seed, DType::f32, kCpu).integers(shape, low, high);
}

using Case = std::function<void()>;

// Steps of the trainer with m = 2, alpha = 1 and label smoothing 0.1, on a batch that is on the device
// already.
template <class Model, class Objective> struct Training {
  template <class Config>
  Training(const Config& config, data::Batch data, const Sizes& sizes)
      : model(config),
        objective(model),
        optimizer(model.parameters()),
        trainer(objective, optimizer,
                {.passes = 2,
                 .alpha = 1,
                 .precision = sizes.precision(),
                 .cuda_graph = sizes.recorded(),
                 .label_smoothing = 0.1,
                 .progress = false}),
        batches{std::move(data)} {}

  Model model;
  Objective objective;
  nn::AdamW optimizer;
  nn::Trainer trainer;
  std::vector<data::Batch> batches;
};

template <class Model, class Objective, class Config>
Case training(const Config& config, data::Batch data, const Sizes& sizes) {
  const auto t = std::make_shared<Training<Model, Objective>>(config, std::move(data), sizes);
  return [t] { t->trainer.step(t->batches); };
}

models::VitConfig vit_config(const Sizes& sizes) {
  return {.image_size = sizes["image"],
          .channels = 3,
          .classes = sizes["classes"],
          .patch_size = sizes["patch"],
          .dim = sizes["dim"],
          .depth = sizes["layers"],
          .heads = sizes["heads"],
          .mlp_dim = sizes["mlp"],
          .dropout = sizes.number("dropout"),
          .attention_dropout = sizes.number("attention_dropout")};
}

Case vit(const Sizes& sizes) {
  const models::VitConfig config = vit_config(sizes);
  const int64_t batch = sizes["batch"];
  return training<models::Vit, nn::Classification<models::Vit>>(
      config,
      {{bench::normal({batch, config.channels, config.image_size, config.image_size}, 4)},
       host_integers({batch}, 5, 0, config.classes),
       {},
       batch},
      sizes);
}

// Training photos: read, decoded, cropped at random, resized, flipped, normalised.
std::shared_ptr<data::PhotoDataset> photo_dataset(const Sizes& sizes) {
  data::PhotoSplits found = data::find_photos(sizes.text("folder"), {});
  return std::make_shared<data::PhotoDataset>(
      std::move(found.train),
      data::PhotoDatasetOptions{
          .view = {.size = sizes["image"], .interpolation = data::parse_interpolation(sizes.text("resize"))},
          .augmentation = {.crop_scale = 0.08}});
}

// The step of `vit` on photos, the next ones each time.
Case photo_step(const Sizes& sizes) {
  using Vit = Training<models::Vit, nn::Classification<models::Vit>>;
  const auto dataset = photo_dataset(sizes);
  const auto t = std::make_shared<Vit>(vit_config(sizes), data::Batch{}, sizes);
  const auto order = dataset->shuffled_batches(0, 0, sizes["batch"]);
  return [=, step = std::make_shared<uint64_t>(0)] {
    const auto batch = [&](uint64_t number) {
      return dataset->batch(order[number % order.size()],
                            {.training = true, .step = number, .for_device = device() != kCpu});
    };
    t->trainer.step({batch((*step)++)});
  };
}

// An epoch of their batches.
Case photos(const Sizes& sizes) {
  const auto dataset = photo_dataset(sizes);
  return [dataset, batch = sizes["batch"], epoch = std::make_shared<int64_t>(0)] {
    uint64_t step = 0;
    for (const data::Indices& indices : dataset->shuffled_batches(0, ++*epoch, batch))
      dataset->batch(indices, {.training = true, .step = step++});
  };
}

Case transformer(const Sizes& sizes) {
  const models::TransformerConfig config{.vocab = sizes["vocab"],
                                         .dim = sizes["dim"],
                                         .heads = sizes["heads"],
                                         .mlp_dim = sizes["mlp"],
                                         .encoder_layers = sizes["layers"],
                                         .decoder_layers = sizes["layers"],
                                         .max_positions = sizes["tokens"],
                                         .dropout = sizes.number("dropout"),
                                         .attention_dropout = sizes.number("attention_dropout")};
  const auto ids = [&](uint64_t seed) {
    return host_integers({sizes["batch"], sizes["tokens"]}, seed, 1, config.vocab);
  };
  return training<models::Transformer, models::SequenceToSequence>(
      config, {{ids(6), ids(7)}, ids(8), {}, sizes["batch"]}, sizes);
}

Case language_model(const Sizes& sizes) {
  const models::LanguageModelConfig config{.vocab = sizes["vocab"],
                                           .dim = sizes["dim"],
                                           .heads = sizes["heads"],
                                           .mlp_dim = sizes["mlp"],
                                           .layers = sizes["layers"],
                                           .max_positions = sizes["tokens"],
                                           .dropout = sizes.number("dropout"),
                                           .attention_dropout = sizes.number("attention_dropout")};
  const auto ids = [&](uint64_t seed) {
    return host_integers({sizes["batch"], sizes["tokens"]}, seed, 1, config.vocab);
  };
  return training<models::LanguageModel, models::LanguageModeling>(
      config, {{ids(6)}, ids(7), {}, sizes["batch"]}, sizes);
}

// The loss alone, value and gradient, of the logits of two passes.
Case rdrop(const Sizes& sizes) {
  const int64_t units = sizes["units"], classes = sizes["classes"];
  const Tensor logits = stack_passes({bench::normal({units, classes}, 1, sizes.precision()),
                                      bench::normal({units, classes}, 2, sizes.precision())})
                            .requires_grad_();
  const Tensor target = bench::integers({units}, 3, 0, classes);
  return [=] {
    logits.grad() = Tensor();
    rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward();
  };
}

// Attention alone, forward and backward, of heads that lie as layers have them.
Case attention_case(const Sizes& sizes) {
  const auto heads = [&](uint64_t seed) {
    return bench::normal({sizes["batch"], sizes["tokens"], sizes["heads"], sizes["dim"]}, seed,
                         sizes.precision());
  };
  const Tensor q = heads(1).requires_grad_(), k = heads(2).requires_grad_(), v = heads(3).requires_grad_();
  const Tensor gradient = heads(4).transpose(1, 2);
  const AttentionOptions options{.causal = sizes["causal"] != 0,
                                 .dropout = sizes.number("attention_dropout")};
  return [=] {
    for (const Tensor& x : {q, k, v}) x.grad() = Tensor();
    const PassContext context({.seed = 1});
    attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), options).backward(gradient);
  };
}

// What the device can do at all: a copy, a product.
Case copy(const Sizes& sizes) {
  const Tensor from = ones({sizes["bytes"] / 4}, {.device = device()}), to = empty_like(from);
  return [=] {
    const NoGradGuard no_grad;
    to.copy_(from);
  };
}

Case product(const Sizes& sizes) {
  const Shape shape{sizes["size"], sizes["size"]};
  const Tensor a = bench::normal(shape, 1, sizes.precision()), b = bench::normal(shape, 2, sizes.precision());
  return [=] { matmul(a, b); };
}

Case tiny_op(const Sizes&) {
  const Tensor x = bench::normal({8}, 1).requires_grad_(), v = ones({8}, {.device = device()});
  return [=] {
    for (int i = 0; i < 1000; ++i) {
      x.grad() = Tensor();
      (x * x).backward(v);
    }
  };
}

const std::map<std::string, Case (*)(const Sizes&)> kCases = {
    {"vit", vit},
    {"transformer", transformer},
    {"lm", language_model},
    {"rdrop", rdrop},
    {"attention", attention_case},
    {"copy", copy},
    {"product", product},
    {"tiny_op", tiny_op},
    {"photos", photos},
    {"photo_step", photo_step},
};

Case build(const std::string& text) {
  std::istringstream line(text);
  std::string name;
  line >> name;
  const auto found = kCases.find(name);
  check<ConfigError>(found != kCases.end(), "unknown case '{}'", name);
  Case run = found->second(Sizes(line));
  for (int i = 0; i < 3; ++i) run();  // a step is recorded the second time, and replayed from then on
  return run;
}

double seconds_of(const Case& run, int64_t runs) {
  Backend& b = backend(device());
  b.synchronize();
  const auto start = b.mark();
  for (int64_t i = 0; i < runs; ++i) run();
  return b.mark()->seconds_since(*start) / static_cast<double>(runs);
}

void answer(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void serve(const std::string& device_name) {
  const nn::InitScope init({.device = load_device(device_name)});
  std::map<std::string, Case> ready;
  for (std::string text; std::getline(std::cin, text);) {
    if (text == "drop") {
      ready.clear();
      backend(device()).release_cached();
      answer("dropped");
      continue;
    }
    std::istringstream line(text);
    int64_t runs = 0;
    check<ConfigError>(line >> runs && runs >= 1, "expected a number of runs and a case, got '{}'", text);
    std::getline(line >> std::ws, text);
    Case& run = ready[text];
    if (!run) run = build(text);
    answer(fmt::format("{}", seconds_of(run, runs)));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && (arguments.size() != 2 || arguments[0] != "--device")) {
    fmt::print(stderr, "usage: bench_peers [--device auto|cpu|cuda|cudasim]\n");
    return 2;
  }
  try {
    serve(arguments.empty() ? "cpu" : arguments[1]);
  } catch (const std::exception& error) {
    answer(fmt::format("error: {}", error.what()));
    return 1;
  }
}
