// A case run in several orders of blocks, warps and lanes: a right one, and one with a mistake.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "test_util.h"

struct Orders {
  cudasim::Options before = cudasim::options();
  ~Orders() { cudasim::options() = before; }
};

// Forward, reverse, and then random ones.
inline void choose_order(int i) {
  cudasim::options().order = i == 0   ? cudasim::Order::forward
                             : i == 1 ? cudasim::Order::reverse
                                      : cudasim::Order::random;
  cudasim::options().seed = static_cast<uint64_t>(i);
}

// Runs a case in forward, reverse and some random orders.
inline void in_all_orders(const std::function<void()>& body) {
  const Orders restore;
  for (int i = 0; i < 8; ++i) {
    choose_order(i);
    CAPTURE(cudasim::describe(cudasim::options()));
    cudasim::reset_reports();
    body();
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(cudasim::reports().empty());
  }
}

inline std::string found() {
  std::string text;
  for (const cudasim::Report& report : cudasim::reports()) text += report.kind + ": " + report.message + "\n";
  return text;
}

// Runs the case in every order. Each time a report of that kind must be there, and the device must have
// failed.
inline void finds(const std::string& kind, const std::function<void()>& run, const std::string& part = "") {
  const Restore restore;
  cudasim::options().print = false;
  for (int i = 0; i < 5; ++i) {
    choose_order(i);
    CAPTURE(cudasim::describe(cudasim::options()));
    cudasim::reset_reports();
    run();
    CHECK(cudaDeviceSynchronize() != cudaSuccess);
    const auto& reports = cudasim::reports();
    const bool there = std::any_of(reports.begin(), reports.end(), [&](const cudasim::Report& report) {
      return report.kind == kind && report.message.find(part) != std::string::npos;
    });
    CHECK_MESSAGE(there, "found: ", found());
    cudasim::reset_reports();
  }
}
