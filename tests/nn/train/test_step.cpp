// Loops written by hand: nn::Step is the Trainer's step, and what is forgotten is an error.
#include "nn/train/step.h"

#include "tests/nn/train/toy.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

struct Normed : Module {  // dropout before a norm, whose statistics are then each pass's own
  Conv2d conv{*this, "conv", 1, 4, 3};
  Dropout drop{*this, "drop", 0.3};
  BatchNorm2d norm{*this, "norm", 4};
  Linear out{*this, "out", 4, 3};
  Tensor forward(const Tensor& x) { return out(relu(norm(drop(conv(x)))).mean({2, 3})); }
};

std::vector<double> all_of(const Module& module) {
  std::vector<double> all;
  for (const auto& [name, tensor] : module.state_dict()) testing::append(all, tensor);
  return all;
}

LossParts learn(Normed& model, const data::Batch& batch, double divisor = 0, double alpha = 0.7) {
  LossParts parts =
      rdrop_cross_entropy(model.forward(batch.inputs[0]), batch.target, {.alpha = alpha, .divisor = divisor});
  parts.loss.backward();
  return parts;
}

struct Loop {
  InitScope init{{.seed = 3}};
  Normed model;
  AdamW optimizer{model.parameters(), {.lr = 1e-2}};
  data::Batch batch = random_images(6, 7);
};

TEST_CASE("step: a loop by hand is the Trainer's, bit for bit, statistics included") {
  Loop by_hand, by_trainer;
  Trainer trainer(by_trainer.model, by_trainer.optimizer,
                  {.passes = 3, .alpha = 0.7, .rates = {0.1, 0.2, 0.4}, .seed = 5});
  for (int i = 0; i < 4; ++i) {
    const StepResult expected = trainer.step({by_trainer.batch});
    Step step(by_hand.model, by_hand.optimizer, {.passes = 3, .seed = 5, .rates = {0.1, 0.2, 0.4}});
    CHECK(step.number() == static_cast<uint64_t>(i));
    const LossParts parts = learn(by_hand.model, by_hand.batch);
    CHECK(parts.kl > 1e-4);
    CHECK(parts.kl == expected.kl);
    by_hand.optimizer.step();
    CHECK(all_of(by_hand.model) == all_of(by_trainer.model));
  }
}

TEST_CASE("step: gradients of what the optimizer does not update do not add up over steps") {
  const InitScope init({.seed = 3});
  Mlp model;
  SGD head{model.out.parameters(), {.lr = 0}};
  const data::Batch batch = testing::whole(Blobs(16), 0, 16);
  double first = 0;
  for (int i = 0; i < 4; ++i) {
    Step step(model, head, {.number = 0});
    rdrop_cross_entropy(model.forward(batch.inputs[0]), batch.target).loss.backward();
    const double norm = step.update(1.0);
    if (i == 0) first = norm;
    CHECK(norm == first);
  }
}

TEST_CASE("step: each has a number, whichever parameters were updated before") {
  const InitScope init({.seed = 3});
  Mlp model;
  AdamW optimizer{model.parameters()};
  const data::Batch batch = testing::whole(Blobs(6), 0, 6);
  for (uint64_t i = 0; i < 9; ++i) {
    const bool upper = i % 3 != 0;  // a part of the model in turn
    model.first.requires_grad_(!upper);
    model.second.requires_grad_(upper);
    model.out.requires_grad_(upper);
    Step step(model, optimizer);
    CHECK(step.number() == i);
    const Tensor before = (upper ? model.second : model.first).weight.detach().clone();
    rdrop_cross_entropy(model.forward(batch.inputs[0]), batch.target).loss.backward();
    i % 2 ? (void)step.update(1.0) : optimizer.step();
    CHECK_FALSE(same_bits((upper ? model.second : model.first).weight.detach(), before));
  }
  // A file of before has no number of its own: the most of any parameter.
  StateDict state = clone(optimizer.state_dict());
  CHECK(state[1].name == "updates");
  AdamW other{model.parameters()};
  other.load_state_dict(state);
  CHECK(other.updates() == 9);
  state.erase(state.begin() + 1);
  other.load_state_dict(state);
  CHECK(other.updates() == 6);
}

TEST_CASE("step: micro-batches add up to one batch") {
  const InitScope init({.seed = 3, .dtype = DType::f64});
  Mlp whole, cut;
  AdamW of_whole{whole.parameters(), {.lr = 1e-2}}, of_cut{cut.parameters(), {.lr = 1e-2}};
  const data::Batch batch = testing::whole(Blobs(6, DType::f64), 0, 6);
  const auto learn_from = [&](Mlp& model, int64_t begin, int64_t end) {
    rdrop_cross_entropy(model.forward(batch.inputs[0].slice(0, begin, end)),
                        batch.target.slice(0, begin, end), {.divisor = 6})
        .loss.backward();
  };
  for (int i = 0; i < 3; ++i) {
    {
      const Step step(whole, of_whole);
      learn_from(whole, 0, 6);
      of_whole.step();
    }
    Step step(cut, of_cut);
    for (const auto& [begin, end] : {std::pair{0, 4}, {4, 6}}) {
      step.micro_batch(end - begin);
      learn_from(cut, begin, end);
    }
    of_cut.step();
    CHECK(distance(flat_parameters(cut), flat_parameters(whole)) < 1e-12);
  }
}

TEST_CASE("step: a schedule is the Trainer's, bit for bit, and leaves the optimizer's rate as it is") {
  const auto schedule = Schedule::cosine(2, 6, 0.1);
  Loop by_hand, by_trainer, resumed;
  Trainer trainer(by_trainer.model, by_trainer.optimizer, {.schedule = schedule});
  const auto learn_with = [&](Loop& loop) {
    const Step step(loop.model, loop.optimizer, {.schedule = schedule});
    CHECK(step.lr() == 1e-2 * schedule(static_cast<int64_t>(step.number()) + 1));
    learn(loop.model, loop.batch, 0, 1);
    loop.optimizer.step();
  };
  for (int i = 0; i < 5; ++i) {
    if (i == 3) {
      resumed.model.load_state_dict(by_hand.model.state_dict());
      resumed.optimizer.load_state_dict(by_hand.optimizer.state_dict());
    }
    learn_with(by_hand);
    CHECK(by_hand.optimizer.lr() == 1e-2);
    trainer.step({by_trainer.batch});
    CHECK(all_of(by_hand.model) == all_of(by_trainer.model));
  }
  for (int i = 3; i < 5; ++i) learn_with(resumed);
  CHECK(all_of(resumed.model) == all_of(by_hand.model));
}

TEST_CASE("step: the rate of an update is the schedule's, for one step") {
  Module model;
  const Parameter weight = model.register_parameter("weight", zeros({1}));
  SGD optimizer{model.parameters(), {.lr = 0.5}};
  std::vector<double> seen;
  for (int i = 0; i < 4; ++i) {
    const Step step(model, optimizer, {.passes = 1, .schedule = Schedule::step(1, 0.5)});
    if (i == 3) optimizer.set_lr(8);  // as ReduceLROnPlateau
    weight.sum().backward();
    optimizer.step();
    testing::append(seen, weight);
  }
  weight.sum().backward();
  optimizer.step();  // without a step there is no schedule; the gradient is 2
  testing::append(seen, weight);
  CHECK(seen == std::vector<double>{-0.5, -0.75, -0.875, -1.875, -17.875});
}

TEST_CASE("step: each has noise of its own, also after a resume") {
  const auto kl_of = [](Loop& loop) {
    const Step step(loop.model, loop.optimizer, {.passes = 2});
    const double kl = learn(loop.model, loop.batch).kl;
    loop.optimizer.set_lr(0);  // so that nothing but the noise changes
    loop.optimizer.step();
    return kl;
  };
  Loop loop;
  loop.optimizer.set_lr(0);
  const double first = kl_of(loop), second = kl_of(loop);
  CHECK(first != second);
  Loop resumed;
  resumed.optimizer.load_state_dict(loop.optimizer.state_dict());
  CHECK(resumed.optimizer.updates() == 2);
  CHECK(kl_of(resumed) == kl_of(loop));
}

TEST_CASE("step: what a loop may forget is an error") {
  Loop loop;
  loop.model.eval();
  const auto before = all_of(loop.model);
  {
    const Step step(loop.model, loop.optimizer);
    CHECK(loop.model.is_training());
    check_throws<AutogradError>("Step: another step of this optimizer is open",
                                [&] { const Step second(loop.model, loop.optimizer); });
    CHECK(learn(loop.model, loop.batch).kl > 0);  // two passes unless said
  }
  check_throws<AutogradError>("Step: the step before ended without optimizer.step() or step.update()",
                              [&] { const Step second(loop.model, loop.optimizer); });
  CHECK(all_of(loop.model) == before);
  {
    Step step(loop.model, loop.optimizer);
    check_throws<AutogradError>("step 0: no parameter has a gradient; was backward() called in this step?",
                                [&] { loop.optimizer.step(); });
    check_throws<AutogradError>("step 0: no parameter has a gradient", [&] { step.update(); });
    check_throws<ConfigError>("micro_batch: expected a number of samples above 0, got 0",
                              [&] { step.micro_batch(0); });
  }
  Step(loop.model, loop.optimizer).skip();  // none of these is an error afterwards
  CHECK_THROWS_AS(([&] {
                    const Step step(loop.model, loop.optimizer);
                    raise<ValueError>("the data ends");
                  }()),
                  ValueError);
  CHECK_NOTHROW(Step(loop.model, loop.optimizer).skip());
  check_throws<AutogradError>(
      "dropout: noise outside of a PassContext: in a loop, begin each step with nn::Step",
      [&] { loop.model.forward(loop.batch.inputs[0]); });
}

TEST_CASE("step: one that updates nothing leaves no statistics behind") {
  Loop loop;
  const auto before = all_of(loop.model);
  {
    Step step(loop.model, loop.optimizer);
    loop.model.forward(loop.batch.inputs[0]);
    step.skip();
  }
  const EvalMode eval(loop.model);
  CHECK_NOTHROW(loop.model.forward(loop.batch.inputs[0]));
  CHECK(all_of(loop.model) == before);
}

TEST_CASE("step: frozen batch norm stays frozen in steps, evaluation and the Trainer") {
  Loop loop;
  Classification<Normed> objective(loop.model);
  const data::TensorDataset images(loop.batch.inputs, loop.batch.target);
  loop.model.norm.eval();
  loop.model.norm.requires_grad_(false);
  const auto norm = all_of(loop.model.norm);
  const auto check_frozen = [&] {
    CHECK(loop.model.is_training());
    CHECK(loop.model.drop.is_training());
    CHECK(!loop.model.norm.is_training());
    CHECK(all_of(loop.model.norm) == norm);
  };
  evaluate(objective, images);
  check_frozen();
  {
    const EvalMode eval(loop.model);
    CHECK(!loop.model.drop.is_training());
  }
  check_frozen();
  Trainer trainer(loop.model, loop.optimizer, {.epochs = 2, .batch_size = 3, .progress = false});
  const auto before = all_of(loop.model);
  trainer.step({loop.batch});
  check_frozen();
  trainer.fit(images, images);
  check_frozen();
  CHECK(all_of(loop.model) != before);
  loop.model.eval();  // as a whole: then all of it trains again
  trainer.step({loop.batch});
  CHECK(loop.model.norm.is_training());
}

TEST_CASE("step: update clips, and changes nothing where the norm is not finite") {
  Loop loop;
  const auto before = all_of(loop.model);
  {
    Step step(loop.model, loop.optimizer);
    learn(loop.model, loop.batch);
    const Tensor weight = loop.model.parameters()[0];
    weight.grad() = full(weight.shape(), INFINITY);
    check_throws<ValueError>("step 0: the norm of the gradients is inf; nothing was changed",
                             [&] { step.update(1); });
    step.skip();
  }
  CHECK(all_of(loop.model) == before);
  CHECK(loop.optimizer.updates() == 0);
  Step step(loop.model, loop.optimizer);
  learn(loop.model, loop.batch);
  const double norm = grad_norm(loop.model.parameters());
  CHECK(step.update(norm / 2) == doctest::Approx(norm));
  CHECK(grad_norm(loop.model.parameters()) == doctest::Approx(norm).epsilon(1e-4));  // .grad stays
  CHECK(all_of(loop.model) != before);

  Loop by_hand;
  Step other(by_hand.model, by_hand.optimizer);
  learn(by_hand.model, by_hand.batch);
  clip_grad_norm(by_hand.model.parameters(), norm / 2);
  by_hand.optimizer.step();
  CHECK(all_of(by_hand.model) == all_of(loop.model));
}

}  // namespace
}  // namespace tandem::nn
