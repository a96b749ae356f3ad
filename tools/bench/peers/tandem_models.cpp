// Training steps, predictions and decoding on our side.
#include "autograd/inference.h"
#include "models/cnn/cnn.h"
#include "models/transformer/decoding.h"
#include "models/transformer/language_model.h"
#include "models/transformer/text_encoder.h"
#include "nn/data/photos/photo_dataset.h"
#include "nn/train/trainer.h"
#include "tools/bench/peers/cases.h"
#include "tools/bench/workloads.h"

namespace tandem::peers {
namespace {

// Ids and labels come from the host, as in training: which of them count is read there.
Tensor host_integers(const Shape& shape, uint64_t seed, int64_t low, int64_t high) {
  return SampleMaker(seed, DType::f32, kCpu).integers(shape, low, high);
}

// Steps of the trainer with m = 2 unless `passes` says another, alpha = 1 and label smoothing 0.1, on a batch
// that is on the device already.
template <class Model, class Objective> struct Training {
  template <class Config>
  Training(const Config& config, data::Batch data, const Sizes& sizes)
      : model(config),
        objective(model),
        optimizer(model.parameters()),
        trainer(objective, optimizer,
                {.passes = static_cast<int>(sizes.value_or("passes", 2)),
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

// Steps of a classifier of images.
template <class Model, class Config> Case image_training(const Config& config, const Sizes& sizes) {
  const int64_t batch = sizes["batch"];
  return training<Model, nn::Classification<Model>>(
      config,
      {{bench::normal({batch, config.channels, config.image_size, config.image_size}, 4)},
       host_integers({batch}, 5, 0, config.classes),
       {},
       batch},
      sizes);
}

Case vit(const Sizes& sizes) { return image_training<models::Vit>(vit_config(sizes), sizes); }

Case cnn(const Sizes& sizes) {
  return image_training<models::Cnn>(models::CnnConfig{.image_size = sizes["image"],
                                                       .channels = sizes["channels"],
                                                       .classes = sizes["classes"],
                                                       .width = sizes["width"],
                                                       .dropout = sizes.number("dropout")},
                                     sizes);
}

// Predictions of images, in eval mode, without a tape and with packed weights.
Case vit_inference(const Sizes& sizes) {
  const models::VitConfig config = vit_config(sizes);
  const auto model = std::make_shared<models::Vit>(config);
  model->eval();
  const Tensor images =
      bench::normal({sizes["batch"], config.channels, config.image_size, config.image_size}, 4);
  return [=] {
    const InferenceGuard inference;
    model->forward(images);
  };
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

models::TransformerConfig transformer_config(const Sizes& sizes, int64_t positions) {
  return {.vocab = sizes["vocab"],
          .dim = sizes["dim"],
          .heads = sizes["heads"],
          .mlp_dim = sizes["mlp"],
          .encoder_layers = sizes["layers"],
          .decoder_layers = sizes["layers"],
          .max_positions = positions,
          .dropout = sizes.number("dropout"),
          .attention_dropout = sizes.number("attention_dropout")};
}

// Of text i of B the first T (i + 1) / B ids are words, the rest is made padding.
Tensor growing(const Tensor& ids, int64_t pad_id) {
  const int64_t batch = ids.size(0), tokens = ids.size(1);
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t words = tokens * (i + 1) / batch;
    std::fill_n(ids.data<int64_t>() + i * tokens + words, tokens - words, pad_id);
  }
  return ids;
}

template <bool padded> Case transformer(const Sizes& sizes) {
  const models::TransformerConfig config = transformer_config(sizes, sizes["tokens"]);
  const auto ids = [&](uint64_t seed) {
    const Tensor all = host_integers({sizes["batch"], sizes["tokens"]}, seed, 1, config.vocab);
    return padded ? growing(all, config.pad_id) : all;
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

// BERT's encoder and a classifier of its first token.
Case encoder(const Sizes& sizes) {
  const models::TextEncoderConfig config{.vocab = sizes["vocab"],
                                         .outputs = sizes["classes"],
                                         .dim = sizes["dim"],
                                         .heads = sizes["heads"],
                                         .mlp_dim = sizes["mlp"],
                                         .layers = sizes["layers"],
                                         .max_positions = sizes["tokens"],
                                         .dropout = sizes.number("dropout"),
                                         .attention_dropout = sizes.number("attention_dropout")};
  const int64_t batch = sizes["batch"], tokens = sizes["tokens"];
  const Tensor ids = growing(host_integers({batch, tokens}, 6, 1, config.vocab), config.pad_id);
  return training<models::TextEncoder, nn::Classification<models::TextEncoder>>(
      config, {{ids, zeros_like(ids)}, host_integers({batch}, 7, 0, config.outputs), {}, batch}, sizes);
}

// Greedy decoding of `steps` tokens. Sentences never end before: ends are very unlikely in a random model,
// and one that is reached is an error.
Case decode(const Sizes& sizes) {
  const int64_t steps = sizes["steps"], tokens = sizes["tokens"];
  const auto model =
      std::make_shared<models::Transformer>(transformer_config(sizes, std::max(tokens, steps) + 1));
  model->eval();
  const auto flat = host_integers({sizes["batch"] * tokens}, 6, 4, sizes["vocab"]).to_vector<int64_t>();
  std::vector<models::Ids> sources;
  for (auto at = flat.begin(); at != flat.end(); at += tokens) sources.emplace_back(at, at + tokens);
  return [=] {
    for (const models::Hypothesis& best : beam_search(*model, sources, {.beam = 1, .max_length = steps}))
      check<ValueError>(std::ssize(best.ids) == steps - 1, "decode: a text ends after {} tokens of {}",
                        std::ssize(best.ids) + 1, steps);
  };
}

}  // namespace

const Cases& model_cases() {
  static const Cases cases = {
      {"vit", vit},
      {"cnn", cnn},
      {"lm", language_model},
      {"transformer", transformer<false>},
      {"padded_transformer", transformer<true>},
      {"encoder", encoder},
      {"vit_inference", vit_inference},
      {"decode", decode},
      {"photos", photos},
      {"photo_step", photo_step},
  };
  return cases;
}

}  // namespace tandem::peers
