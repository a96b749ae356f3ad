// The training steps that `tandem bench` times. Models and data are on the device of the current InitScope.
#pragma once

#include "autograd/registry.h"
#include "models/cnn/cnn.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "nn/init.h"
#include "nn/optim/adam.h"
#include "nn/train/plan.h"

namespace tandem::bench {

inline const models::VitConfig kVit{.image_size = 32,
                                    .channels = 3,
                                    .patch_size = 4,
                                    .dim = 192,
                                    .depth = 6,
                                    .heads = 3,
                                    .mlp_dim = 768,
                                    .attention_dropout = 0.1};
inline const models::TransformerConfig kTransformer{.vocab = 10000,
                                                    .dim = 256,
                                                    .heads = 4,
                                                    .mlp_dim = 1024,
                                                    .encoder_layers = 3,
                                                    .decoder_layers = 3,
                                                    .dropout = 0.3};
inline constexpr int64_t kImages = 64, kSentences = 128, kTokens = 32;  // of a batch; tokens on either side

// N(0, 1). Numbers are drawn on the host: a large tensor repeats a million of them.
inline Tensor normal(const Shape& shape, uint64_t seed, DType dtype = DType::f32) {
  SampleMaker make(seed, dtype, nn::InitScope::current().device);
  const int64_t most = int64_t{1} << 20, n = shape.numel(), copies = (n + most - 1) / most;
  if (n <= most) return make.normal(shape);
  return make.normal({most}).expand({copies, most}).reshape({copies * most}).slice(0, 0, n).reshape(shape);
}

inline Tensor integers(const Shape& shape, uint64_t seed, int64_t low, int64_t high) {
  return SampleMaker(seed, DType::f32, nn::InitScope::current().device).integers(shape, low, high);
}

// One optimizer step's forward and backward, and the update.
template <class Model, class Objective> struct TrainingStep {
  template <class Config>
  TrainingStep(const Config& config, data::Batch data)
      : model(config), objective(model), optimizer(model.parameters()), data(std::move(data)) {}
  void run(int passes, nn::Plan plan = nn::Plan::stacked, DType precision = DType::f32) {
    optimizer.zero_grad();
    nn::accumulate_gradients(objective, {data},
                             {.passes = passes,
                              .alpha = 1,
                              .label_smoothing = 0.1,
                              .precision = precision,
                              .plan = plan,
                              .step = step++});
    optimizer.step();
  }
  Model model;
  Objective objective;
  nn::AdamW optimizer;
  data::Batch data;
  uint64_t step = 0;
};

struct VitStep : TrainingStep<models::Vit, nn::Classification<models::Vit>> {
  VitStep(const models::VitConfig& config, int64_t batch)
      : TrainingStep(config, {{normal({batch, config.channels, config.image_size, config.image_size}, 4)},
                              integers({batch}, 5, 0, config.classes),
                              {},
                              batch}) {}
};

struct CnnStep : TrainingStep<models::Cnn, nn::Classification<models::Cnn>> {
  CnnStep(const models::CnnConfig& config, int64_t batch)
      : TrainingStep(config, {{normal({batch, config.channels, config.image_size, config.image_size}, 4)},
                              integers({batch}, 5, 0, config.classes),
                              {},
                              batch}) {}

  // Of the convolutions, forward and backward, where the first needs no gradient of the images.
  double flops() const {
    const models::CnnConfig& c = model.config();
    const double pixels = c.image_size * c.image_size, first = pixels * c.channels * c.width,
                 second = pixels / 4 * 2 * c.width * c.width;
    return 2 * 9 * data.size * (2 * first + 3 * second);
  }
};

struct TransformerStep : TrainingStep<models::Transformer, models::SequenceToSequence> {
  explicit TransformerStep(const models::TransformerConfig& config = kTransformer,
                           int64_t sentences = kSentences, int64_t tokens = kTokens)
      : TrainingStep(config, batch(config.vocab, sentences, tokens)) {}

  // Of the products of m passes, forward and backward. Per token: 4 d^2 for each attention and two of T x d
  // for its scores, 2 d ffn for a feed-forward network, d V for the output layer.
  double flops(int passes) const {
    const models::TransformerConfig& c = model.config();
    const double d = c.dim, tokens = data.target.size(1), attention = 4 * d * d + 2 * tokens * d;
    const double feed = 2 * d * c.mlp_dim;
    const double forward =
        2 * (c.encoder_layers * (attention + feed) + c.decoder_layers * (2 * attention + feed) + d * c.vocab);
    return 3 * passes * data.target.numel() * forward;
  }

 private:
  static data::Batch batch(int64_t vocab, int64_t sentences, int64_t tokens) {  // no padding
    const auto ids = [&](uint64_t seed) { return integers({sentences, tokens}, seed, 1, vocab); };
    return {{ids(6), ids(7)}, ids(8), {}, sentences};
  }
};

}  // namespace tandem::bench
