// Published models against the reference implementation's numbers (golden/make_pretrained.py).
#include "models/pretrained/pretrained.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/transformer/masked_language_modeling.h"
#include "nn/init.h"
#include "ops/ops.h"
#include "tests/files.h"
#include "tests/golden.h"

namespace tandem::models {
namespace {

using namespace testing;
using nn::Loaded;

std::string folder(const std::string& name) { return golden_folder() + "/pretrained/" + name; }

struct Golden {
  explicit Golden(const std::string& name, const std::string& file = "golden")
      : tensors(
            nn::load_safetensors(folder(name) + "/" + file + ".safetensors", nn::Alignment::any).tensors) {}
  const Tensor& operator[](const std::string& name) const {
    const Tensor* found = nn::find(tensors, name);
    REQUIRE_MESSAGE(found, name);
    return *found;
  }
  nn::NamedTensors tensors;
};

// Their gradients of a loss, under our names and in our shapes: what is loaded is the gradient.
template <class Model, class Config>
nn::NamedTensors expected_gradients(const Config& config, Pretrained from, const Golden& golden) {
  for (nn::NamedTensor& tensor : from.tensors) {
    const Tensor* gradient = nn::find(golden.tensors, "grad." + tensor.name);
    tensor.tensor = gradient ? *gradient : zeros_like(tensor.tensor);
  }
  Model holder(config);
  load_pretrained(holder, from);
  nn::NamedTensors gradients = clone(holder.state_dict());
  return gradients;
}

// Loads the folder of that name, in `dtype`, and compares output, loss and every gradient. `run` gives the
// output of a model; `loss` is of that and the target.
template <class Model, class Config, class Run, class Loss>
void check_family(const std::string& name, const Config& config, double tolerance, Run run, Loss loss_of) {
  INFO(name);
  const Pretrained from = open_pretrained(folder(name));
  const Golden golden(name);
  Model model(config);
  const Loaded loaded = load_pretrained(model, from);
  model.eval();
  const Tensor output = run(model, golden);
  const Tensor expected = golden["output"];
  CHECK(difference(output, expected) <= tolerance);
  const Tensor loss = loss_of(output, golden["target"]);
  CHECK(std::abs(loss.item<double>() - golden["loss"].item<double>()) <=
        tolerance * golden["loss"].item<double>());
  model.zero_grad();
  loss.backward();
  const nn::NamedTensors gradients = expected_gradients<Model>(config, from, golden);
  // Nothing is asked to be more exact than one rounding of all gradients: that of a key's bias, which is 0
  // but for roundings, has no digit of its own.
  const double rounding = output.dtype() == DType::f64 ? 0x1p-53 : 0x1p-24;
  double sum = 0;
  for (const auto& [parameter, gradient] : gradients) sum += square(gradient).sum().template item<double>();
  for (const auto& [named, tensor] : model.named_parameters()) {
    const std::string& parameter = named;
    const Tensor& theirs = *nn::find(gradients, parameter);
    bool read = false;
    for (const Loaded::Line& line : loaded.lines) read |= line.name == parameter && line.state == "loaded";
    if (!read) continue;
    INFO(parameter);
    const Tensor own = tensor.grad().defined() ? tensor.grad() : zeros_like(tensor);
    const Closeness found =
        close(own, theirs, tolerance, std::max(1e-3, rounding / tolerance) * std::sqrt(sum));
    CHECK_MESSAGE(found.close, found.message);
  }
}

Tensor class_loss(const Tensor& output, const Tensor& target) { return cross_entropy(output, target); }
Tensor word_loss(const Tensor& output, const Tensor& target) {
  return cross_entropy(output.flatten(0, 1), target.flatten());
}
Tensor square_loss(const Tensor& output, const Tensor& target) { return square(output - target).mean(); }

// In f64 and f32.
template <class F> void in_both(F check) {
  {
    const nn::InitScope wide({.dtype = DType::f64});
    check(1e-9, DType::f64);
  }
  check(1e-5, DType::f32);
}

const char* const kVits[] = {"vit",      "vit_backbone", "deit",           "dinov2",   "dinov2_registers",
                             "timm_vit", "timm_average", "timm_registers", "timm_deit"};

TEST_CASE("published ViTs: outputs, loss and gradients of the reference") {
  in_both([](double tolerance, DType dtype) {
    for (const std::string name : kVits) {
      const VitConfig config = vit_config(open_pretrained(folder(name)));
      const bool head = name != "vit_backbone" && !name.starts_with("dinov2");
      check_family<Vit>(
          name, config, tolerance,
          [&](Vit& model, const Golden& golden) {
            const Tensor images = golden["images"].to(dtype);
            return head ? model.forward(images) : model.features(images);
          },
          head ? class_loss : square_loss);
    }
  });
}

Tensor padding(const Golden& golden) { return golden["attention_mask"] == 0; }

TEST_CASE("published text encoders: outputs, loss and gradients of the reference") {
  in_both([](double tolerance, DType) {
    for (const std::string name : {"bert", "bert_left", "sentence", "roberta"}) {
      const TextEncoderConfig config = text_encoder_config(open_pretrained(folder(name)));
      const bool head = name == "bert" || name == "roberta";
      check_family<TextEncoder>(
          name, config, tolerance,
          [&](TextEncoder& model, const Golden& golden) {
            const Tensor segments = name == "roberta" ? Tensor() : golden["token_type_ids"];
            const Tensor pooled = model.pooled(golden["input_ids"], segments, {}, padding(golden));
            return head ? model.head(pooled) : pooled;
          },
          head ? class_loss : square_loss);
    }
    for (const std::string name : {"bert_masked", "roberta_masked"}) {
      const TextEncoderConfig config = text_encoder_config(open_pretrained(folder(name)));
      REQUIRE(config.masked_lm_head);
      check_family<TextEncoder>(
          name, config, tolerance,
          [&](TextEncoder& model, const Golden& golden) {
            const Tensor segments = name == "bert_masked" ? golden["token_type_ids"] : Tensor();
            const Tensor hidden = model.hidden(golden["input_ids"], segments, {}, padding(golden));
            return linear(model.masked_lm_hidden(hidden), model.word_weight(), model.word_bias());
          },
          word_loss);
    }
  });
}

TEST_CASE("published GPT-2: outputs, loss and gradients of the reference") {
  in_both([](double tolerance, DType) {
    for (const std::string name : {"gpt2", "gpt2_untied"}) {
      check_family<LanguageModel>(
          name, language_model_config(open_pretrained(folder(name))), tolerance,
          [](LanguageModel& model, const Golden& golden) { return model.forward(golden["input_ids"]); },
          word_loss);
    }
  });
}

TEST_CASE("published BART: outputs, loss and gradients of the reference") {
  in_both([](double tolerance, DType) {
    for (const std::string name : {"bart", "bart_scaled"}) {
      check_family<Transformer>(
          name, transformer_config(open_pretrained(folder(name))), tolerance,
          [](Transformer& model, const Golden& golden) {
            return model.forward(golden["input_ids"], golden["decoder_input_ids"]);
          },
          word_loss);
    }
  });
}

TEST_CASE("published ViTs: positions for larger images as the reference interpolates them") {
  for (const std::string name : {"vit", "dinov2", "timm_vit"}) {
    INFO(name);
    const Pretrained from = open_pretrained(folder(name));
    const Golden golden(name, "resized");
    VitConfig config = vit_config(from);
    config.image_size = 20, config.image_width = 0;
    const nn::InitScope wide({.dtype = DType::f64});
    Vit model(config);
    load_pretrained(model, from);
    model.eval();
    const Tensor x = golden["images"];
    // Two of the references interpolate in f32.
    CHECK(difference(name == "dinov2" ? model.features(x) : model.forward(x), golden["output"]) <= 1e-6);
  }
}

// The names and bits of two files of weights. A backbone alone (the first) has no head, and no prefix; nobody
// reads a mask_token.
void check_same_weights(const std::string& a, const std::string& b) {
  const auto load = [](const std::string& file) {
    return nn::load_safetensors(file, nn::Alignment::any).tensors;
  };
  const nn::NamedTensors first = load(a), second = load(b);
  size_t same = 0;
  for (const auto& [named, tensor] : first) {
    const std::string& name = named;
    const Tensor* other = nn::find(second, name);
    if (!other && (name == "embeddings.mask_token" || name.starts_with("pooler."))) continue;
    if (!other) other = nn::find(second, "vit." + name);
    REQUIRE_MESSAGE(other, name);
    CHECK_MESSAGE(same_bits(tensor, *other), name);
    ++same;
  }
  for (const auto& [name, tensor] : second)
    if (nn::find(first, name) == nullptr && name.starts_with("classifier.")) ++same;
  CHECK(same == second.size());
}

template <class Model, class Config>
void check_round_trip(const std::string& name, Config (*config_of)(const Pretrained&)) {
  INFO(name);
  const Scratch scratch;
  const Pretrained from = open_pretrained(folder(name));
  Model model(config_of(from));
  load_pretrained(model, from);
  const std::vector<std::string> files = save_pretrained(
      model, scratch.file("out"), {.family = from.family, .mean = from.mean, .stddev = from.stddev});
  for (const std::string& file : files)
    CHECK_MESSAGE(std::filesystem::exists(scratch.file("out/" + file)), file);
  check_same_weights(from.folder + "/model.safetensors", scratch.file("out/model.safetensors"));
  // What was written is read again, and is the same model.
  const Pretrained again = open_pretrained(scratch.file("out"));
  CHECK(again.mean_pooling == from.mean_pooling);
  CHECK(again.mean == from.mean);
  Model second(config_of(again));
  for (const Loaded::Line& line : load_pretrained(second, again).lines) {
    INFO(line.name);
    CHECK((line.state == "loaded" || line.name.starts_with("head.") || line.name.starts_with("pooler.")));
  }
  for (const nn::NamedTensor& each : model.state_dict())
    if (!each.name.starts_with("head.") && !each.name.starts_with("pooler."))
      CHECK_MESSAGE(same_bits(each.tensor, *nn::find(second.state_dict(), each.name)), each.name);
}

TEST_CASE("published models: what is saved has every name and bit of what was loaded") {
  for (const std::string name : kVits) check_round_trip<Vit>(name, vit_config);
  for (const char* name : {"bert", "sentence", "roberta", "bert_masked", "roberta_masked"})
    check_round_trip<TextEncoder>(name, text_encoder_config);
  for (const char* name : {"gpt2", "gpt2_untied"})
    check_round_trip<LanguageModel>(name, language_model_config);
  for (const char* name : {"bart", "bart_scaled"}) check_round_trip<Transformer>(name, transformer_config);
}

// A copy of a folder, whose config.json has `key` as `value`, or lacks it.
std::string changed(const Scratch& scratch, const std::string& name, const std::string& key,
                    const Json& value) {
  const std::string to = scratch.file("changed");
  std::filesystem::remove_all(to);
  std::filesystem::copy(folder(name), to, std::filesystem::copy_options::recursive);
  Json config = Json::parse(bytes_of(to + "/config.json"));
  config.erase(key);
  if (!value.is_null()) config[key] = value;
  put(to + "/config.json", config.dump());
  return to;
}

TEST_CASE("published models: a configuration that does not fit names file, key and value") {
  const Scratch scratch;
  const auto vit = [&](const std::string& key, const Json& value, const std::string& part) {
    check_throws<ConfigError>(part, [&] {
      const Pretrained from = open_pretrained(changed(scratch, "vit", key, value));
      Vit model(vit_config(from));
      load_pretrained(model, from);
    });
  };
  vit("model_type", "swin", "config.json: model_type: expected one of vit, deit, dinov2");
  vit("model_type", nullptr, "expected a model_type, or timm's architecture");
  vit("model_type", "bert", "model_type: expected an image model's");
  vit("hidden_act", "silu", "hidden_act: expected gelu, gelu_new, gelu_pytorch_tanh or relu, got 'silu'");
  vit("hidden_size", nullptr, "hidden_size: expected a size, it is missing");
  vit("hidden_size", -8, "hidden_size: expected a size, got -8");
  vit("hidden_size", 1e300, "hidden_size: expected a size, got 1e+300");
  vit("hidden_size", "8", "hidden_size: expected a size, got \"8\"");
  vit("hidden_size", 16,
      "it makes a 'embeddings.patch_embeddings.projection.weight' of [16,3,4,4], the weights have [8,3,4,4]");
  vit("hidden_size", 900'000'000, "the weights have [8,3,4,4]");
  vit("num_hidden_layers", 1000, "1000 layers, but there are only");
  vit("image_size", 400,
      "it makes a 'embeddings.position_embeddings' of [1,10001,8], the weights have [1,5,8]");
  vit("image_size", 0, "image_size: expected at least 1, got 0");
  vit("num_hidden_layers", 3, "blocks.2.norm1.weight");
  vit("num_hidden_layers", 1, "unused");
  vit("patch_size", {4, 2}, "patch_size: expected square patches, got 4 x 2");
  vit("image_size", {4, 2, 1}, "image_size: expected a size, or height and width, got 3 numbers");
  const auto text = [&](const std::string& name, const std::string& key, const Json& value,
                        const std::string& part) {
    check_throws<ConfigError>(part, [&] {
      const Pretrained from = open_pretrained(changed(scratch, name, key, value));
      if (name == "bert") text_encoder_config(from);
      if (name == "gpt2") language_model_config(from);
      if (name == "bart") transformer_config(from);
    });
  };
  text("bert", "position_embedding_type", "relative_key",
       "position_embedding_type: expected \"absolute\", got \"relative_key\"");
  text("gpt2", "scale_attn_by_inverse_layer_idx", true,
       "scale_attn_by_inverse_layer_idx: expected false, got true");
  text("bart", "decoder_ffn_dim", 16, "decoder_ffn_dim: expected 12, got 16");
}

TEST_CASE("published sentence encoders: the first token's vector, as it is") {
  const Scratch scratch;
  const std::string to = changed(scratch, "sentence", "none", nullptr);
  const auto pooling = [&](bool cls, bool mean, const Json& more = Json::object()) {
    Json json{{"pooling_mode_cls_token", cls}, {"pooling_mode_mean_tokens", mean}};
    json.update(more);
    put(to + "/1_Pooling/config.json", json.dump());
  };
  pooling(true, false, {{"pooling_mode_max_tokens", false}});
  const Pretrained from = open_pretrained(to);
  const TextEncoderConfig config = text_encoder_config(from);
  CHECK(config.pooling == Pooling::cls);
  CHECK(config.pooler == Pooler::none);
  TextEncoder model(config);
  load_pretrained(model, from);
  model.eval();
  const Tensor ids = Golden("sentence")["input_ids"];
  CHECK(difference(model.pooled(ids), model.hidden(ids).select(1, 0)) <= 1e-6);
  save_pretrained(model, scratch.file("out"));
  const Pretrained again = open_pretrained(scratch.file("out"));
  CHECK(again.cls_pooling);
  CHECK(!again.mean_pooling);

  const auto refused = [&](const std::string& part) {
    check_throws<ConfigError>(part, [&] { open_pretrained(to); });
  };
  pooling(true, true);
  refused("1_Pooling/config.json: expected pooling_mode_mean_tokens or pooling_mode_cls_token, got both");
  pooling(false, false);
  refused("got neither");
  pooling(false, true, {{"pooling_mode_max_tokens", true}});
  refused("pooling_mode_max_tokens: expected false, got true");
  pooling(false, true);
  Json modules = Json::parse(bytes_of(to + "/modules.json"));
  for (const char* kind : {"Normalize", "Dense"}) {
    modules.push_back({{"idx", 2}, {"type", std::string("sentence_transformers.models.") + kind}});
    put(to + "/modules.json", modules.dump());
    if (kind == std::string("Normalize")) CHECK(open_pretrained(to).mean_pooling);
  }
  refused(
      "modules.json: type: expected a Transformer, Pooling or Normalize, got "
      "'sentence_transformers.models.Dense'");
}

TEST_CASE("published ViTs of timm: heads by the width, where it is one of timm's") {
  const auto heads = [](int64_t dim) {
    Pretrained from;
    from.folder = from.family = "timm";
    from.config = R"({"architecture": "vit_x", "model_args": {"img_size": 2}})";
    from.tensors = {{"patch_embed.proj.weight", zeros({dim, 1, 1, 1})},
                    {"blocks.0.mlp.fc1.weight", zeros({1, dim})},
                    {"blocks.0.mlp.fc2.weight", zeros({dim, 1})},
                    {"blocks.0.norm1.weight", zeros({dim})},
                    {"cls_token", zeros({1, 1, dim})},
                    {"pos_embed", zeros({1, 5, dim})}};
    return vit_config(from).heads;
  };
  CHECK(heads(384) == 6);
  CHECK(heads(1280) == 16);
  CHECK(heads(1664) == 16);  // not 26 of 64
  CHECK(heads(1152) == 16);  // not 18
  check_throws<ConfigError>("num_heads: expected a size, it is missing, and timm has no model 576 wide",
                            [&] { heads(576); });
}

TEST_CASE("published models: files that are missing, damaged or pickles") {
  const Scratch scratch;
  const auto with = [&](auto change) {
    const std::string to = changed(scratch, "bert", "none", nullptr);
    change(to);
    return to;
  };
  const auto refused = [&](const std::string& part, auto change) {
    check_throws<IoError>(part, [&] { open_pretrained(with(change)); });
  };
  check_throws<IoError>("no such file or folder", [&] { open_pretrained(scratch.file("nothing")); });
  refused("there is no config.json",
          [](const std::string& to) { std::filesystem::remove(to + "/config.json"); });
  refused("expected JSON", [](const std::string& to) { put(to + "/config.json", "{"); });
  refused("expected model.safetensors or model.safetensors.index.json, there is neither",
          [](const std::string& to) { std::filesystem::remove(to + "/model.safetensors"); });
  refused("AutoModel.from_pretrained", [](const std::string& to) {
    std::filesystem::rename(to + "/model.safetensors", to + "/pytorch_model.bin");
  });
  // Two shards and their index; then one of them lost, or the index wrong.
  const auto sharded = [](const std::string& to) {
    nn::NamedTensors all = nn::load_safetensors(to + "/model.safetensors", nn::Alignment::any).tensors,
                     parts[2];
    Json map = Json::object();
    for (size_t i = 0; i < all.size(); ++i) {
      parts[i % 2].push_back(all[i]);
      map[all[i].name] = fmt::format("model-{}.safetensors", i % 2);
    }
    for (int i = 0; i < 2; ++i) nn::save_safetensors(fmt::format("{}/model-{}.safetensors", to, i), parts[i]);
    std::filesystem::remove(to + "/model.safetensors");
    put(to + "/model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  };
  const Pretrained whole = open_pretrained(folder("bert")), from = open_pretrained(with(sharded));
  REQUIRE(from.tensors.size() == whole.tensors.size());
  for (const auto& [name, tensor] : whole.tensors) CHECK(same_bits(*nn::find(from.tensors, name), tensor));
  refused("the shard 'model-1.safetensors' is missing", [&](const std::string& to) {
    sharded(to);
    std::filesystem::remove(to + "/model-1.safetensors");
  });
  refused("is in another shard, too", [&](const std::string& to) {
    sharded(to);
    std::filesystem::copy_file(to + "/model-0.safetensors", to + "/model-1.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
  });
  refused("expected a .safetensors file of the folder", [&](const std::string& to) {
    sharded(to);
    put(to + "/model.safetensors.index.json", R"({"weight_map": {"x": "../other.safetensors"}})");
  });
}

TEST_CASE("published models: a new head, names that may differ, old names of norms") {
  const Scratch scratch;
  const Pretrained from = open_pretrained(folder("bert"));
  TextEncoderConfig config = text_encoder_config(from);
  CHECK(config.outputs == 5);
  config.outputs = 3;
  TextEncoder model(config);
  check_throws<ConfigError>("head.weight  mismatched  f32[3,8]  f32[5,8]",
                            [&] { load_pretrained(model, from); });
  const auto state_of = [](const Loaded& loaded, const std::string& name) {
    for (const Loaded::Line& line : loaded.lines)
      if (line.name == name) return line.state;
    return std::string("absent");
  };
  CHECK(state_of(load_pretrained(model, from, {.new_head = true}), "head.weight") == "new");
  CHECK(state_of(load_pretrained(model, from, {.allow = "head.*"}), "head.weight") == "mismatched");
  Pretrained old = from;
  for (nn::NamedTensor& tensor : old.tensors) {
    if (tensor.name.ends_with("LayerNorm.weight")) tensor.name.replace(tensor.name.size() - 6, 6, "gamma");
    if (tensor.name.ends_with("LayerNorm.bias")) tensor.name.replace(tensor.name.size() - 4, 4, "beta");
  }
  const std::string to = changed(scratch, "bert", "none", nullptr);
  nn::save_safetensors(to + "/model.safetensors", old.tensors);
  const Pretrained modern = open_pretrained(to);
  for (const auto& [name, tensor] : from.tensors) CHECK(same_bits(*nn::find(modern.tensors, name), tensor));
}

TEST_CASE("published models: a head's rows come in the order of the classes") {
  const Scratch scratch;
  const VitConfig config{.image_size = 8,
                         .channels = 3,
                         .classes = 3,
                         .patch_size = 4,
                         .dim = 8,
                         .depth = 1,
                         .heads = 2,
                         .mlp_dim = 8};
  const Vit model(config);
  for (const std::string family : {"vit", "timm"}) {
    INFO(family);
    const std::string to = scratch.file(family);
    save_pretrained(model, to, {.family = family, .labels = {"dog", "ant", "cat"}});
    const Pretrained from = open_pretrained(to);
    CHECK(from.labels == std::vector<std::string>{"dog", "ant", "cat"});
    Vit sorted(config), same(config);
    load_pretrained(sorted, from, {.classes = {"ant", "cat", "dog"}});
    load_pretrained(same, from, {.classes = {"ant", "cat", "eel"}});  // other classes: as they are
    for (const std::string name : {"head.weight", "head.bias"}) {
      const Tensor theirs = *nn::find(model.state_dict(), name), ours = *nn::find(sorted.state_dict(), name);
      for (const auto& [at, was] : {std::pair{0, 1}, {1, 2}, {2, 0}})
        CHECK(same_bits(ours.select(0, at), theirs.select(0, was)));
      CHECK(same_bits(*nn::find(same.state_dict(), name), theirs));
    }
  }
  check_throws<ConfigError>("label_names: expected a list of names, got 7", [&] {
    Json timm = Json::parse(bytes_of(scratch.file("timm/config.json")));
    timm["label_names"] = 7;
    put(scratch.file("timm/config.json"), timm.dump());
    open_pretrained(scratch.file("timm"));
  });
}

TEST_CASE("published models: what a family cannot be is said before anything is written") {
  const Scratch scratch;
  const auto refused = [&](const std::string& part, const auto& model,
                           const SavePretrainedOptions& options = {}) {
    check_throws<ConfigError>(part, [&] { save_pretrained(model, scratch.file("out"), options); });
    CHECK(!std::filesystem::exists(scratch.file("out")));
  };
  refused("vit has no model with this layer_scale", Vit({.layer_scale = 1}), {.family = "vit"});
  refused("labels: expected 10, one for each output, got 1", Vit(VitConfig{}), {.labels = {"one"}});
  refused("gpt2 has no model with embeddings multiplied by sqrt(dim)", LanguageModel(LanguageModelConfig{}));
  refused("bart has no model with positions that are not learned", Transformer(TransformerConfig{}));
  refused("bert has no model with norm_first", TextEncoder({.norm_first = true}));
  refused("family: expected bert or roberta, got 'gpt2'", TextEncoder(TextEncoderConfig{}),
          {.family = "gpt2"});
}

}  // namespace
}  // namespace tandem::models
