// A step that has no memory: which plans and micro-batches would fit is told, as tried.
#include <new>

#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/optim/adam.h"
#include "nn/train/trainer.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

// A model that has room for so many samples and passes on the tape at once.
struct Crowded final : Objective {
  Crowded(Mlp& model, int64_t room) : model(model), room(room) {}
  Module& module() override { return model; }
  Tensor forward(const data::Batch& batch) override {
    if (grad_enabled()) {
      const int64_t wanted = batch.size * PassContext::require("crowded").options().count;
      if (wanted > room && on_the_host) throw std::bad_alloc();
      check<OutOfMemoryError>(wanted <= room, "crowded: out of memory: asked for {} of {}", wanted, room);
    }
    return forward_of(model, batch);
  }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
  }
  Mlp& model;
  int64_t room;
  bool on_the_host = false;
};

struct Run {
  explicit Run(int64_t room, TrainerOptions options = {})
      : objective(model, room), trainer(objective, optimizer, of(std::move(options))) {}
  static TrainerOptions of(TrainerOptions options) {
    options.passes = 4, options.batch_size = 16, options.epochs = 1, options.progress = false;
    return options;
  }
  std::string message() {
    return message_of<OutOfMemoryError>([&] { trainer.fit(train, valid); });
  }

  Blobs train{32}, valid{16};
  Mlp model;
  AdamW optimizer{model.parameters()};
  Crowded objective;
  Trainer trainer;
};

TEST_CASE("out of memory: the error names what fits, which then does, and nothing has changed") {
  Run run(20);
  const auto before = flat_parameters(run.model);
  const std::string message = run.message();
  for (const char* part :
       {"step 1: crowded: out of memory: asked for 64 of 20; its plan: stacked, accumulate: 1; what fits: ",
        "plan stacked, accumulate 4 (", "plan sequential, accumulate 1 (", "plan replay, accumulate 1 (",
        " MB)"})
    CHECK_MESSAGE(contains(message, part), message, "; expected: ", part);
  CHECK(flat_parameters(run.model) == before);
  CHECK(run.optimizer.updates() == 0);
  for (const Tensor& parameter : run.model.parameters()) CHECK_FALSE(parameter.grad().defined());
  for (const Plan plan : {Plan::stacked, Plan::sequential, Plan::replay})
    CHECK(Run(20, {.plan = plan, .accumulate = plan == Plan::stacked ? 4 : 1}).message() == kNothingThrown);
}

TEST_CASE("out of memory: of the host, at a later step, and where nothing fits") {
  Run host(64);
  host.objective.on_the_host = true;
  host.trainer.on_step = [&](const Metrics&) { host.objective.room = 8; };
  const std::string message = host.message();
  CHECK_MESSAGE(contains(message,
                         "step 2: out of memory on the host; its plan: stacked, accumulate: 1; what fits: "
                         "plan stacked, accumulate 8 ("),
                message);
  CHECK(host.optimizer.updates() == 1);
  CHECK(contains(Run(0).message(), "nothing fits"));
}

}  // namespace
}  // namespace tandem::nn
