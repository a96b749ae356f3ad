#include <memory>
#include <set>

#include "tandem.h"
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
