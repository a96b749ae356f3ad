// The R-Drop losses on the device: values, parts, gradients and errors of the CPU, for units that fit into
// shared memory and for longer ones.
#include "autograd/engine.h"
#include "autograd/step_scalars.h"
#include "autograd/tensor_impl.h"
#include "loss_cases.h"
#include "simulator.h"

using namespace tandem;
using namespace tandem::testing;

TEST_CASE("device losses: any number of passes, few classes and many, all dtypes") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int m : {1, 2, 3, 4, 5, 16}) {
      for (const int64_t classes : {1, 3, 64, 101, 700}) {
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        check_case(random_case(m, 5, classes, dtype));
      }
    }
  }
}

TEST_CASE("device losses: smoothing, ignored and masked units, divisor, a cotangent of its own") {
  LossCase c = random_case(3, 9, 40, DType::f32,
                           {.alpha = 0.7, .label_smoothing = 0.1, .ignore_index = -1, .divisor = 11});
  c.target.select(0, 2).fill_(-1);
  c.mask = from_values(std::vector<uint8_t>{1, 1, 1, 0, 1, 1, 1, 1, 0}, {9});
  check_case(c);
  check_case(c, 0, scalar(-1.7));
  c.options.divisor = 0;  // counted on the device
  check_case(c);
  c.mask = c.mask.to(DType::boolean);
  c.target = c.target.to(DType::i32);
  check_case(c);
  c.mask = zeros({9}, {DType::boolean});
  check_case(c);
}

TEST_CASE("device losses: units that do not fit into shared memory, vectors or not") {
  for (const int64_t classes : {40000, 35001}) {
    for (const int m : {2, 3, 6}) {
      INFO(m, " passes, ", classes, " classes");
      check_case(random_case(m, 2, classes, DType::f32, {.alpha = 2, .label_smoothing = 0.1}), 1e-4);
    }
  }
  check_case(random_case(2, 2, 70000, DType::bf16), 1e-4);
  check_case(random_case(1, 2, 60001, DType::f32), 1e-4);
}

TEST_CASE("device losses: units that leave no room for another block") {
  for (const int64_t classes : {30000, 32768, 29001})
    check_case(random_case(2, 3, classes, DType::bf16, {.alpha = 2, .label_smoothing = 0.1}), 1e-4);
}

TEST_CASE("device losses: a KL near 0 is not lost to cancellation") {
  for (const int m : {2, 3, 5}) {
    LossCase c = random_case(1, 4, 3000, DType::f32);
    Tensors passes;
    for (int i = 0; i < m; ++i) passes.push_back(c.logits + normal({4, 3000}, 50 + i) * 1e-3);
    c.logits = stack_passes(passes).detach();
    Tensor host, there;
    const LossParts expected = run(c, kCpu, host), got = run(c, device(), there);
    CHECK(expected.kl > 0);
    CHECK(got.kl == doctest::Approx(expected.kl).epsilon(1e-3));
  }
}

TEST_CASE("device losses: the first of equal logits is the prediction") {
  LossCase c{zeros({4, 600}), from_values(std::vector<int64_t>{0, 1, 599, 300}, {4}), {}, {}};
  c.logits[2].select(0, 599).fill_(1);
  c.logits[3].select(0, 299).fill_(1), c.logits[3].select(0, 300).fill_(1);
  Tensor grad;
  CHECK(run(c, device(), grad).correct == 2);  // units 0 and 2
}

TEST_CASE("device losses: classes at -inf in all passes take no part") {
  for (const int m : {1, 2, 5}) {
    for (const int64_t classes : {30, 70, 40000}) {
      INFO(m, " passes, ", classes, " classes");
      LossCase c = random_case(m, 3, classes, DType::f32, {.alpha = 1, .label_smoothing = 0.2});
      const int64_t first = classes / 2, last = classes - 1;
      const Tensor all = make_view(c.logits, {m, 3, classes}, {3 * classes, classes, 1}, 0, 1, 0);
      all.slice(2, first, last).slice(1, 0, 2).fill_(-kInf);
      c.target = from_values(std::vector<int64_t>{0, last, first}, {3});
      check_case(c, 1e-4);
    }
  }
}

TEST_CASE("device losses: every error of the CPU, with its message") {
  const auto with = [](int m, int64_t classes, const std::function<void(LossCase&, const Tensor&)>& spoil) {
    LossCase c = random_case(m, 6, classes, DType::f32);
    spoil(c, make_view(c.logits, {m, 6, classes}, {6 * classes, classes, 1}, 0, 1, 0));
    return c;
  };
  for (const int64_t classes : {20, 33000}) {
    for (const int m : {1, 2, 5}) {
      INFO(m, " passes, ", classes, " classes");
      check_error(
          with(m, classes, [&](LossCase& c, const Tensor&) { c.target.select(0, 4).fill_(double(classes)); }),
          "at unit 4, expected a class in [0, ");
      check_error(with(m, classes, [](LossCase& c, const Tensor&) { c.target.select(0, 1).fill_(-7); }),
                  "target is -7 at unit 1");
      const auto one = [&](double value, int64_t unit, int64_t at) {
        return with(m, classes,
                    [=](LossCase&, const Tensor& x) { x[m - 1][unit].select(0, at).fill_(value); });
      };
      check_error(one(std::nan(""), 3, classes - 1), "logit is nan at unit 3");
      check_error(one(kInf, 5, 7), "logit is inf at unit 5, class 7");
      check_error(with(m, classes, [m](LossCase&, const Tensor& x) { x[m - 1][2].fill_(-kInf); }),
                  "all logits are -inf at unit 2");
      check_error(with(m, classes,
                       [m](LossCase& c, const Tensor& x) {
                         c.target.select(0, 1).fill_(9);
                         x[m - 1][1].select(0, 9).fill_(-kInf);
                       }),
                  "the target's logit is -inf at unit 1, class 9");
      if (m > 1)
        check_error(with(m, classes,
                         [m](LossCase& c, const Tensor& x) {
                           c.target.fill_(0);
                           x[m - 1][3].select(0, 5).fill_(-kInf);
                           x[0][4].select(0, 2).fill_(-kInf);
                         }),
                    "but not in all passes");
    }
  }
  // A wrong label comes first, then the first unit.
  check_error(with(2, 20,
                   [](LossCase& c, const Tensor& x) {
                     x[0][0].select(0, 3).fill_(kInf);
                     c.target.select(0, 5).fill_(20);
                   }),
              "target is 20 at unit 5");
}

TEST_CASE("device losses: in place of their logits, linear_rdrop sums over chunks of units") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const bool biased : {true, false}) {
      INFO(std::string(name_of(dtype)), biased ? " with bias" : "");
      const DType parameters = dtype == DType::bf16 ? DType::f32 : dtype;
      const Tensors inputs{normal({23, 8}, 1, dtype, 2), normal({30, 8}, 2, parameters),
                           biased ? normal({30}, 3, parameters) : Tensor()};
      const Tensor target = SampleMaker(4, DType::f64, kCpu).integers({23}, 0, 30);
      target.select(0, 7).fill_(-100);
      agree(
          inputs,
          [&](const Tensors& in) {
            return linear_rdrop_cross_entropy(in[0], in[1], in[2], target.to(in[0].device()),
                                              {.alpha = 3, .label_smoothing = 0.1})
                .loss;
          },
          aligned(dtype == DType::bf16 ? 3e-2 : 5e-5));
    }
  }
  // What is wrong with a logit is told although the gradient takes its place.
  for (const int64_t classes : {4, 300, 5000}) {
    for (const double value : {0.0, std::nan(""), kInf, -kInf}) {
      INFO(classes, " classes, ", value);
      const auto wrong = [&](Device where) {
        return message_of<ValueError>([&] {
          const Tensor bias = zeros({classes});
          bias.select(0, 1).fill_(value);
          linear_rdrop_cross_entropy(
              ones({2, 3}).to(where).requires_grad_(), zeros({classes, 3}).to(where), bias.to(where),
              from_values(std::vector<int64_t>{1, value == 0 ? classes : 2}, {2}).to(where));
        });
      };
      CHECK(wrong(kCpu) != kNothingThrown);
      CHECK(wrong(device()) == wrong(kCpu));
    }
  }
}

TEST_CASE("device losses: many chunks of linear_rdrop equal one") {
  // 64 MiB of logits are a chunk (Backend::part_bytes) of a device of 8 GiB: wide units, of which few fit.
  const int64_t classes = 40000, units = 460;
  const Tensor hidden = normal({units, 1}, 1).to(device()), weight = normal({classes, 1}, 2).to(device());
  const Tensor target = SampleMaker(4, DType::f64, kCpu).integers({units}, 0, classes).to(device());
  const LossParts chunks = linear_rdrop_cross_entropy(hidden, weight, {}, target);
  const LossParts whole = rdrop_cross_entropy(matmul(hidden, weight.t()), target);
  CHECK(chunks.loss.item() == doctest::Approx(whole.loss.item()).epsilon(1e-6));
  CHECK(chunks.valid == units);
  CHECK(chunks.correct == whole.correct);
}

TEST_CASE("device losses: chunks of linear_rdrop, their gradients in the place of bf16 logits") {
  const int64_t classes = 40000, units = 430;  // two chunks of a device of 8 GiB
  const Tensor target = SampleMaker(4, DType::f64, kCpu).integers({units}, 0, classes);
  agree(
      {normal({units, 2}, 1, DType::bf16, 2), normal({classes, 2}, 2), normal({classes}, 3)},
      [&](const Tensors& in) {
        return linear_rdrop_cross_entropy(in[0], in[1], in[2], target.to(in[0].device()), {.alpha = 2}).loss;
      },
      aligned(3e-2));
}

TEST_CASE("device losses: linear_rdrop multiplies all passes at once") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  constexpr int kPlain = 0, kBias = 4;  // epilogues of cuBLASLt; 0: cuBLAS
  for (const int m : {1, 2, 3}) {
    const Tensor hidden = normal({24, 16}, 1, DType::bf16, m).to(device()).requires_grad_();
    const Tensor weight = normal({32, 16}, 2).to(device()).requires_grad_(),
                 bias = normal({32}, 3).to(device()).requires_grad_();
    const Tensor target = zeros({24}, {DType::i64, device()});
    const int64_t plain = sim->products_run(kPlain), with_bias = sim->products_run(kBias);
    linear_rdrop_cross_entropy(hidden, weight, bias, target).loss.backward();
    backend(device()).synchronize();
    CHECK(sim->products_run(kBias) == with_bias + 1);
    CHECK(sim->products_run(kPlain) == plain + 2);  // gradients of hidden and weight
  }
}

TEST_CASE("device losses: regression, its passes, masks and errors") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int m : {1, 2, 5}) {
      INFO(m, " passes of ", std::string(name_of(dtype)));
      const Tensor mask = from_values(std::vector<uint8_t>(700, 1), {700});
      mask.slice(0, 3, 90).fill_(0);
      for (const bool masked : {false, true}) {
        agree(
            {normal({700}, 1, dtype, m), normal({700}, 2, dtype)},
            [&](const Tensors& in) {
              return rdrop_mse(in[0], in[1], {.alpha = 2}, masked ? mask.to(in[0].device()) : Tensor()).loss;
            },
            aligned(dtype == DType::bf16 ? 2e-2 : 2e-6));
      }
    }
  }
  const auto message = [](Device where, bool of_target) {
    return message_of<ValueError>([&] {
      Tensor y = zeros({600}), target = zeros({600});
      (of_target ? target : y).select(0, 300).fill_(kInf);
      y.select(0, 599).fill_(std::nan(""));
      rdrop_mse(y.to(where), target.to(where));
    });
  };
  CHECK(message(device(), true) == message(kCpu, true));
  CHECK(message(device(), false) == message(kCpu, false));
}

TEST_CASE("device losses: the other losses, their labels checked on the device") {
  const Tensor target = SampleMaker(4, DType::f64, kCpu).integers({7}, 0, 50);
  target.select(0, 2).fill_(-100);
  const Tensors x{normal({7, 50}, 3)};
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    agree(
        x,
        [&](const Tensors& in) {
          return cross_entropy(in[0], target.to(in[0].device()),
                               {.label_smoothing = 0.1, .reduction = reduction});
        },
        aligned(2e-5));
    agree(
        x,
        [&](const Tensors& in) {
          return nll_loss(log_softmax(in[0], -1), target.to(in[0].device()), reduction);
        },
        aligned(2e-5));
  }
  const auto wrong = [&](Device where, bool fused) {
    return message_of<ValueError>([&] {
      const Tensor labels = from_values(std::vector<int64_t>{0, 3}, {2}).to(where),
                   in = zeros({2, 3}).to(where);
      fused ? cross_entropy(in, labels) : nll_loss(in, labels);
    });
  };
  for (const bool fused : {true, false}) CHECK(wrong(device(), fused) == wrong(kCpu, fused));
}

TEST_CASE("device losses: the gradient itself goes on where the cotangent is the backward's own") {
  const Tensor one = scalar(1);
  CHECK(!holds_one(one));
  Tensor seen;
  const Tensor x = normal({4, 6}, 1, DType::f32, 2).to(device()).requires_grad_();
  const Tensor target = zeros({4}, {DType::i64, device()});
  const Tensor loss = rdrop_cross_entropy(x, target).loss;
  loss.register_hook([&](const Tensor& g) {
    seen = g;
    return Tensor();
  });
  loss.backward({}, {.retain_graph = true});
  CHECK(holds_one(seen));
  seen.mul_(2);
  CHECK(!holds_one(seen));
  const std::vector<float> once = x.grad().to_vector<float>();
  x.grad() = {};
  loss.backward(scalar(-3).to(device()));
  const std::vector<float> scaled = x.grad().to_vector<float>();
  for (size_t i = 0; i < once.size(); ++i) CHECK(scaled[i] == doctest::Approx(-3 * once[i]));
}

TEST_CASE("device losses: a recorded loss reads alpha and the divisor at each replay, and leaves its sums") {
  Backend& backend = tandem::backend(device());
  const LossCase c = random_case(2, 5, 40, DType::f32, {.alpha = 2, .divisor = 5});
  const Tensor x = c.logits.to(device()), target = c.target.to(device());
  const Tensor memory = zeros({int64_t{sizeof(StepScalars)}}, {DType::u8, device()});
  const auto set = [&](const StepScalars& values) {
    backend.copy_from_host(memory.device_raw(), &values, sizeof values);
  };
  const StepScalars first{.alpha = 2, .divisor = 5};
  set(first);
  Tensor gradient;
  LossParts parts;
  const auto body = [&] {
    const Tensor leaf = x.detach().requires_grad_();
    parts = rdrop_cross_entropy(leaf, target, c.options);
    gradient = grad(parts.loss, {leaf})[0];
  };
  body();
  backend.begin_recording();
  {
    const RecordedScalars scalars(static_cast<const StepScalars*>(memory.device_raw()), first);
    body();
  }
  const std::unique_ptr<Recording> recording = backend.end_recording();
  for (const auto& values : {std::pair{2.0, 5.0}, {0.5, 9.0}}) {
    const double alpha = values.first, divisor = values.second;  // clang 14 captures no structured binding
    INFO(alpha, " ", divisor);
    set({.alpha = alpha, .divisor = divisor});
    recording->replay();
    LossCase now = c;
    now.options.alpha = alpha, now.options.divisor = divisor;
    Tensor expected;
    const LossParts host = run(now, kCpu, expected);
    const LossSums sums = read_loss_sums(parts.device_sums);
    CHECK(sums.ce == doctest::Approx(host.ce).epsilon(1e-5));
    CHECK(sums.kl == doctest::Approx(host.kl).epsilon(1e-5));
    CHECK(sums.valid == host.valid);
    CHECK(sums.correct == host.correct);
    CHECK(parts.loss.item() == doctest::Approx(host.loss.item()).epsilon(1e-5));
    const Closeness close_enough = close(gradient.to(kCpu), expected, 3e-5);
    CHECK_MESSAGE(close_enough.close, close_enough.message);
  }
  // What is wrong with a replay's data is told by its sums.
  const Tensor bad = c.target.detach().clone();
  bad.select(0, 3).fill_(40);
  target.copy_(bad.to(device()));
  recording->replay();
  CHECK_THROWS_WITH_AS(read_loss_sums(parts.device_sums),
                       "rdrop_cross_entropy: target is 40 at unit 3, expected a class in [0, 40) or "
                       "ignore_index -100",
                       ValueError);
}
