// The five tasks on the device against the CPU: every model, the methods beside R-Drop, and decoding.
#include <doctest/doctest.h>

#include "autograd/grad_mode.h"
#include "models/transformer/decoding.h"
#include "models/transformer/masked_language_modeling.h"
#include "models/transformer/text_encoder.h"
#include "nn/methods/contrastive.h"
#include "nn/methods/methods.h"
#include "tests/cuda/same_training.h"

using namespace tandem;
using namespace tandem::testing;
using namespace tandem::models;

namespace {

using TextClassification = nn::Classification<TextEncoder>;
using TextRegression = nn::Regression<TextEncoder>;

// Sentences of different lengths and their reverse, padded with 0: source, target so far, target.
data::Batch sentences(int64_t count) {
  constexpr int64_t longest = 6, bos = 1;
  std::vector<int64_t> source(count * longest), in(count * longest), out(count * longest);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t length = 2 + i % 3;
    in[i * longest] = bos;
    for (int64_t t = 0; t < length; ++t) {
      const int64_t word = 2 + (i + 3 * t) % 8;
      source[i * longest + t] = out[i * longest + length - 1 - t] = in[i * longest + length - t] = word;
    }
    out[i * longest + length] = bos;  // the end
  }
  return {{from_values(source, {count, longest}), from_values(in, {count, longest})},
          from_values(out, {count, longest}),
          {},
          count};
}

// Ids below `vocab`, of texts of different lengths, padded with 0.
Tensor texts(int64_t count, int64_t longest, int64_t vocab) {
  std::vector<int64_t> ids(count * longest);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t t = 0; t < longest - i % 3; ++t)
      ids[i * longest + t] = 2 + (5 * i + 3 * t + t * t) % (vocab - 2);
  return from_values(ids, {count, longest});
}

constexpr int64_t kVocab = 12;

data::Batch labelled(int64_t count) {
  std::vector<int64_t> labels(count);
  for (int64_t i = 0; i < count; ++i) labels[i] = i % 3;
  return {{texts(count, 6, kVocab), {}}, from_values(labels, {count}), {}, count};
}
data::Batch scored(int64_t count, const Tensor& second = {}) {
  return {{texts(count, 6, kVocab), second}, labelled(count).target.to(DType::f32) * 0.4, {}, count};
}
// Every third word is to be guessed.
data::Batch hidden_words(int64_t count) {
  data::Batch batch = labelled(count);
  batch.target = zeros({count, 6}, {DType::i64});
  for (int64_t t = 0; t < 6; t += 3)
    batch.target.slice(1, t, t + 1).copy_(batch.inputs[0].slice(1, t, t + 1));
  return batch;
}
data::Batch continued(int64_t count) {
  const Tensor ids = texts(count, 7, kVocab);
  return {{ids.slice(1, 0, 6).contiguous()}, ids.slice(1, 1, 7).contiguous(), {}, count};
}

TransformerConfig transformer(bool copy) {
  return {.vocab = 10,
          .dim = 16,
          .heads = 2,
          .mlp_dim = 32,
          .encoder_layers = 1,
          .decoder_layers = 1,
          .max_positions = 16,
          .dropout = 0.2,
          .attention_dropout = 0.2,
          .word_dropout = 0.1,
          .copy = copy};
}
LanguageModelConfig language_model(std::vector<int64_t> cutoffs = {}) {
  return {.vocab = kVocab,
          .dim = 16,
          .heads = 2,
          .mlp_dim = 32,
          .max_positions = 16,
          .dropout = 0.2,
          .attention_dropout = 0.1,
          .layer_drop = 0.3,
          .word_dropout = 0.1,
          .cutoffs = std::move(cutoffs),
          .factor = 2};
}
TextEncoderConfig encoder(int64_t outputs, Pooling pooling = Pooling::cls) {
  return {.vocab = kVocab,
          .outputs = outputs,
          .dim = 16,
          .heads = 2,
          .mlp_dim = 32,
          .max_positions = 16,
          .dropout = 0.2,
          .attention_dropout = 0.1,
          .layer_drop = 0.3,
          .word_dropout = 0.2,
          .pooling = pooling};
}

const nn::TrainerOptions kRDrop{.passes = 2, .alpha = 1};

}  // namespace

TEST_CASE("tasks on the device: translation, with padding, the output layer inside of the loss") {
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)));
    check_same_training<Transformer, SequenceToSequence>(
        transformer(false), {sentences(5)}, {.passes = 2, .alpha = 5, .plan = plan, .label_smoothing = 0.1},
        1e-4);
  }
}

TEST_CASE("tasks on the device: summarization, with copying") {
  check_same_training<Transformer, SequenceToSequence>(transformer(true), {sentences(5)}, kRDrop, 1e-4);
}

TEST_CASE("tasks on the device: language modelling, plain and adaptive") {
  check_same_training<LanguageModel, LanguageModeling>(language_model(), {continued(4)}, kRDrop, 1e-4);
  check_same_training<LanguageModel, LanguageModeling>(language_model({4, 8}), {continued(4)}, kRDrop, 1e-4);
}

TEST_CASE("tasks on the device: understanding, classes and numbers, one text and two") {
  check_same_training<TextEncoder, TextClassification>(encoder(3), {labelled(5)}, kRDrop, 1e-4);
  check_same_training<TextEncoder, TextRegression>(encoder(1, Pooling::mean), {scored(5)}, kRDrop, 1e-4);
  TextEncoderConfig two = encoder(1, Pooling::mean);
  two.bi_encoder = true;
  check_same_training<TextEncoder, TextRegression>(two, {scored(5, texts(5, 4, kVocab))}, kRDrop, 1e-4);
}

TEST_CASE("tasks on the device: hidden words") {
  check_same_training<TextEncoder, MaskedLanguageModeling>(encoder(2), {hidden_words(4)}, kRDrop, 1e-4);
}

namespace {

// An objective that is made from its model by a function.
template <std::unique_ptr<nn::Objective> (*make)(TextEncoder&)> class Made final : public nn::Objective {
 public:
  explicit Made(TextEncoder& model) : made_(make(model)) {}
  nn::Module& module() override { return made_->module(); }
  Tensor forward(const data::Batch& batch) override { return made_->forward(batch); }
  LossParts loss(const Tensor& output, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return made_->loss(output, batch, options, passes);
  }
  int64_t valid_units(const data::Batch& batch) const override { return made_->valid_units(batch); }

 private:
  std::unique_ptr<nn::Objective> made_;
};

template <size_t index> std::unique_ptr<nn::Objective> method(TextEncoder& model) {
  return nn::make_method(nn::method_names()[index], hookable(model));
}
template <class SimCse> std::unique_ptr<nn::Objective> simcse(TextEncoder& model) {
  return std::make_unique<SimCse>(model, [&](const Tensor& ids) { return model.pooled(ids); });
}

template <size_t index> void check_method() {
  const std::string name = nn::method_names()[index];
  INFO(name);
  check_same_training<TextEncoder, Made<method<index>>>(
      encoder(3), {labelled(5)},
      {.passes = name == "rdrop" || name == "multisample" ? 2 : 1, .alpha = name == "rdrop" ? 1.0 : 0.0},
      1e-4);
}

}  // namespace

TEST_CASE("tasks on the device: the methods that R-Drop is judged beside") {
  constexpr size_t count = 6;  // and cutmix, which is of images
  REQUIRE(nn::method_names().size() == count + 1);
  [&]<size_t... index>(std::index_sequence<index...>) { (check_method<index>(), ...); }
  (std::make_index_sequence<count>());
  check_same_training<TextEncoder, Made<simcse<nn::UnsupervisedSimCse>>>(encoder(2), {labelled(5)},
                                                                         {.passes = 2}, 1e-4);
  data::Batch pairs = labelled(5);
  pairs.inputs[1] = texts(5, 4, kVocab);
  check_same_training<TextEncoder, Made<simcse<nn::SupervisedSimCse>>>(encoder(2), {pairs}, {.passes = 1},
                                                                       1e-4);
}

TEST_CASE("tasks on the device: recorded steps drop the layers and words that their steps drop") {
  const auto run = [](bool cuda_graph) {
    const nn::InitScope init({.seed = 7, .device = device()});
    TextEncoder model(encoder(3));
    TextClassification objective(model);
    // To which a gradient of 0 is none: a layer that all passes drop has no gradient, and 0 in a recorded
    // step.
    nn::SGD optimizer(model.parameters(), {.lr = 0.1});
    nn::Trainer trainer(objective, optimizer, {.passes = 1, .cuda_graph = cuda_graph, .progress = false});
    std::vector<double> losses;
    for (int i = 0; i < 16; ++i) losses.push_back(trainer.step({labelled(5)}).loss);
    return losses;
  };
  const std::vector<double> recorded = run(true), plain = run(false);
  for (size_t i = 0; i < plain.size(); ++i) {
    INFO("step ", i);
    CHECK(recorded[i] == plain[i]);
  }
}

TEST_CASE("tasks on the device: a method in which the host has a part cannot be recorded, and says so") {
  const nn::InitScope init({.seed = 7, .device = device()});
  TextEncoder model(encoder(3));
  nn::AdamW optimizer(model.parameters(), {});
  const nn::TrainerOptions options{.passes = 1, .alpha = 0, .cuda_graph = true, .progress = false};
  for (const char* name : {"mixup", "manifold-mixup", "fgm"}) {
    INFO(name);
    const auto objective = nn::make_method(name, hookable(model));
    CHECK_THROWS_WITH_AS(nn::Trainer(*objective, optimizer, options),
                         "cuda_graph: this method's steps need decisions on the host and cannot be recorded",
                         ConfigError);
  }
  // One that does not say so is found out before anything is changed.
  struct Careless final : nn::Objective {
    explicit Careless(TextEncoder& model) : inner(model) {}
    nn::Module& module() override { return inner.module(); }
    Tensor forward(const data::Batch& batch) override {
      const Tensor logits = inner.forward(batch);
      return logits * (logits.sum().item() > 0 ? 1.0 : 2.0);
    }
    LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                   int passes) override {
      return inner.loss(logits, batch, options, passes);
    }
    TextClassification inner;
  } careless(model);
  nn::Trainer trainer(careless, optimizer, options);
  trainer.step({labelled(5)});
  const auto before = flat_parameters(model);
  try {
    trainer.step({labelled(5)});
    FAIL_CHECK("nothing was thrown");
  } catch (const DeviceError& error) {
    const std::string message = error.what();
    INFO(message);
    CHECK(message.starts_with("cuda_graph: this step needs decisions on the host and cannot be recorded: "));
  }
  CHECK(flat_parameters(model) == before);
}

TEST_CASE("tasks on the device: beam search and sampling write what they write on the CPU") {
  const auto made = [](Device where, auto make) {
    const nn::InitScope init({.seed = 5, .device = where});
    auto model = make();
    model->eval();
    const NoGradGuard no_grad;
    for (const Tensor& p : model->parameters()) p.mul_(3);  // distributions with clear winners
    return model;
  };
  for (const bool copy : {false, true}) {
    const auto search = [&](Device where) {
      const auto model = made(where, [&] { return std::make_unique<Transformer>(transformer(copy)); });
      return beam_search(*model, {{5, 6, 7}, {8, 4}, {9, 9, 4, 5}}, {.beam = 3, .max_length = 8});
    };
    const auto there = search(device()), here = search(kCpu);
    REQUIRE(there.size() == here.size());
    for (size_t i = 0; i < here.size(); ++i) {
      INFO("text ", i, copy ? ", with copying" : "");
      CHECK(there[i].ids == here[i].ids);
      CHECK(there[i].score == doctest::Approx(here[i].score).epsilon(1e-4));
    }
  }
  const auto written = [&](Device where) {
    const auto model = made(where, [] { return std::make_unique<LanguageModel>(language_model()); });
    return sample(*model, {2, 5}, 2, {.length = 12, .top_p = 0.95, .seed = 3});
  };
  CHECK(written(device()) == written(kCpu));
}
