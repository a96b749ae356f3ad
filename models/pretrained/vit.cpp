// Configurations of ViT's families, in and out.
#include <cmath>

#include "models/presets.h"
#include "models/pretrained/config.h"
#include "models/pretrained/names.h"
#include "nn/io/files.h"

namespace tandem::models {
namespace {

using Json = nlohmann::json;

// Of transformers: vit, deit, dinov2 and dinov2_with_registers.
VitConfig of_transformers(const Pretrained& from, const ConfigReader& config) {
  VitConfig c;
  std::tie(c.image_size, c.image_width) = config.sides("image_size");
  const auto [patch, patch_width] = config.sides("patch_size");
  if (patch != patch_width)
    config.fail("patch_size: expected square patches, got {} x {}", patch, patch_width);
  c.patch_size = patch;
  c.channels = config.size("num_channels", 3);
  c.classes = config.labels().empty() ? 0 : std::ssize(config.labels());
  c.dim = config.size("hidden_size");
  c.depth = config.size("num_hidden_layers");
  c.heads = config.size("num_attention_heads");
  c.norm_eps = config.number("layer_norm_eps", 1e-12);
  c.activation = config.activation("hidden_act");
  c.qkv_bias = config.flag("qkv_bias", true);
  c.dropout = config.number("hidden_dropout_prob", 0);
  c.attention_dropout = config.number("attention_probs_dropout_prob", 0);
  const bool dino = from.family.starts_with("dinov2");
  c.mlp_dim = dino ? c.dim * config.size("mlp_ratio", 4) : config.size("intermediate_size");
  if (dino) {
    config.only("use_swiglu_ffn", false);
    c.norm_eps = config.number("layer_norm_eps", 1e-6);
    c.layer_scale = config.number("layerscale_value", 1);
    c.drop_path = config.number("drop_path_rate", 0);
  }
  if (from.family == "dinov2_with_registers") c.registers = config.size("num_register_tokens", 4);
  c.distillation = from.family == "deit";
  const Tensor* head = nn::find(from.tensors, c.distillation ? "cls_classifier.weight" : "classifier.weight");
  if (head && head->dim() == 2 && head->size(1) == c.dim) c.classes = head->size(0);
  if (c.classes == 0) c.classes = 2;  // a backbone has no say
  const ConfigCheck check{"vit"};
  check.at_least_1(
      {{"patch_size", c.patch_size}, {"image_size", c.image_size}, {"image_width", c.image_width}});
  std::vector<std::pair<const char*, Shape>> shapes{
      {"embeddings.patch_embeddings.projection.weight", {c.dim, c.channels, c.patch_size, c.patch_size}},
      {"embeddings.position_embeddings", {1, c.positions(), c.dim}}};
  if (c.depth > 0)
    shapes.push_back({dino ? "encoder.layer.0.mlp.fc1.weight" : "encoder.layer.0.intermediate.dense.weight",
                      {c.mlp_dim, c.dim}});
  if (c.registers > 0) shapes.push_back({"embeddings.register_tokens", {1, c.registers, c.dim}});
  expect_weights(config, from, shapes, c.depth);
  return c;
}

// The heads of timm's architectures by their width, most of 64; 0 for a width that none of them has.
int64_t usual_heads(int64_t dim) {
  constexpr std::pair<int64_t, int64_t> kLarge[] = {{1152, 16}, {1280, 16}, {1408, 16}, {1664, 16}};
  for (const auto& [width, heads] : kLarge)
    if (dim == width) return heads;
  for (const int64_t width : {192, 256, 320, 384, 512, 640, 768, 832, 896, 1024})
    if (dim == width) return width / 64;
  return 0;
}

// timm's configuration names an architecture, and what was changed of it; the tensors have the rest.
VitConfig of_timm(const Pretrained& from, const ConfigReader& config) {
  const std::string name = config.text("architecture");
  if (name.find("quickgelu") != std::string::npos)
    config.fail("architecture: {}: its activation is another than gelu", name);
  const ConfigReader arguments = config.part("model_args"), usual = config.part("pretrained_cfg");
  const auto sizes = [&](const char* tensor, int64_t dims) {
    const Tensor* found = nn::find(from.tensors, tensor);
    if (!found || found->dim() != dims)
      raise<IoError>("{}: '{}': expected {} dimensions, got {}", from.folder, tensor, dims,
                     found ? to_string(found->shape()) : "none");
    return found->shape();
  };
  const auto has = [&](const char* tensor) { return nn::find(from.tensors, tensor) != nullptr; };
  VitConfig c;
  const Shape patch = sizes("patch_embed.proj.weight", 4), mlp = sizes("blocks.0.mlp.fc1.weight", 2);
  c.dim = patch[0], c.channels = patch[1], c.patch_size = patch[2];
  c.patch_bias = has("patch_embed.proj.bias");
  c.mlp_dim = mlp[0];
  if (sizes("blocks.0.mlp.fc2.weight", 2)[1] != c.mlp_dim)
    config.fail("architecture: {}: its MLP is gated, which ours is not", name);
  c.depth = 0;
  while (has(fmt::format("blocks.{}.norm1.weight", c.depth).c_str())) ++c.depth;
  c.heads = arguments.size("num_heads", usual_heads(c.dim));
  if (c.heads == 0)
    config.fail("model_args: num_heads: expected a size, it is missing, and timm has no model {} wide",
                c.dim);
  c.activation = arguments.has("act_layer") ? arguments.activation("act_layer") : Activation::gelu;
  c.norm_eps = name.find("_clip_") != std::string::npos ? 1e-5 : 1e-6;
  c.qkv_bias = has("blocks.0.attn.qkv.bias");
  c.pre_norm = has("norm_pre.weight");
  c.layer_scale = has("blocks.0.ls1.gamma") ? arguments.number("init_values", 1e-5) : 0;
  c.class_token = has("cls_token"), c.distillation = has("dist_token");
  c.registers = has("reg_token") ? sizes("reg_token", 3)[1] : 0;
  const std::string pool = config.text("global_pool", "token");
  if (pool != "token" && pool != "avg") config.fail("global_pool: expected token or avg, got '{}'", pool);
  if (pool == "avg" && !has("fc_norm.weight")) config.fail("global_pool: avg: expected an fc_norm after it");
  c.pooling = pool == "avg" ? Pooling::mean : Pooling::cls;
  const std::vector<double> input = usual.numbers("input_size");
  if (arguments.has("img_size")) {
    std::tie(c.image_size, c.image_width) = arguments.sides("img_size");
  } else if (input.size() == 3) {
    if (!(input[1] >= 1 && input[1] <= 1e6 && input[2] >= 1 && input[2] <= 1e6))
      config.fail("pretrained_cfg: input_size: expected pixels, got {} x {}", input[1], input[2]);
    c.image_size = static_cast<int64_t>(input[1]), c.image_width = static_cast<int64_t>(input[2]);
  } else {
    config.fail("pretrained_cfg: input_size: expected channels, height and width");
  }
  ConfigCheck{"vit"}.at_least_1(
      {{"patch_size", c.patch_size}, {"image_size", c.image_size}, {"image_width", c.image_width}});
  const int64_t positions = sizes("pos_embed", 3)[1];
  c.class_position = c.class_tokens() > 0 && positions == c.positions();
  if (positions != c.positions())
    config.fail("{} positions, expected {} for images of {}x{} pixels", positions, c.positions(), c.width(),
                c.height());
  c.classes = has("head.weight") ? sizes("head.weight", 2)[0] : 2;
  return c;
}

const char* usual_family(const VitConfig& c) {
  const bool plain = !c.pre_norm && c.layer_scale == 0 && c.pooling == Pooling::cls && c.registers == 0 &&
                     c.class_position && c.patch_bias;
  return !plain ? "timm" : c.distillation ? "deit" : "vit";
}

// What transformers' `family` cannot say of a model.
void check_family(const VitConfig& c, const std::string& family) {
  const bool dino = family.starts_with("dinov2");
  const auto expect = [&](bool fits, const char* option) {
    check<ConfigError>(fits, "save_pretrained: {} has no model with this {}; timm has", family, option);
  };
  expect(!c.pre_norm, "pre_norm");
  expect(c.patch_bias, "patch_bias");
  expect(c.class_position && c.class_token, "class_token");
  expect(c.pooling == Pooling::cls, "pooling");
  expect((c.layer_scale > 0) == dino, "layer_scale");
  expect((c.registers > 0) == (family == "dinov2_with_registers"), "registers");
  expect(c.distillation == (family == "deit"), "distillation");
}

Json sides(int64_t height, int64_t width) { return height == width ? Json(height) : Json{height, width}; }

Json transformers_json(const VitConfig& c, const std::string& family) {
  check_family(c, family);
  const bool dino = family.starts_with("dinov2");
  Json json{{"model_type", family},
            {"image_size", sides(c.height(), c.width())},
            {"patch_size", c.patch_size},
            {"num_channels", c.channels},
            {"hidden_size", c.dim},
            {"num_hidden_layers", c.depth},
            {"num_attention_heads", c.heads},
            {"layer_norm_eps", c.norm_eps},
            {"hidden_act", activation_name(c.activation)},
            {"qkv_bias", c.qkv_bias},
            {"hidden_dropout_prob", c.dropout},
            {"attention_probs_dropout_prob", c.attention_dropout}};
  if (dino) {
    check<ConfigError>(c.mlp_dim % c.dim == 0, "save_pretrained: {}: mlp_dim {} is no multiple of dim {}",
                       family, c.mlp_dim, c.dim);
    json["mlp_ratio"] = c.mlp_dim / c.dim;
    json["layerscale_value"] = c.layer_scale;
    json["drop_path_rate"] = c.drop_path;
    json["use_mask_token"] = false;
    if (c.registers > 0) json["num_register_tokens"] = c.registers;
    json["architectures"] = {family == "dinov2" ? "Dinov2Model" : "Dinov2WithRegistersModel"};
  } else {
    json["intermediate_size"] = c.mlp_dim;
    json["architectures"] = {family == "vit" ? "ViTForImageClassification"
                                             : "DeiTForImageClassificationWithTeacher"};
  }
  return json;
}

Json timm_json(const VitConfig& c, const SavePretrainedOptions& options) {
  check<ConfigError>(c.norm_eps == 1e-6 || c.norm_eps == 1e-5,
                     "save_pretrained: timm has norms of eps 1e-6 or 1e-5, got {}", c.norm_eps);
  const char* architecture = c.distillation       ? "deit_base_distilled_patch16_224"
                             : c.norm_eps == 1e-5 ? "vit_base_patch16_clip_224"
                                                  : "vit_base_patch16_224";
  Json arguments{{"img_size", {c.height(), c.width()}},
                 {"patch_size", c.patch_size},
                 {"in_chans", c.channels},
                 {"embed_dim", c.dim},
                 {"depth", c.depth},
                 {"num_heads", c.heads},
                 {"mlp_ratio", static_cast<double>(c.mlp_dim) / static_cast<double>(c.dim)},
                 {"qkv_bias", c.qkv_bias},
                 {"pre_norm", c.pre_norm}};
  check<ConfigError>(c.patch_bias == !c.pre_norm,
                     "save_pretrained: timm: expected a patch_bias where there is no pre_norm");
  if (c.activation != Activation::gelu) arguments["act_layer"] = activation_name(c.activation);
  if (c.layer_scale > 0) arguments["init_values"] = c.layer_scale;
  if (c.registers > 0) arguments["reg_tokens"] = c.registers;
  if (!c.class_token) arguments["class_token"] = false;
  if (!c.class_position && c.class_tokens() > 0) arguments["no_embed_class"] = true;
  if (c.pooling == Pooling::mean) arguments["global_pool"] = "avg";
  Json pixels{{"input_size", {c.channels, c.height(), c.width()}},
              {"interpolation", "bicubic"},
              {"num_classes", c.classes},
              {"first_conv", "patch_embed.proj"},
              {"classifier", "head"},
              {"fixed_input_size", true}};
  if (!options.mean.empty()) pixels["mean"] = options.mean, pixels["std"] = options.stddev;
  if (c.distillation) pixels["classifier"] = {"head", "head_dist"};
  Json json{{"architecture", architecture}, {"num_classes", c.classes},
            {"num_features", c.dim},        {"model_args", arguments},
            {"pretrained_cfg", pixels},     {"global_pool", c.pooling == Pooling::mean ? "avg" : "token"}};
  if (!options.labels.empty()) json["label_names"] = options.labels;
  return json;
}

}  // namespace

VitConfig vit_config(const Pretrained& from) {
  const ConfigReader config(from);
  if (from.family == "timm") return of_timm(from, config);
  if (from.family != "vit" && from.family != "deit" && !from.family.starts_with("dinov2"))
    config.fail("model_type: expected an image model's, vit, deit, dinov2 or timm's, got {}", from.family);
  return of_transformers(from, config);
}

std::vector<std::string> save_pretrained(const Vit& model, const std::string& folder,
                                         const SavePretrainedOptions& options) {
  const VitConfig& c = model.config();
  const std::string family = options.family.empty() ? usual_family(c) : options.family;
  nn::StateDict state = model.state_dict();
  if (family == "timm") {
    const bool mean = c.pooling == Pooling::mean;
    return write_pretrained(folder, mean ? "timm_mean" : "timm", state, timm_json(c, options));
  }
  Json json = transformers_json(c, family);
  if (family.starts_with("dinov2"))  // its own classifier reads other things
    std::erase_if(state, [](const nn::NamedTensor& tensor) { return tensor.name.starts_with("head."); });
  else
    put_labels(json, options.labels, c.classes);
  std::vector<std::string> files =
      write_pretrained(folder, family, state, json, family.starts_with("dinov2"));
  Json pixels{{"image_processor_type", "ViTImageProcessor"},
              {"do_resize", true},
              {"do_rescale", true},
              {"do_normalize", true},
              {"rescale_factor", 1.0 / 255},
              {"resample", 3},
              {"size", {{"height", c.height()}, {"width", c.width()}}}};
  if (!options.mean.empty()) pixels["image_mean"] = options.mean, pixels["image_std"] = options.stddev;
  data::write_file(folder + "/preprocessor_config.json", pixels.dump(2) + "\n");
  files.emplace_back("preprocessor_config.json");
  return files;
}

}  // namespace tandem::models
