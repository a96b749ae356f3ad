// Long trainings take no more memory than short ones.
#include <malloc.h>
#include <unistd.h>

#include <cstdio>

#include "tests/device.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

// Of this process, in KiB.
long resident() {
  malloc_trim(0);
  long total = 0, pages = 0;
  FILE* file = std::fopen("/proc/self/statm", "r");
  REQUIRE(file != nullptr);
  REQUIRE(std::fscanf(file, "%ld %ld", &total, &pages) == 2);
  std::fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

void check_flat(const TrainerOptions& options, Device device, int steps, long most = 512) {
  Mlp model;
  model.to(device);
  AdamW optimizer{model.parameters(), {.lr = 1e-3}};
  Trainer trainer(model, optimizer, options);
  const Blobs data(64);
  const auto run = [&](int count) {
    for (int i = 0; i < count; ++i) trainer.step({whole(data, 8 * (i % 8), 8 * (i % 8) + 8).to(device)});
    return resident();
  };
  const long before = run(steps / 20), after = run(steps);
  MESSAGE(fmt::format("{}{}, {} steps: {} KiB, then {} KiB", name_of(options.plan),
                      options.cuda_graph ? ", recorded" : "", steps, before, after));
  CHECK(after - before < most);
}

// One at a time: freed memory may stay with the process.
TEST_CASE("memory: flat over 20,000 steps, stacked" * doctest::skip()) {
  check_flat({.passes = 3, .plan = Plan::stacked}, kCpu, 20000);
}
TEST_CASE("memory: flat over 20,000 steps, replay" * doctest::skip()) {
  check_flat({.passes = 3, .plan = Plan::replay}, kCpu, 20000);
}

// On a device (--device=NAME). A simulated one is slow, and remembers some MiB of what it has executed.
TEST_CASE("memory: flat over recorded steps" * doctest::skip()) {
  if (device() == kCpu) return;
  for (const Plan plan : {Plan::stacked, Plan::replay})
    check_flat({.passes = 2, .cuda_graph = true, .plan = plan}, device(), 2000, 2048);
}

}  // namespace
}  // namespace tandem::nn
