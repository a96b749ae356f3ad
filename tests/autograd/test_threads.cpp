// Backwards of several threads: into the same leaves, and where their graphs meet. Also run under
// ThreadSanitizer (tools/check --threads).
#include <atomic>
#include <thread>

#include "autograd/engine.h"
#include "autograd/op.h"
#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

void on_threads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) threads.emplace_back(body, t);
  for (std::thread& thread : threads) thread.join();
}

// Waits in its vjp until `turn` says so, and tells that it is there.
struct Wait final : Op {
  std::atomic<int>*entered, *turn;
  Wait(std::atomic<int>* entered, std::atomic<int>* turn) : entered(entered), turn(turn) {}
  const char* name() const override { return "wait"; }
  Tensor forward(const Tensors& in) override { return in[0]; }
  Tensors vjp(const Tensor& g) override {
    ++*entered;
    while (*turn == 0) std::this_thread::yield();
    return {g};
  }
};

}  // namespace

TEST_CASE("no gradient of a leaf that threads share is lost") {
  const Tensor w = zeros({20'000}).requires_grad_(), late = zeros({3}).requires_grad_();
  (w * 0.0).sum().backward();  // the .grad of `late` is made by whoever comes first
  std::atomic<int> hooks = 0;
  w.register_hook([&hooks](const Tensor&) { return ++hooks, Tensor(); });
  on_threads(4, [&](int) {
    for (int i = 0; i < 250; ++i) ((w * 1.0).sum() + late.sum()).backward();
  });
  CHECK(values(w.grad()) == std::vector<double>(20'000, 1000));
  CHECK(values(late.grad()) == std::vector<double>(3, 1000));
  CHECK(hooks == 1000);
}

TEST_CASE("grad() of several threads on the same leaves touches none of them") {
  const Tensor w = full({500}, 2, {DType::f64, kCpu, true});
  std::atomic<int> wrong = 0;
  on_threads(4, [&](int t) {
    for (int i = 0; i < 100; ++i)
      for (double g : values(grad((w * w).sum() * (t + 1.0), {w})[0])) wrong += g != 4 * (t + 1);
  });
  CHECK(wrong == 0);
  CHECK(!w.grad().defined());
}

TEST_CASE("backwards that meet in an op are refused, the one that was first goes on") {
  const Tensor w = full({3}, 2, {DType::f64, kCpu, true});
  std::atomic<int> entered = 0, turn = 0;
  const Tensor shared = apply<Wait>({w * w}, &entered, &turn), a = shared.sum(), b = (shared * 3.0).sum();
  std::thread first([&] { a.backward({}, {.retain_graph = true}); });
  while (entered == 0) std::this_thread::yield();
  check_throws<AutogradError>("wait: the backward of another thread runs through the same op; graphs may",
                              [&] { b.backward({}, {.retain_graph = true}); });
  turn = 1;
  first.join();
  CHECK(values(w.grad()) == std::vector<double>(3, 4));
  b.backward();  // one after the other is fine
  CHECK(values(w.grad()) == std::vector<double>(3, 16));
}

TEST_CASE("however backwards meet, each is whole or an error") {
  const Tensor w = ones({64}, {DType::f64, kCpu, true});
  for (int round = 0; round < 50; ++round) {
    w.grad() = Tensor();
    const Tensor shared = exp(tanh(w * w));
    std::atomic<int> done = 0, refused = 0;
    on_threads(3, [&](int) {
      const Tensor own = (shared * shared).sum();
      try {
        own.backward({}, {.retain_graph = true});
        ++done;
      } catch (const AutogradError&) {
        ++refused;
      }
    });
    CHECK(done + refused == 3);
    if (done == 0) continue;
    const double each = 2 * std::exp(2 * std::tanh(1.0)) * (1 - std::pow(std::tanh(1.0), 2)) * 2;
    CHECK(w.grad().to_vector<double>()[0] == doctest::Approx(done * each));
  }
}
