#include "models/vit/vit.h"

#include "autograd/grad_mode.h"
#include "models/presets.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

// The paper's, for ImageNet.
VitConfig for_imagenet(int64_t patch_size, int64_t dim, int64_t heads) {
  return {.image_size = 224,
          .channels = 3,
          .classes = 1000,
          .patch_size = patch_size,
          .dim = dim,
          .depth = 12,
          .heads = heads,
          .mlp_dim = 4 * dim};
}

const Presets<VitConfig>& presets() {
  static const Presets<VitConfig> table = {
      {"tiny", {}},
      {"small", {.patch_size = 4, .dim = 128, .depth = 6, .heads = 4, .mlp_dim = 256}},
      {"s16", for_imagenet(16, 384, 6)},
      {"b32", for_imagenet(32, 768, 12)},
      {"b16", for_imagenet(16, 768, 12)},
  };
  return table;
}

const VitConfig& checked(const VitConfig& c) {
  const ConfigCheck config{"vit"};
  config.at_least_1({{"image_size", c.image_size},
                     {"channels", c.channels},
                     {"classes", c.classes},
                     {"patch_size", c.patch_size},
                     {"dim", c.dim},
                     {"depth", c.depth},
                     {"heads", c.heads},
                     {"mlp_dim", c.mlp_dim}});
  config.divides("patch_size", c.patch_size, "image_size", c.image_size);
  config.divides("heads", c.heads, "dim", c.dim);
  config.rates({{"dropout", c.dropout},
                {"attention_dropout", c.attention_dropout},
                {"drop_path", c.drop_path},
                {"head_dropout", c.head_dropout}});
  check<ConfigError>(c.dropout_from >= 0 && c.dropout_from <= c.depth,
                     "vit: dropout_from: expected 0 to depth {}, got {}", c.depth, c.dropout_from);
  return c;
}

int64_t tokens(const VitConfig& c) {
  return (c.image_size / c.patch_size) * (c.image_size / c.patch_size) + 1;
}

}  // namespace

VitConfig vit_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> vit_preset_names() { return preset_names(presets()); }

Vit::Vit(const VitConfig& config)
    : config_(checked(config)),
      patch_embed(*this, "patch_embed", config.channels, config.dim, config.patch_size,
                  {.stride = {config.patch_size, config.patch_size}}),
      class_token(register_parameter("class_token", {1, 1, config.dim}, nn::init::zeros())),
      positions(register_parameter("positions", {1, tokens(config), config.dim}, nn::init::normal(0, 0.02))),
      drop(*this, "drop", config.dropout_from == 0 ? config.dropout : 0),
      blocks(*this, "blocks"),
      norm(*this, "norm", config.dim, {.eps = 1e-6}),
      head_drop(*this, "head_drop", config.head_dropout),
      head(*this, "head", config.dim, config.classes) {
  for (int64_t i = 0; i < config.depth; ++i) {
    const bool noisy = i >= config.dropout_from;
    const double rise = config.depth > 1 ? static_cast<double>(i) / (config.depth - 1) : 1;
    nn::TransformerEncoderLayerOptions options{.norm_eps = 1e-6};
    if (noisy) {
      options.dropout = options.activation_dropout = config.dropout;
      options.attention_dropout = config.attention_dropout;
      options.drop_path = config.drop_path * rise;
    }
    blocks.emplace_back(config.dim, config.heads, config.mlp_dim, options);
  }
  if (config.zero_head) {
    NoGradGuard guard;
    for (const Tensor& parameter : head.parameters()) parameter.zero_();
  }
}

Tensor Vit::features(const Tensor& images, const nn::HiddenHook& hook) {
  const VitConfig& c = config_;
  check_images("vit", images, c.channels, c.image_size);
  const int64_t batch = images.size(0);
  const Tensor patches = patch_embed(images).flatten(2).transpose(1, 2);  // [B, T-1, D]
  const auto at = [&](int64_t level, const Tensor& x) { return hook ? hook(level, x) : x; };
  Tensor x = drop(at(0, cat({class_token.expand({batch, 1, c.dim}), patches}, 1) + positions));
  int64_t level = 0;
  for (auto& block : blocks) x = at(++level, block(x));
  return norm(x.select(1, 0));  // the norm of the class token is all the head reads
}

Tensor Vit::classify(const Tensor& features) { return head(head_drop(features)); }

nn::Hookable hookable(Vit& model) {
  return {model, model.config().depth + 1,
          [&model](const data::Batch& batch, const nn::HiddenHook& hook) {
            return model.features(batch.inputs[0], hook);
          },
          [&model](const Tensor& features) { return model.classify(features); }};
}

}  // namespace tandem::models
