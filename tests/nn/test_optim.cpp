#include <cmath>
#include <limits>

#include "autograd/parallel.h"
#include "nn/optim/adam.h"
#include "nn/optim/clip.h"
#include "nn/optim/sgd.h"
#include "ops/arithmetic.h"
#include "tests/golden.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

Tensor parameter(const Tensor& value) { return value.clone().requires_grad_(); }

std::unique_ptr<Optimizer> make(const Json& test, const Tensors& parameters) {
  const Json& o = test["options"];
  const double decay = o.value("weight_decay", 0.0);
  if (test["name"] == "SGD") {
    return std::make_unique<SGD>(parameters, SGDOptions{.lr = o["lr"],
                                                        .momentum = o.value("momentum", 0.0),
                                                        .weight_decay = decay,
                                                        .nesterov = o.value("nesterov", false)});
  }
  if (test["name"] == "Adam")
    return std::make_unique<Adam>(parameters, AdamOptions{o["lr"], o["betas"], o["eps"], decay});
  return std::make_unique<AdamW>(parameters, AdamWOptions{o["lr"], o["betas"], o["eps"], decay});
}

TEST_CASE("optim: golden steps of SGD, Adam and AdamW, in f64 and f32") {
  int cases = 0;
  for (const Json& test : golden("optim.json")) {
    if (test["kind"] != "optimizer") continue;
    ++cases;
    for (const DType dtype : {DType::f64, DType::f32}) {
      INFO(test["name"].get<std::string>() << " " << test["options"].dump() << " " << name_of(dtype));
      Tensors parameters;
      for (const Json& value : test["parameters"])
        parameters.push_back(parameter(golden_tensor(value).to(dtype)));
      const auto optimizer = make(test, parameters);
      for (size_t step = 0; step < test["gradients"].size(); ++step) {
        for (size_t i = 0; i < parameters.size(); ++i)
          parameters[i].grad() = golden_tensor(test["gradients"][step][i]).to(dtype);
        optimizer->step();
        for (size_t i = 0; i < parameters.size(); ++i)
          CHECK(difference(parameters[i], golden_tensor(test["after"][step][i])) <
                (dtype == DType::f64 ? 1e-10 : 2e-5));
      }
    }
  }
  CHECK(cases == 11);
}

TEST_CASE("optim: golden clipping") {
  int cases = 0;
  for (const Json& test : golden("optim.json")) {
    if (test["kind"] != "clip_grad_norm_") continue;
    ++cases;
    Tensors parameters;
    for (const Json& gradient : test["gradients"]) {
      const Tensor value = golden_tensor(gradient);
      parameters.push_back(parameter(zeros_like(value)));
      parameters.back().grad() = value.clone();
    }
    const double norm = clip_grad_norm(parameters, test["max_norm"]);
    CHECK(std::abs(norm - golden_tensor(test["norm"]).item()) < 1e-12 * norm);
    for (size_t i = 0; i < parameters.size(); ++i)
      CHECK(difference(parameters[i].grad(), golden_tensor(test["after"][i])) < 1e-12);
  }
  CHECK(cases == 3);
}

TEST_CASE("clip: what is not finite, not contiguous or not there") {
  const Tensor a = parameter(zeros({2, 3})), b = parameter(zeros({4}));
  CHECK(grad_norm({a, b}) == 0);
  a.grad() = full({3, 2}, 3).t();
  CHECK(grad_norm({a, b}) == doctest::Approx(std::sqrt(54.0)));
  a.grad() = scalar(2).expand({2, 3});  // one element in memory
  clip_grad_norm({a, b}, 1);
  CHECK(grad_norm({a}) == doctest::Approx(1));
  a.grad() = full({2, 3}, 1e30);  // its square is beyond f32
  CHECK(clip_grad_norm({a, b}, 0.5) == doctest::Approx(std::sqrt(6.0) * 1e30));
  CHECK(grad_norm({a}) == doctest::Approx(0.5));
  b.grad() = full({4}, std::numeric_limits<double>::infinity());
  check_throws<ValueError>("clip_grad_norm: the norm of the gradients is inf", [&] {
    clip_grad_norm({a, b}, 1, true);
  });
  CHECK(grad_norm({a}) == doctest::Approx(0.5));
  CHECK(std::isinf(clip_grad_norm({a, b}, 1)));
  CHECK(std::isnan(values(b.grad())[0]));
  check_throws<ConfigError>("max_norm is -1", [&] { clip_grad_norm({a}, -1); });
  check_throws<ConfigError>("max_norm is nan", [&] { clip_grad_norm({a}, NAN); });
}

TEST_CASE("a gradient that does not fit its parameter is an error of every optimizer and of clipping") {
  struct Wrong {
    Tensor gradient;
    std::string got;
  };
  const Wrong shapes[] = {{ones({1}), "f32[1]"},
                          {ones({3, 1 << 20}), "f32[3,1048576]"},
                          {stack_passes({ones({1 << 20}), ones({1 << 20})}), "f32[1048576] x 2 passes"}};
  const Wrong types[] = {{ones({1 << 20}, {DType::bf16}), "bf16[1048576]"},
                         {ones({1 << 20}, {DType::i64}), "i64[1048576]"}};
  const Tensor good = parameter(ones({2})), w = parameter(zeros({1 << 20}));
  good.grad() = ones({2});
  const auto refused = [&]<class E>(const Wrong& wrong) {
    const std::string message = "parameter 1: expected a gradient f32[1048576], got " + wrong.got;
    SGD plain({good, w}), momentum({good, w}, {.momentum = 0.9});
    Adam adam({good, w});
    AdamW adamw({good, w});
    for (Optimizer* optimizer : std::initializer_list<Optimizer*>{&plain, &momentum, &adam, &adamw}) {
      w.grad() = wrong.gradient;
      check_throws<E>(message, [&] { optimizer->step(); });
      check_throws<E>(message, [&] { optimizer->step(ones({2}, {DType::f64})); });
    }
    GradientNorm norm;
    const Tensors both{good, w};
    check_throws<E>("grad_norm: " + message, [&] { grad_norm(both); });
    check_throws<E>("grad_norm: " + message, [&] { clip_grad_norm(both, 1); });
    check_throws<E>("grad_norm: " + message, [&] { norm.norm_tensor(both); });
    check_throws<E>("grad_norm: " + message, [&] { norm.norm_tensor(both, 1); });
    CHECK(values(good) == std::vector<double>{1, 1});  // nothing was changed
    CHECK(values(good.grad()) == std::vector<double>{1, 1});
  };
  for (const Wrong& wrong : shapes) refused.operator()<ShapeError>(wrong);
  for (const Wrong& wrong : types) refused.operator()<DTypeError>(wrong);
}

TEST_CASE("a norm that holds nothing is an error of step()") {
  const Tensor w = parameter(ones({2}));
  w.grad() = ones({2});
  check_throws<ShapeError>("AdamW: expected a norm of the gradients, got f64[0]",
                           [&] { AdamW({w}).step(zeros({0}, {DType::f64})); });
}

TEST_CASE("a parameter that lost its layout is an error of step()") {
  const Tensor w = parameter(ones({2, 3}));
  Adam optimizer({w});
  w.set_data(ones({3, 2}).t());
  w.grad() = ones({2, 3});
  check_throws<AutogradError>("Adam: parameter 0, f32[2,3], is not contiguous any more",
                              [&] { optimizer.step(); });
}

// Many parameters of sizes around the sweep's chunks, with gradients.
Tensors many() {
  Tensors parameters;
  uint64_t seed = 0;
  for (const int64_t size : {1, 5, 16384, 40000, 0, 3, 16383, 100000}) {
    parameters.push_back(parameter(normal({size}, ++seed)));
    parameters.back().grad() = normal({size}, ++seed);
  }
  return parameters;
}

TEST_CASE("optim: one sweep gives the bits of one parameter at a time, for any number of threads") {
  const int threads = num_threads();
  std::vector<std::vector<float>> expected;
  std::vector<double> norms;
  for (const int n : {1, 2, 3, 0}) {
    set_num_threads(std::max(n, 1));
    const Tensors parameters = many();
    norms.push_back(clip_grad_norm(parameters, 100));
    if (n == 0) {
      for (const Tensor& one : parameters) {
        AdamW optimizer{{one}, {.lr = 0.1}};
        optimizer.step();
        optimizer.step();
      }
    } else {
      AdamW optimizer{parameters, {.lr = 0.1}};
      optimizer.step();
      optimizer.step();
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (n == 1)
        expected.push_back(parameters[i].to_vector<float>());
      else
        CHECK(parameters[i].to_vector<float>() == expected[i]);
    }
  }
  CHECK(norms == std::vector<double>(4, norms[0]));
  set_num_threads(threads);
}

TEST_CASE("optim: groups have their own decay and learning rate") {
  const Tensor a = parameter(ones({3})), b = parameter(ones({3})), c = parameter(ones({3}));
  SGD optimizer{{{{a}, {.weight_decay = 0.5}}, {{b}, {.weight_decay = 0}}, {{c}, {.lr = 0.01}}},
                {.lr = 0.1, .weight_decay = 0.1}};
  for (const Tensor& x : {a, b, c}) x.grad() = zeros({3});
  optimizer.step();
  CHECK(a.to_vector<float>()[0] == doctest::Approx(1 - 0.1 * 0.5));
  CHECK(b.to_vector<float>()[0] == 1);
  CHECK(c.to_vector<float>()[0] == doctest::Approx(1 - 0.01 * 0.1));
  optimizer.set_lr(1);  // a tenth of it is c's
  c.grad() = ones({3});
  const float before = c.to_vector<float>()[0];
  optimizer.step();
  CHECK(c.to_vector<float>()[0] == doctest::Approx(before - 0.1 * (1 + 0.1 * before)));
  CHECK(optimizer.parameters().size() == 3);
}

TEST_CASE("optim: a parameter without a gradient is left alone, its state too") {
  const Tensor a = parameter(ones({3})), b = parameter(ones({3}));
  AdamW optimizer{{a, b}};
  a.grad() = ones({3});
  const int64_t version = a.version();
  optimizer.step();
  CHECK(values(a)[0] < 1);
  CHECK(a.version() > version);
  CHECK(values(b) == std::vector<double>(3, 1));
  CHECK(find(optimizer.state_dict(), "0.steps")->item() == 1);
  CHECK(find(optimizer.state_dict(), "1.steps")->item() == 0);
  CHECK(find(optimizer.state_dict(), "1.exp_avg") == nullptr);
  optimizer.zero_grad();
  CHECK_FALSE(a.grad().defined());
}

TEST_CASE("optim: a first step that is not finite leaves a state that can be loaded") {
  const Tensor a = parameter(ones({3}));
  AdamW optimizer{{a}}, other{{a}};
  a.grad() = full({3}, INFINITY);
  optimizer.step(full({1}, INFINITY, {DType::f64}));
  optimizer.take_back();
  CHECK(optimizer.updates() == 0);
  other.load_state_dict(clone(optimizer.state_dict()));
  CHECK(find(other.state_dict(), "0.steps")->item() == 0);
}

TEST_CASE("optim: resumed equals uninterrupted, bit for bit") {
  const auto run = [](bool interrupted) {
    Tensors parameters{parameter(normal({40}, 1)), parameter(normal({3, 4}, 2))};
    auto optimizer = std::make_unique<AdamW>(parameters, AdamWOptions{.lr = 0.1});
    for (int step = 0; step < 6; ++step) {
      if (step == 3 && interrupted) {
        const StateDict state = clone(optimizer->state_dict());
        for (Tensor& one : parameters) one = parameter(one.detach());
        optimizer = std::make_unique<AdamW>(parameters, AdamWOptions{});
        optimizer->load_state_dict(state);
      }
      if (step == 2) optimizer->set_lr(0.037);
      parameters[0].grad() = normal({40}, 10 + step);
      if (step != 1) parameters[1].grad() = normal({3, 4}, 20 + step);
      optimizer->step();
      optimizer->zero_grad();
    }
    auto values = parameters[0].to_vector<float>();
    for (const float v : parameters[1].to_vector<float>()) values.push_back(v);
    return values;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("optim: a state that does not fit is refused whole") {
  const Tensor a = parameter(ones({3}));
  AdamW optimizer{Tensors{a}, {.lr = 0.5}};
  a.grad() = ones({3});
  optimizer.step();
  const StateDict good = clone(optimizer.state_dict());
  const auto refused = [&]<class E>(const char* text, StateDict state) {
    state[0].tensor = full({}, 0.25, {DType::f64});
    const std::string message = message_of<E>([&] { optimizer.load_state_dict(state); });
    CHECK_MESSAGE(contains(message, text), message);
    CHECK(optimizer.lr() == 0.5);
  };
  StateDict state = good;
  state.pop_back();
  refused.operator()<ConfigError>("\"0.exp_avg_sq\" is missing", state);
  state = good;
  state.push_back({"1.steps", zeros({}, {DType::i64})});
  refused.operator()<ConfigError>("\"1.steps\" is unexpected", state);
  state = good;
  state.back().tensor = ones({4});
  refused.operator()<ShapeError>("\"0.exp_avg_sq\": expected f32[3], got f32[4]", state);
  state.back().tensor = ones({3}, {DType::f64});
  refused.operator()<DTypeError>("\"0.exp_avg_sq\": expected f32[3], got f64[3]", state);
  state = good;
  state.push_back(state.back());
  refused.operator()<ConfigError>("\"0.exp_avg_sq\" is given twice", state);
  optimizer.load_state_dict(good);
}

TEST_CASE("optim: options out of range and parameters that cannot be learned") {
  const Tensor a = parameter(ones({2, 3}));
  check_throws<ConfigError>("SGD: lr is -1", [&] { SGD({a}, {.lr = -1}); });
  check_throws<ConfigError>("SGD: lr is nan", [&] { SGD({a}, {.lr = NAN}); });
  check_throws<ConfigError>("SGD: momentum is 1", [&] { SGD({a}, {.momentum = 1}); });
  check_throws<ConfigError>("SGD: nesterov needs", [&] { SGD({a}, {.nesterov = true}); });
  check_throws<ConfigError>("AdamW: beta2 is 1", [&] { AdamW({a}, {.betas = {0.9, 1.0}}); });
  check_throws<ConfigError>("Adam: eps is -1e-08", [&] { Adam({a}, {.eps = -1e-8}); });
  check_throws<ConfigError>("weight_decay is -1", [&] { Adam({a}, {.weight_decay = -1}); });
  check_throws<ConfigError>("Adam: lr is inf", [&] { Adam({a}).set_lr(INFINITY); });
  check_throws<ConfigError>("parameter 1, f32[2,3], is listed twice", [&] { Adam({a, a}); });
  check_throws<AutogradError>("Adam: none of the 1 parameters requires a gradient",
                              [&] { Adam({ones({2})}); });
  check_throws<AutogradError>("is not a contiguous leaf", [&] { Adam({mul(a, a)}); });
}

}  // namespace
}  // namespace tandem::nn
