// Our side of the comparisons with PyTorch (tools/bench/peers/run, tools/gpu/bench).
//
// Each line of standard input is a number of runs and a case with its sizes, as
//   5 rdrop units=2048 classes=10152 precision=f32 kind=eager
// which is run so often; the answer is the seconds of one run, by marks in the device's work. A case is built
// and warmed up when it is first named, and kept until the line "drop". A case that fails is answered by
// "error: ..." and ends the program. `profile 5 rdrop units=...` prints the time of each op in those runs.
#include <fmt/format.h>

#include <iostream>
#include <optional>
#include <sstream>

#include "autograd/device.h"
#include "autograd/profiler.h"
#include "tools/bench/peers/cases.h"

using namespace tandem;
using namespace tandem::peers;

namespace {

Case build(const std::string& text) {
  std::istringstream line(text);
  std::string name;
  line >> name;
  Case run;
  for (const Cases* cases : {&model_cases(), &op_cases()})
    if (const auto found = cases->find(name); found != cases->end()) run = found->second(Sizes(line));
  check<ConfigError>(run != nullptr, "unknown case '{}'", name);
  for (int i = 0; i < 3; ++i) run();  // a step is recorded the second time, and replayed from then on
  return run;
}

double seconds_of(const Case& run, int64_t runs) {
  Backend& b = backend(device());
  b.synchronize();
  const auto start = b.mark();
  for (int64_t i = 0; i < runs; ++i) run();
  return b.mark()->seconds_since(*start) / static_cast<double>(runs);
}

void answer(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void serve(const std::string& device_name) {
  const nn::InitScope init({.device = load_device(device_name)});
  std::map<std::string, Case> ready;
  for (std::string text; std::getline(std::cin, text);) {
    if (text == "drop") {
      ready.clear();
      backend(device()).release_cached();
      answer("dropped");
      continue;
    }
    const bool profiles = text.starts_with("profile ");
    std::istringstream line(profiles ? text.substr(8) : text);
    int64_t runs = 0;
    check<ConfigError>(line >> runs && runs >= 1, "expected a number of runs and a case, got '{}'", text);
    std::getline(line >> std::ws, text);
    Case& run = ready[text];
    if (!run) run = build(text);
    std::optional<Profiler> profiler;
    if (profiles) profiler.emplace(device());
    answer(fmt::format("{}", seconds_of(run, runs)));
    if (profiler) answer(profiler->table());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && (arguments.size() != 2 || arguments[0] != "--device")) {
    fmt::print(stderr, "usage: bench_peers [--device auto|cpu|cuda|cudasim]\n");
    return 2;
  }
  try {
    serve(arguments.empty() ? "cpu" : arguments[1]);
  } catch (const std::exception& error) {
    answer(fmt::format("error: {}", error.what()));
    return 1;
  }
}
