// Whole models against an independent framework: logits, loss, every gradient, running statistics, evaluation
// and a few steps of training, in f64.
#include "models/cnn/cnn.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "nn/optim/adam.h"
#include "ops/ops.h"
#include "tests/golden.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using namespace tandem::nn;

namespace {

constexpr double kTolerance = 1e-9;

// The CNN of the golden file: like models::Cnn, with widths of its own and no dropout.
struct GoldenCnn : Module {
  GoldenCnn(int64_t image_size, int64_t channels, int64_t width1, int64_t width2, int64_t classes)
      : conv1(*this, "conv1", channels, width1, 3, {.padding = {1, 1}}),
        norm1(*this, "norm1", width1),
        conv2(*this, "conv2", width1, width2, 3, {.padding = {1, 1}}),
        norm2(*this, "norm2", width2),
        head(*this, "head", width2 * (image_size / 4) * (image_size / 4), classes) {}
  Tensor forward(const Tensor& images) {
    const Tensor x = max_pool2d(relu(norm1(conv1(images))), {2, 2});
    return head(max_pool2d(relu(norm2(conv2(x))), {2, 2}).flatten(1));
  }
  Conv2d conv1;
  BatchNorm2d norm1;
  Conv2d conv2;
  BatchNorm2d norm2;
  Linear head;
};

StateDict golden_state(const Json& test) {
  StateDict state;
  for (const char* kind : {"parameters", "buffers"})
    for (const auto& [name, value] : test[kind].items()) state.push_back({name, golden_tensor(value)});
  return state;
}

template <class Model> void check_model(const Json& test, Model& model) {
  model.load_state_dict(golden_state(test));
  const Tensor images = golden_tensor(test["images"]), target = golden_tensor(test["target"]);
  const auto loss_of = [&](const Tensor& logits) {
    return rdrop_cross_entropy(logits, target, {.label_smoothing = test["label_smoothing"]}).loss;
  };

  const Tensor logits = model.forward(images);
  CHECK(difference(logits, golden_tensor(test["logits"])) < kTolerance);
  const Tensor loss = loss_of(logits);
  CHECK(difference(loss, golden_tensor(test["loss"])) < kTolerance);
  loss.backward();
  double scale = 0;  // of all gradients: some true ones are 0
  for (const auto& [name, value] : test["grads"].items())
    for (const double v : value["data"]) scale = std::max(scale, std::abs(v));
  REQUIRE(model.named_parameters().size() == test["grads"].size());
  for (const NamedTensor& parameter : model.named_parameters()) {
    INFO(parameter.name);
    CHECK(difference(parameter.tensor.grad(), golden_tensor(test["grads"][parameter.name]), scale) <
          kTolerance);
  }

  model.commit_statistics();
  REQUIRE(model.named_buffers().size() == test["buffers_after"].size());
  for (const NamedTensor& buffer : model.named_buffers()) {
    INFO(buffer.name);
    CHECK(difference(buffer.tensor, golden_tensor(test["buffers_after"][buffer.name])) < kTolerance);
  }
  model.eval();
  CHECK(difference(model.forward(images), golden_tensor(test["eval_logits"])) < kTolerance);
  model.train();

  const Json& options = test["training"]["options"];
  AdamW optimizer(model.parameters(), {.lr = options["lr"],
                                       .betas = {options["betas"][0], options["betas"][1]},
                                       .eps = options["eps"],
                                       .weight_decay = options["weight_decay"]});
  REQUIRE(test["training"]["losses"].size() == 6);
  for (const double expected : test["training"]["losses"]) {
    optimizer.zero_grad();
    const Tensor now = loss_of(model.forward(images));
    CHECK(now.item() == doctest::Approx(expected).epsilon(kTolerance));
    now.backward();
    optimizer.step();
  }
}

}  // namespace

TEST_CASE("models: golden ViT and CNN, one step and training") {
  const InitScope scope{{.dtype = DType::f64}};
  int vits = 0, cnns = 0;
  for (const Json& test : golden("models.json")) {
    const Json& config = test["config"];
    INFO(test["model"].get<std::string>() << " " << config.dump());
    if (test["model"] == "VisionTransformer") {
      REQUIRE(config["norm_eps"] == 1e-6);  // what models::Vit has
      models::Vit model({.image_size = config["image_size"],
                         .channels = config["channels"],
                         .classes = config["num_classes"],
                         .patch_size = config["patch_size"],
                         .dim = config["dim"],
                         .depth = config["depth"],
                         .heads = config["num_heads"],
                         .mlp_dim = config["mlp_dim"],
                         .dropout = 0});
      check_model(test, model);
      ++vits;
    } else {
      GoldenCnn model(config["image_size"], config["channels"], config["widths"][0], config["widths"][1],
                      config["num_classes"]);
      check_model(test, model);
      ++cnns;
    }
  }
  CHECK(vits == 2);
  CHECK(cnns == 1);
}

TEST_CASE("models: the CNN is the golden one with its own widths, and dropout before the head") {
  const InitScope scope{{.seed = 5, .dtype = DType::f64}};
  models::Cnn model({.image_size = 12, .channels = 2, .classes = 4, .width = 3, .dropout = 0});
  GoldenCnn reference(12, 2, 3, 6, 4);
  StateDict state = model.state_dict();
  for (const auto& [name, value] : reference.state_dict())  // ours has no bias before batch norm
    if (!find(state, name)) state.push_back({name, zeros_like(value)});
  CHECK(state.size() == model.state_dict().size() + 2);
  reference.load_state_dict(state);
  const Tensor images = normal({5, 2, 12, 12}, 1, DType::f64);
  CHECK(difference(model.forward(images), reference.forward(images)) < 1e-12);
  model.commit_statistics(), reference.commit_statistics();
  model.eval(), reference.eval();
  CHECK(difference(model.forward(images), reference.forward(images)) < 1e-12);
}

TEST_CASE("golden decoder layers and encoder-decoders: values and gradients") {
  const InitScope scope{{.dtype = DType::f64}};
  const Json all = golden("decoder.json");
  int cases = 0;
  const auto check_gradients = [](const Json& expected, const Module& module) {
    double scale = 0;  // of all gradients: some true ones are 0
    for (const auto& [name, value] : expected.items())
      for (const double v : value["data"]) scale = std::max(scale, std::abs(v));
    REQUIRE(module.named_parameters().size() == expected.size());
    for (const NamedTensor& p : module.named_parameters()) {
      INFO(p.name);
      CHECK(difference(p.tensor.grad(), golden_tensor(expected[p.name]), scale) < 1e-10);
    }
  };
  for (const Json& test : all) {
    const Json& c = test["config"];
    INFO(c.dump());
    ++cases;
    StateDict state;
    for (const auto& [name, value] : test["parameters"].items())
      state.push_back({name, golden_tensor(value)});
    if (test.contains("layer")) {
      struct Root : Module {
      } root;
      TransformerDecoderLayer layer(
          root, "layer", c["d_model"], c["num_heads"], c["dim_feedforward"],
          {.activation = c["activation"] == "relu" ? Activation::relu : Activation::gelu,
           .norm_first = c["norm_first"]});
      layer.load_state_dict(state);
      const Json& in = test["inputs"];
      const Tensor x = golden_tensor(in["x"]).requires_grad_(),
                   memory = golden_tensor(in["memory"]).requires_grad_();
      const Tensor mask =
          in.contains("memory_key_padding_mask") ? golden_tensor(in["memory_key_padding_mask"]) : Tensor();
      const Tensor y = layer(x, memory, mask);
      CHECK(difference(y, golden_tensor(test["output"])) < 1e-10);
      y.backward(golden_tensor(test["cotangent"]));
      CHECK(difference(x.grad(), golden_tensor(test["input_grads"]["x"])) < 1e-10);
      CHECK(difference(memory.grad(), golden_tensor(test["input_grads"]["memory"])) < 1e-10);
      check_gradients(test["parameter_grads"], layer);
      continue;
    }
    models::Transformer model({.vocab = c["vocab"],
                               .dim = c["dim"],
                               .heads = c["heads"],
                               .mlp_dim = c["mlp_dim"],
                               .encoder_layers = c["encoder_layers"],
                               .decoder_layers = c["decoder_layers"],
                               .max_positions = 8,
                               .dropout = 0,
                               .norm_first = c["norm_first"]});
    model.load_state_dict(state);
    const data::Batch batch{{golden_tensor(test["source"]), golden_tensor(test["target_in"])},
                            golden_tensor(test["target"]),
                            {},
                            2};
    CHECK(difference(model.forward(batch.inputs[0], batch.inputs[1]), golden_tensor(test["logits"])) < 1e-10);
    models::SequenceToSequence objective(model);
    const LossParts parts =
        objective.loss(objective.forward(batch), batch, {.label_smoothing = test["label_smoothing"]}, 1);
    CHECK(difference(parts.loss, golden_tensor(test["loss"])) < 1e-10);
    parts.loss.backward();
    check_gradients(test["grads"], model);
  }
  CHECK(cases == 5);
}
