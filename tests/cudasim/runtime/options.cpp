#include "runtime/options.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>
#include <stdexcept>

namespace cudasim {
namespace {

[[noreturn]] void wrong(const std::string& key, const std::string& value, const char* expected) {
  throw std::invalid_argument("CUDASIM: " + key + "=" + value + ", expected " + expected);
}

uint64_t number(const std::string& key, const std::string& value, uint64_t least = 0,
                uint64_t most = UINT64_MAX) {
  char* end = nullptr;
  const uint64_t result = std::strtoull(value.c_str(), &end, 0);
  if (value.empty() || *end != 0 || value[0] == '-') wrong(key, value, "a number");
  if (result < least || result > most)
    wrong(key, value, ("a number from " + std::to_string(least) + " to " + std::to_string(most)).c_str());
  return result;
}

bool flag(const std::string& key, const std::string& value) {
  if (value != "0" && value != "1") wrong(key, value, "0 or 1");
  return value == "1";
}

void set_option(Options& options, const std::string& key, const std::string& value) {
  if (key == "order") {
    if (value == "forward")
      options.order = Order::forward;
    else if (value == "reverse")
      options.order = Order::reverse;
    else if (value == "random")
      options.order = Order::random;
    else
      wrong(key, value, "forward, reverse or random");
  } else if (key == "seed") {
    options.seed = value == "random" ? std::random_device()() : number(key, value);
    if (value == "random")
      std::fprintf(stderr, "cudasim: seed=%llu\n", static_cast<unsigned long long>(options.seed));
  } else if (key == "check") {
    options.check = flag(key, value);
  } else if (key == "deferred") {
    options.deferred = flag(key, value);
  } else if (key == "print") {
    options.print = flag(key, value);
  } else if (key == "max_reports") {
    options.max_reports = static_cast<int>(number(key, value));
  } else if (key == "budget") {
    options.budget = number(key, value, 1);
  } else if (key == "memory") {
    options.memory = number(key, value);
  } else if (key == "devices") {
    options.devices = static_cast<int>(number(key, value));
  } else if (key == "driver") {
    options.driver = static_cast<int>(number(key, value));
  } else if (key == "arch") {
    options.arch = static_cast<int>(number(key, value, 50, 130));
  } else if (key == "multiprocessors") {
    options.multiprocessors = static_cast<int>(number(key, value, 1, 1024));
  } else if (key == "mutate") {
    options.mutate = value;
  } else if (key == "registers") {
    options.registers = static_cast<int>(number(key, value, 1, 255));
  } else {
    throw std::invalid_argument(
        "CUDASIM: no option '" + key +
        "'; there are order, seed, check, deferred, print, max_reports, budget, memory, devices, "
        "driver, arch, multiprocessors, mutate and registers");
  }
}

}  // namespace

void parse_options(Options& options, const std::string& text) {
  std::istringstream parts(text);
  std::string part;
  while (std::getline(parts, part, ',')) {
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    if (equals == std::string::npos)
      throw std::invalid_argument("CUDASIM: '" + part + "' has no value, expected key=value");
    set_option(options, part.substr(0, equals), part.substr(equals + 1));
  }
}

Options& options() {
  static Options& instance = *[] {
    auto* result = new Options;
    if (const char* text = std::getenv("CUDASIM")) {
      try {
        parse_options(*result, text);
      } catch (const std::invalid_argument& error) {
        std::fprintf(stderr, "%s\n", error.what());
        std::exit(2);
      }
    }
    return result;
  }();
  return instance;
}

std::string describe(const Options& options) {
  const char* order = options.order == Order::forward   ? "forward"
                      : options.order == Order::reverse ? "reverse"
                                                        : "random";
  return std::string("order=") + order + ",seed=" + std::to_string(options.seed) +
         ",check=" + (options.check ? "1" : "0") + ",deferred=" + (options.deferred ? "1" : "0");
}

}  // namespace cudasim
