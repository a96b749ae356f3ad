#include <memory>
#include <set>

#include "tandem.h"
#include "tests/files.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

// weight * x, then noise: a layer with all that a module can have.
struct Scale : Layer<Scale> {
  Tensor weight, count;
  Scale(Module& parent, std::string name, int64_t size)
      : Layer(parent, std::move(name)),
        weight(register_parameter("weight", {size}, init::normal())),
        count(register_buffer("count", zeros({}, {DType::i64}))) {
    register_buffer("scratch", zeros({2}), false);
  }
  Tensor forward(const Tensor& x) { return dropout(x * weight, 0.5); }
};
struct Block : Layer<Block> {
  Scale a{*this, "a", 3}, b{*this, "b", 3};
  using Layer::Layer;
  Tensor forward(const Tensor& x) { return b(a(x)); }
};
struct Model : Module {
  Scale stem{*this, "stem", 3};
  ModuleList<Block> blocks{*this, "blocks"};
  Model() {
    for (int i = 0; i < 2; ++i) blocks.emplace_back();
  }
  Tensor forward(const Tensor& x) {
    Tensor y = stem(x);
    for (Block& block : blocks) y = block(y);
    return y;
  }
};

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> all;
  for (const auto& [name, tensor] : tensors) all.push_back(name);
  return all;
}

TEST_CASE("module: paths and names are those of the tree, in order of registration") {
  Model model;
  CHECK(model.path() == "");
  CHECK(model.blocks[1].b.path() == "blocks.1.b");
  CHECK(model.blocks[1].b.name() == "b");
  CHECK(names(model.named_parameters()) == std::vector<std::string>{"stem.weight", "blocks.0.a.weight",
                                                                    "blocks.0.b.weight", "blocks.1.a.weight",
                                                                    "blocks.1.b.weight"});
  CHECK(names(model.blocks[1].named_parameters()) == std::vector<std::string>{"a.weight", "b.weight"});
  CHECK(names(model.blocks[0].a.named_buffers()) == std::vector<std::string>{"count", "scratch"});
  CHECK(names(model.blocks[0].a.state_dict()) == std::vector<std::string>{"weight", "count"});
  CHECK(model.num_parameters() == 15);
  CHECK(model.children().size() == 2);
  for (const Tensor& parameter : model.parameters()) CHECK(parameter.requires_grad());
}

TEST_CASE("module: errors and noise name the module that is run") {
  Model model;
  check_throws<ShapeError>("; in stem", [&] { model.forward(zeros({2})); });
  check_throws<AutogradError>("; in blocks.1.a", [&] { model.blocks[1](ones({3})); });
  // Equal weights and inputs, different paths: different masks.
  const PassContext context({.seed = 1});
  const Tensor x = ones({64, 3});
  model.blocks[0].a.initialize("weight", init::ones());
  model.blocks[0].b.initialize("weight", init::ones());
  check_throws<ConfigError>("no parameter \"a.weight\" in this module; a child's own initialize fills",
                            [&] { model.blocks[0].initialize("a.weight", init::ones()); });
  CHECK(values(model.blocks[0].a(x)) != values(model.blocks[0].b(x)));
}

TEST_CASE("module: a name that is taken, empty or has a dot is refused") {
  Model model;
  for (const char* name : {"stem", "", "a.b"})
    check_throws<ConfigError>(fmt::format("\"{}\"", name), [&] { Scale(model, name, 1); });
  check_throws<ConfigError>("\"weight\" is taken; in stem",
                            [&] { model.stem.register_parameter("weight", zeros({1})); });
  check_throws<ConfigError>("taken", [&] { model.stem.register_buffer("weight", zeros({1})); });
  check_throws<ConfigError>("taken", [&] { Scale(model.stem, "weight", 1); });
  check_throws<DTypeError>("expected f32 or f64, got \"w\" i64[1]",
                           [&] { model.register_parameter("w", zeros({1}, {DType::i64})); });
  CHECK(model.children().size() == 2);  // failed children have gone
}

TEST_CASE("module: a child that goes leaves its parent, and may outlive it") {
  auto model = std::make_unique<Model>();
  { const Scale extra(*model, "extra", 2); }
  CHECK(names(model->named_parameters()).size() == 5);
  const Scale survivor(*model, "extra", 2);
  CHECK(names(model->named_parameters()).back() == "extra.weight");
  model.reset();
  CHECK(survivor.path() == "extra");
}

TEST_CASE("module: tied weights are one parameter under two names") {
  Model model;
  model.register_parameter("tied", model.stem.weight);
  CHECK(names(model.named_parameters()).size() == 5);
  CHECK(names(model.named_parameters()).front() == "tied");  // the model's own come first
  CHECK(find(model.state_dict(), "stem.weight") != nullptr);
  CHECK(find(model.state_dict(), "tied") != nullptr);
  CHECK(model.num_parameters() == 15);
}

TEST_CASE("module: tie() makes two parameters one, assignment is an error") {
  struct Pair : Module {
    Linear a{*this, "a", 2, 3}, b{*this, "b", 2, 3}, wide{*this, "wide", 4, 3};
  } model;
  check_throws<AutogradError>(
      "Parameter: f32[3,2] is its module's, and is not replaced by assignment; nn::tie",
      [&] { model.b.weight = model.a.weight; });
  const auto before = values(model.b.weight);
  CHECK(names(model.named_parameters()).size() == 6);
  check_throws<ShapeError>("tie: f32[3,2] and f32[3,4]", [&] { tie(model.a.weight, model.wide.weight); });
  Parameter nothing;
  check_throws<AutogradError>("tie: a parameter is undefined", [&] { tie(nothing, model.a.weight); });
  tie(model.b.weight, model.a.weight);
  CHECK(names(model.named_parameters()).size() == 5);
  CHECK(values(model.b.weight) == values(model.a.weight));
  CHECK(values(model.b.weight) != before);
  const Tensor x = ones({1, 2});
  (model.a(x) + model.b(x)).sum().backward();
  CHECK(values(model.a.weight.grad()) == std::vector<double>(6, 2));
  CHECK(values(model.b.weight.grad()) == values(model.a.weight.grad()));
}

TEST_CASE("module: requires_grad_ freezes by a pattern, and optimizers leave what is frozen") {
  Model model;
  model.requires_grad_(false, "blocks.*.a.*");
  std::vector<std::string> frozen;
  for (const auto& [name, tensor] : model.named_parameters())
    if (!tensor.requires_grad()) frozen.push_back(name);
  CHECK(frozen == std::vector<std::string>{"blocks.0.a.weight", "blocks.1.a.weight"});
  check_throws<ConfigError>("requires_grad_: no parameter has a name like \"head.*\"",
                            [&] { model.requires_grad_(true, "head.*"); });
  SGD optimizer{model.parameters(), {.lr = 1}};
  const auto still = values(model.blocks[0].a.weight), moves = values(model.blocks[0].b.weight);
  {
    const Step step(model, optimizer);
    model.forward(ones({256, 3})).sum().passes_as_batch().sum().backward();
    optimizer.step();
  }
  CHECK(values(model.blocks[0].a.weight) == still);
  CHECK(values(model.blocks[0].b.weight) != moves);
  model.blocks[0].requires_grad_();
  CHECK(model.blocks[0].a.weight.requires_grad());
  CHECK_FALSE(model.blocks[1].a.weight.requires_grad());
  model.requires_grad_(false);
  check_throws<AutogradError>("SGD: none of the 5 parameters requires a gradient",
                              [&] { SGD(model.parameters(), {.lr = 1}); });
}

TEST_CASE("module: to() of another dtype converts parameters, gradients and buffers in place") {
  struct Net : Module {
    Linear out{*this, "out", 3, 2};
    BatchNorm2d norm{*this, "norm", 2};
  } net;
  const Tensor weight = net.out.weight;
  const auto before = values(weight);
  net.out(ones({1, 3})).sum().backward();
  net.to(DType::f64);
  CHECK(weight.dtype() == DType::f64);
  CHECK(weight.grad().dtype() == DType::f64);
  CHECK(net.norm.running_mean.dtype() == DType::f64);
  CHECK(values(weight) == before);
  CHECK(net.out(ones({1, 3}, {DType::f64})).dtype() == DType::f64);
  net.to(DType::f32);
  CHECK(values(net.out.weight) == before);
  check_throws<DTypeError>("to: weights are f32 or f64, got bf16", [&] { net.to(DType::bf16); });
}

TEST_CASE("module: printed as a table of names, kinds, shapes and parameters") {
  struct Net : Module {
    Linear in{*this, "in", 1000, 2};
    Sequential head{*this, "head", layer<Linear>(2, 3, false), relu, layer<Dropout>(0.1)};
    Linear out{*this, "out", 1000, 2};
  } net;
  tie(net.out.weight, net.in.weight);
  net.requires_grad_(false, "head.*");
  CHECK(to_string(net) == R"(name        kind        shape     parameters
            Net                        2,010
in          Linear                     2,002
  weight                [2,1000]       2,000
  bias                  [2]                2
head        Sequential                     6
  0         Linear                         6
    weight              [3,2]              6  frozen
  1         Lambda
  2         Dropout
out         Linear                         2
  weight                [2,1000]              is in.weight
  bias                  [2]                2
2,010 parameters, 6 of them frozen)");
  CHECK(fmt::format("{}", net) == to_string(net));
}

TEST_CASE("module: Sequential runs layers and functions, as a root and as a child") {
  Sequential model(
      layer<Linear>(3, 4), [](const Tensor& x) { return x * 2; }, relu, layer<Linear>(4, 2));
  CHECK(names(model.named_parameters()) ==
        std::vector<std::string>{"0.weight", "0.bias", "3.weight", "3.bias"});
  CHECK(model.size() == 4);
  const Tensor x = ones({2, 3});
  auto &first = model.at<Linear>(0), &last = model.at<Linear>(3);
  CHECK(values(model(x)) == values(last(relu(first(x) * 2))));
  CHECK_THROWS_AS(model.at<Dropout>(0), std::bad_cast);
}

TEST_CASE("module: save and load say what fitted, and change nothing where something did not") {
  const Scratch scratch;
  const std::string file = scratch.file("model.safetensors");
  struct Old : Module {
    Linear body{*this, "body", 2, 3}, head{*this, "head", 3, 5};
  } old;
  struct New : Module {
    Linear body{*this, "body", 2, 3}, head{*this, "head", 3, 4, false};
    LayerNorm norm{*this, "norm", 4};
  } fresh;
  save(old, file);
  const auto before = values(fresh.body.weight);
  check_throws<ConfigError>("load: " + file +
                                ": 4 of 6 names do not fit the model:\n"
                                "head.weight  mismatched  f32[4,3]  f32[5,3]\n"
                                "norm.weight  new         f32[4]\n"
                                "norm.bias    new         f32[4]\n"
                                "head.bias    unused                f32[5]",
                            [&] { load(fresh, file); });
  check_throws<ConfigError>("2 of 6 names do not fit", [&] { load(fresh, file, {.allow = "head.*"}); });
  CHECK(values(fresh.body.weight) == before);
  const Loaded loaded = load(fresh, file, {.allow = "[hn]*"});
  CHECK(contains(fmt::format("{}", loaded), "body.weight  loaded      f32[3,2]  f32[3,2]\n"));
  CHECK(values(fresh.body.weight) == values(old.body.weight));
  CHECK(values(fresh.body.bias) == values(old.body.bias));
  Old again;
  load(again, file);
  CHECK(values(again.head.weight) == values(old.head.weight));
}

TEST_CASE("module: train, eval and zero_grad reach all below") {
  Model model;
  CHECK(model.blocks[1].b.is_training());
  model.eval();
  CHECK_FALSE(model.blocks[1].b.is_training());
  CHECK_FALSE(model.blocks.emplace_back().a.is_training());  // as its parent is
  model.blocks[0].train();
  CHECK(model.blocks[0].a.is_training());
  CHECK_FALSE(model.blocks[1].is_training());
  model.stem.weight.sum().backward();
  CHECK(model.stem.weight.grad().defined());
  model.zero_grad();
  CHECK_FALSE(model.stem.weight.grad().defined());
}

TEST_CASE("module: initial values depend on seed and path alone") {
  const auto stem = [](uint64_t seed) {
    const InitScope scope{{.seed = seed}};
    return values(Model().stem.weight);
  };
  CHECK(stem(1) == stem(1));
  CHECK(stem(1) != stem(2));
  struct Other : Module {
    Scale before{*this, "before", 7}, stem{*this, "stem", 3};
  };
  CHECK(values(Other().stem.weight) == stem(0));
  Model model;
  std::set<std::vector<double>> distinct;
  for (const Tensor& parameter : model.parameters()) distinct.insert(values(parameter));
  CHECK(distinct.size() == 5);
  const InitScope scope{{.dtype = DType::f64}};
  CHECK(Model().stem.weight.dtype() == DType::f64);
}

TEST_CASE("module: state_dict is the model's memory, clone is not") {
  Model model;
  const StateDict live = model.state_dict(), kept = clone(live);
  const Tensor before = model.stem.weight.detach().clone();
  model.stem.weight.detach().fill_(5);
  CHECK(values(*find(live, "stem.weight")) == std::vector<double>(3, 5));
  CHECK(values(*find(kept, "stem.weight")) == values(before));
  const int64_t version = model.stem.weight.version();
  model.load_state_dict(kept);
  CHECK(values(model.stem.weight) == values(before));
  CHECK(model.stem.weight.version() > version);
  CHECK(model.stem.weight.requires_grad());
}

TEST_CASE("module: a state that does not fit is refused whole, naming the tensor") {
  Model model;
  const StateDict good = clone(model.state_dict());
  const auto before = values(model.stem.weight);
  const auto refused = [&]<class E>(const char* text, auto change) {
    StateDict state = good;
    for (auto& entry : state)
      entry.tensor = entry.tensor.to(DType::f64).clone().fill_(9).to(entry.tensor.dtype());
    change(state);
    const std::string message = message_of<E>([&] { model.load_state_dict(state); });
    CHECK_MESSAGE(contains(message, text), message);
    CHECK(values(model.stem.weight) == before);
  };
  refused.operator()<ConfigError>("\"blocks.1.b.count\" i64[] is missing",
                                  [](StateDict& s) { s.pop_back(); });
  refused.operator()<ConfigError>("\"head.weight\" f32[2] is unexpected", [](StateDict& s) {
    s.push_back({"head.weight", zeros({2})});
  });
  refused.operator()<ConfigError>("\"stem.weight\" is given twice", [](StateDict& s) { s.push_back(s[0]); });
  refused.operator()<ShapeError>("\"blocks.1.b.weight\": expected f32[3], got f32[4]", [](StateDict& s) {
    for (auto& [name, tensor] : s)
      if (name == "blocks.1.b.weight") tensor = zeros({4});
  });
  refused.operator()<DTypeError>("\"blocks.1.b.count\": expected i64[], got f32[]",
                                 [](StateDict& s) { s.back().tensor = zeros({}); });
}

}  // namespace
}  // namespace tandem::nn
