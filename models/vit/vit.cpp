#include "models/vit/vit.h"

#include "autograd/grad_mode.h"
#include "autograd/makers.h"
#include "models/presets.h"
#include "nn/train/evaluate.h"
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
  config.divides("patch_size", c.patch_size, "image_size", c.height());
  config.divides("patch_size", c.patch_size, "image_width", c.width());
  config.divides("heads", c.heads, "dim", c.dim);
  config.rates({{"dropout", c.dropout},
                {"attention_dropout", c.attention_dropout},
                {"drop_path", c.drop_path},
                {"head_dropout", c.head_dropout}});
  check<ConfigError>(c.dropout_from >= 0 && c.dropout_from <= c.depth,
                     "vit: dropout_from: expected 0 to depth {}, got {}", c.depth, c.dropout_from);
  check<ConfigError>(c.registers >= 0 && c.image_width >= 0 && c.layer_scale >= 0,
                     "vit: expected registers, image_width and layer_scale of at least 0, got {}, {} and {}",
                     c.registers, c.image_width, c.layer_scale);
  check<ConfigError>(c.class_token || (c.pooling == Pooling::mean && !c.distillation),
                     "vit: class_token: without one the pooling is the mean, and there is no distillation");
  check<ConfigError>(!c.distillation || c.pooling == Pooling::cls,
                     "vit: distillation: expected the pooling cls");
  return c;
}

}  // namespace

VitConfig vit_preset(const std::string& name) { return find_preset(presets(), name); }
std::vector<std::string> vit_preset_names() { return preset_names(presets()); }

Vit::Vit(const VitConfig& config)
    : config_(checked(config)),
      patch_embed(*this, "patch_embed", config.channels, config.dim, config.patch_size,
                  {.stride = {config.patch_size, config.patch_size}, .bias = config.patch_bias}),
      class_token(config.class_token
                      ? register_parameter("class_token", {1, 1, config.dim}, nn::init::zeros())
                      : nn::Parameter()),
      distillation_token(config.distillation
                             ? register_parameter("distillation_token", {1, 1, config.dim}, nn::init::zeros())
                             : nn::Parameter()),
      registers(config.registers > 0 ? register_parameter("registers", {1, config.registers, config.dim},
                                                          nn::init::normal(0, 0.02))
                                     : nn::Parameter()),
      positions(
          register_parameter("positions", {1, config.positions(), config.dim}, nn::init::normal(0, 0.02))),
      drop(*this, "drop", config.dropout_from == 0 ? config.dropout : 0),
      blocks(*this, "blocks"),
      norm(*this, "norm", config.dim, {.eps = config.norm_eps}),
      head_drop(*this, "head_drop", config.head_dropout),
      head(*this, "head", config.dim, config.classes) {
  for (int64_t i = 0; i < config.depth; ++i) {
    const bool noisy = i >= config.dropout_from;
    const double rise = config.depth > 1 ? static_cast<double>(i) / (config.depth - 1) : 1;
    nn::TransformerEncoderLayerOptions options{.activation = config.activation,
                                               .norm_eps = config.norm_eps,
                                               .qkv_bias = config.qkv_bias,
                                               .layer_scale = config.layer_scale};
    if (noisy) {
      options.dropout = options.activation_dropout = config.dropout;
      options.attention_dropout = config.attention_dropout;
      options.drop_path = config.drop_path * rise;
    }
    blocks.emplace_back(config.dim, config.heads, config.mlp_dim, options);
  }
  if (config.pre_norm)
    pre_norm.emplace(*this, "pre_norm", config.dim, nn::LayerNormOptions{.eps = config.norm_eps});
  if (config.distillation) distillation_head.emplace(*this, "distillation_head", config.dim, config.classes);
  if (config.zero_head) {
    const NoGradGuard no_grad;
    for (const Tensor& parameter : head.parameters()) parameter.zero_();
    if (distillation_head)
      for (const Tensor& parameter : distillation_head->parameters()) parameter.zero_();
  }
}

Tensor Vit::features(const Tensor& images, const nn::HiddenHook& hook) {
  const VitConfig& c = config_;
  check_images("vit", images, c.channels, c.height(), c.width());
  const int64_t batch = images.size(0);
  const Tensor patches = patch_embed(images).flatten(2).transpose(1, 2);  // [B, T-1, D]
  const auto at = [&](int64_t level, const Tensor& x) { return hook ? hook(level, x) : x; };
  const auto join = [&](std::initializer_list<Tensor> tokens) {
    Tensors parts;
    for (const Tensor& token : tokens)
      if (token.defined()) parts.push_back(token.expand({batch, token.size(1), c.dim}));
    return parts.size() == 1 ? parts[0] : cat(parts, 1);
  };
  Tensor x;
  if (c.class_position) {
    x = join({class_token, distillation_token, patches}) + positions;
    if (registers.defined())
      x = join({x.slice(1, 0, c.class_tokens()), registers, x.slice(1, c.class_tokens(), x.size(1))});
  } else {
    x = join({class_token, distillation_token, registers, patches + positions});
  }
  x = drop(at(0, x));
  if (pre_norm) x = (*pre_norm)(x);
  int64_t level = 0;
  for (auto& block : blocks) {
    const bool last = ++level == c.depth;
    // Of the last block, unless a hook sees it, what the head reads is enough, and so it is of the norm.
    x = last && !hook && c.pooling == Pooling::cls ? block(x.slice(1, 0, c.class_tokens()), x, Tensor())
                                                   : at(level, block(x));
  }
  if (c.pooling == Pooling::mean) return norm(x.slice(1, c.prefix(), x.size(1)).mean({1}));
  return norm(x.slice(1, 0, c.class_tokens())).flatten(1);
}

Tensor Vit::classify(const Tensor& features) {
  if (!distillation_head) return head(head_drop(features));
  const Tensor both = head_drop(features);
  return 0.5 * (head(both.slice(-1, 0, config_.dim)) +
                (*distillation_head)(both.slice(-1, config_.dim, 2 * config_.dim)));
}

Tensors Vit::attention(const Tensor& images) {
  Tensors of_blocks;
  features(images, [&](int64_t level, const Tensor& x) {
    // Level 0 comes before that norm; without noise there is nothing else between a level and its block.
    if (level < config_.depth)
      of_blocks.push_back(blocks[level].attention(level == 0 && pre_norm ? (*pre_norm)(x) : x));
    return x;
  });
  return of_blocks;
}

Tensor attention_rollout(Vit& model, const Tensor& images) {
  const nn::EvalMode mode(model);
  const VitConfig& c = model.config();
  Tensor seen;  // [B, T, T]: what of each token is in each
  for (const Tensor& block : model.attention(images)) {
    const Tensor residual = 0.5 * (block.mean({1}) + eye(block.size(-1), {block.dtype(), block.device()}));
    seen = seen.defined() ? matmul(residual, seen) : residual;
  }
  const int64_t tokens = seen.size(-1), prefix = c.prefix();
  const Tensor row = c.pooling == Pooling::mean ? seen.slice(1, prefix, tokens).mean({1}) : seen.select(1, 0);
  return row.slice(1, prefix, tokens)
      .reshape({images.size(0), c.height() / c.patch_size, c.width() / c.patch_size});
}

nn::Hookable hookable(Vit& model) {
  return {model, model.config().depth + 1,
          [&model](const data::Batch& batch, const nn::HiddenHook& hook) {
            return model.features(batch.inputs[0], hook);
          },
          [&model](const Tensor& features) { return model.classify(features); }};
}

}  // namespace tandem::models
