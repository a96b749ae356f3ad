// Optimizers, norms and clipping on the device against the CPU; recorded steps against steps one by one.
#include "autograd/grad_mode.h"
#include "autograd/step_scalars.h"
#include "nn/optim/adam.h"
#include "nn/optim/clip.h"
#include "nn/optim/sgd.h"
#include "tests/cuda/compare.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

using MakeOptimizer = std::function<std::unique_ptr<nn::Optimizer>(const std::vector<nn::ParameterGroup>&)>;

// Sizes around vectors and chunks; one that is a view at an odd offset, one empty, some of f64.
Tensors parameters_on(Device where) {
  Tensors all;
  for (const int64_t n : {1, 3, 4, 500, 8192, 8193, 20001}) all.push_back(normal({n}, n).to(where));
  all.push_back(normal({1002}, 5).to(where).slice(0, 1, 1001));
  all.push_back(empty({0}, {DType::f32, where}));
  all.push_back(normal({77}, 6, DType::f64).to(where));
  all.push_back(normal({2603}, 7, DType::f64).to(where));
  all.push_back(normal({2607}, 8, DType::f64).to(where).slice(0, 1, 2606));
  for (Tensor& x : all) x = x.detach().requires_grad_();
  return all;
}

// For the i-th parameter; some at odd offsets.
Tensor gradient_of(const Tensor& p, size_t i, int step) {
  const int64_t n = p.numel(), odd = i >= 7 ? 1 : 0;
  return normal({n + odd}, 100 * step + i, p.dtype()).to(p.device()).slice(0, odd, n + odd);
}

void set_gradients(const Tensors& parameters, int step) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& p = parameters[i];
    p.grad() = step % 2 == 1 && i == 3 ? Tensor() : gradient_of(p, i, step);
  }
}

std::vector<nn::ParameterGroup> groups(const Tensors& all) {
  return {{Tensors(all.begin(), all.begin() + 4), {.lr = 3e-3, .weight_decay = 0.3}},
          {Tensors(all.begin() + 4, all.end()), {}}};
}

void check_same(const Tensors& there, const Tensors& host, double tolerance) {
  for (size_t i = 0; i < host.size(); ++i) {
    INFO("tensor ", i);
    const Closeness c = close(there[i].detach().to(kCpu), host[i].detach(), tolerance);
    CHECK_MESSAGE(c.close, c.message);
  }
}

const std::vector<MakeOptimizer> kOptimizers = {
    [](const auto& g) { return std::make_unique<nn::AdamW>(g, nn::AdamWOptions{.lr = 1e-2}); },
    [](const auto& g) {
      return std::make_unique<nn::Adam>(g, nn::AdamOptions{.lr = 1e-2, .weight_decay = 0.1});
    },
    [](const auto& g) {
      return std::make_unique<nn::SGD>(g, nn::SGDOptions{.lr = 0.1, .weight_decay = 0.01});
    },
    [](const auto& g) { return std::make_unique<nn::SGD>(g, nn::SGDOptions{.lr = 0.1, .momentum = 0.9}); },
    [](const auto& g) {
      return std::make_unique<nn::SGD>(g, nn::SGDOptions{.lr = 0.1, .momentum = 0.9, .nesterov = true});
    }};

}  // namespace

TEST_CASE("device optimizers: some steps end where the CPU's end, state included") {
  for (size_t k = 0; k < kOptimizers.size(); ++k) {
    INFO("optimizer ", k);
    const Tensors host = parameters_on(kCpu), there = parameters_on(device());
    const auto a = kOptimizers[k](groups(host)), b = kOptimizers[k](groups(there));
    for (int step = 0; step < 4; ++step) {
      set_gradients(host, step), set_gradients(there, step);
      a->step(), b->step();
      a->set_lr(a->lr() * 0.7), b->set_lr(b->lr() * 0.7);
    }
    check_same(there, host, 1e-6);
    const nn::StateDict expected = a->state_dict(), got = b->state_dict();
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      INFO(expected[i].name);
      CHECK(got[i].name == expected[i].name);
      CHECK(close(got[i].tensor.to(kCpu).to(DType::f64), expected[i].tensor.to(DType::f64), 1e-6).close);
    }
    // The CPU's state continues on the device.
    const Tensors again = parameters_on(device());
    for (size_t i = 0; i < again.size(); ++i) {
      const NoGradGuard no_grad;
      again[i].copy_(host[i].detach().to(device()));
    }
    const auto c = kOptimizers[k](groups(again));
    c->load_state_dict(expected);
    set_gradients(host, 9), set_gradients(again, 9);
    a->step(), c->step();
    check_same(again, host, 1e-6);
  }
}

TEST_CASE("device optimizers: a gradient norm that is not finite leaves parameters and state alone") {
  for (const MakeOptimizer& make : kOptimizers) {
    const Tensors there = parameters_on(device());
    const auto optimizer = make(groups(there));
    set_gradients(there, 0);
    optimizer->step(nn::GradientNorm().norm_tensor(there));
    Tensors before;
    for (const Tensor& x : there) before.push_back(x.detach().to(kCpu));
    CHECK(!same_bits(before[4], parameters_on(kCpu)[4]));
    set_gradients(there, 2);
    there[5].grad().select(0, 8192).fill_(std::nan(""));
    optimizer->step(nn::GradientNorm().norm_tensor(there));
    for (size_t i = 0; i < there.size(); ++i) CHECK(same_bits(there[i].detach().to(kCpu), before[i]));
  }
}

TEST_CASE("device norm: that of the CPU, in f64, and the same bits twice") {
  const Tensors host = parameters_on(kCpu), there = parameters_on(device());
  set_gradients(host, 0), set_gradients(there, 0);
  host[4].grad().mul_(1e18), there[4].grad().mul_(1e18);  // squares beyond f32
  CHECK(nn::grad_norm(there) == doctest::Approx(nn::grad_norm(host)).epsilon(1e-12));
  CHECK(nn::grad_norm(there) == nn::grad_norm(there));
  CHECK(nn::GradientNorm().norm_tensor(there).to_vector<double>() ==
        std::vector<double>{nn::grad_norm(there), 1});
  there[0].grad() = normal({1}, 3).to(device()).expand({1});
  CHECK(nn::grad_norm({}) == 0);
}

TEST_CASE("device norm: of more tensors than a block has threads, each of them counts") {
  Tensors host, there;
  for (int i = 0; i < 1100; ++i) {
    const DType dtype = i % 3 == 0 ? DType::f64 : DType::f32;
    host.push_back(zeros({1}, {dtype})), there.push_back(zeros({1}, {dtype, device()}));
    host[i].grad() = normal({1}, i, dtype), there[i].grad() = host[i].grad().to(device());
  }
  CHECK(nn::grad_norm(there) == doctest::Approx(nn::grad_norm(host)).epsilon(1e-12));
  // Of chunks that a block has one of.
  for (const int count : {1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513}) {
    const Tensors some(there.begin(), there.begin() + count), same(host.begin(), host.begin() + count);
    CHECK(nn::grad_norm(some) == doctest::Approx(nn::grad_norm(same)).epsilon(1e-12));
  }
}

TEST_CASE(
    "device clipping: gradients of the CPU's length, and untouched where the norm is small or not finite") {
  for (const double most : {0.5, 1e6}) {
    const Tensors host = parameters_on(kCpu), there = parameters_on(device());
    set_gradients(host, 0), set_gradients(there, 0);
    const Tensor wide = normal({1}, 3);
    host[3].grad() = wide.expand({500}), there[3].grad() = wide.to(device()).expand({500});
    const double expected = nn::clip_grad_norm(host, most);
    CHECK(nn::clip_grad_norm(there, most) == doctest::Approx(expected).epsilon(1e-12));
    for (size_t i = 0; i < host.size(); ++i)
      CHECK(close(there[i].grad().to(kCpu), host[i].grad(), 1e-6).close);
  }
  const Tensors there = parameters_on(device());
  set_gradients(there, 0);
  const std::vector<float> before = there[4].grad().to_vector<float>();
  there[0].grad().fill_(std::numeric_limits<double>::infinity());
  CHECK_THROWS_WITH_AS(nn::clip_grad_norm(there, 1, true),
                       "clip_grad_norm: the norm of the gradients is inf, expected a finite number",
                       ValueError);
  CHECK(there[4].grad().to_vector<float>() == before);
  CHECK(!std::isfinite(nn::GradientNorm().norm_tensor(there, 1).to_vector<double>()[0]));
  CHECK(there[4].grad().to_vector<float>() == before);
  nn::clip_grad_norm(there, 1);  // as PyTorch has it
  CHECK(there[4].grad().to_vector<float>()[0] == 0);
}

TEST_CASE("device optimizers: a recorded step, replayed, is a step; its rate and number are read anew") {
  Backend& backend = tandem::backend(device());
  const Tensors host = parameters_on(kCpu), there = parameters_on(device());
  nn::AdamW a(groups(host), {.lr = 1e-2}), b(groups(there), {.lr = 1e-2});
  const Tensor memory = zeros({int64_t{sizeof(StepScalars)}}, {DType::u8, device()});
  const auto scalars = [&](uint64_t step, double lr) {
    const StepScalars values{.step = step, .lr = lr};
    backend.copy_from_host(memory.device_raw(), &values, sizeof values);
    return values;
  };
  const auto host_step = [&](int step, double lr) {
    set_gradients(host, step);
    nn::clip_grad_norm(host, 3);
    a.set_lr(lr);
    a.step();
  };
  set_gradients(there, 0);
  {
    const RecordedScalars recorded(static_cast<const StepScalars*>(memory.device_raw()), {});
    CHECK_THROWS_AS(b.step(), AutogradError);  // there is no state yet
  }
  nn::clip_grad_norm(there, 3);
  b.step();
  host_step(0, 1e-2);
  // Steps are numbered from 7 here: what counts is how many there were since.
  set_gradients(there, 2);
  const StepScalars values = scalars(7, 5e-3);
  b.set_lr(5e-3);
  nn::GradientNorm norms;
  Tensor norm;
  backend.begin_recording();
  {
    const RecordedScalars recorded(static_cast<const StepScalars*>(memory.device_raw()), values);
    norm = norms.norm_tensor(there, 3);
    b.step(norm);
  }
  const std::unique_ptr<Recording> recording = backend.end_recording();
  for (int i = 0; i < 3; ++i) {
    const double lr = 5e-3 * (1 - 0.3 * i);
    scalars(7 + i, lr);
    for (size_t k = 0; k < there.size(); ++k) there[k].grad().copy_(gradient_of(there[k], k, 2 * (i + 1)));
    recording->replay();
    b.replayed();
    host_step(2 * (i + 1), lr);
    check_same(there, host, 1e-6);
    CHECK(norm.to_vector<double>()[0] > 3);
  }
  // A step that is not recorded goes on from there, and a replay without a finite norm changes nothing.
  set_gradients(there, 2 * 5);
  nn::clip_grad_norm(there, 3);
  b.set_lr(1e-3);
  b.step();
  host_step(2 * 5, 1e-3);
  check_same(there, host, 1e-6);
}
