// The simulator, where the suite runs on it. Its functions are found at run time: a program linked with it
// would lend its cuBLAS and cuDNN to the module of a real device, too.
#pragma once

#include <dlfcn.h>
#include <doctest/doctest.h>

#include "ops/products/activation.h"
#include "tests/cudasim/sim_c.h"
#include "tests/device.h"

namespace tandem::testing {

struct Simulator {
  decltype(&cudasim_break_device) break_device;
  decltype(&cudasim_reset_reports) reset_reports;
  decltype(&cudasim_check_all_kernels) check_all_kernels;
  decltype(&cudasim_waits) waits;
  decltype(&cudasim_products_run) products_run;
  decltype(&cudasim_dnn_executions) dnn_executions;
  decltype(&cudasim_dnn_planning_seconds) dnn_planning_seconds;
  decltype(&cudasim_dnn_fuses_bias) dnn_fuses_bias;
  decltype(&cudasim_dnn_refuses) dnn_refuses;
  decltype(&cudasim_record_launches) record_launches;
  decltype(&cudasim_recorded_launch) recorded_launch;
};

// Null on a real device: what counts the simulator's calls, or breaks its device, is left out there.
inline const Simulator* simulator() {
  static const Simulator found = [] {
    Simulator s;
    const auto find = [](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    };
    find(s.break_device, "cudasim_break_device");
    find(s.reset_reports, "cudasim_reset_reports");
    find(s.check_all_kernels, "cudasim_check_all_kernels");
    find(s.waits, "cudasim_waits");
    find(s.products_run, "cudasim_products_run");
    find(s.dnn_executions, "cudasim_dnn_executions");
    find(s.dnn_planning_seconds, "cudasim_dnn_planning_seconds");
    find(s.dnn_fuses_bias, "cudasim_dnn_fuses_bias");
    find(s.dnn_refuses, "cudasim_dnn_refuses");
    find(s.record_launches, "cudasim_record_launches");
    find(s.recorded_launch, "cudasim_recorded_launch");
    return s;
  }();
  return found.break_device ? &found : nullptr;
}

// For the first lines of such a case.
inline const Simulator* simulator_or_message() {
  if (!simulator()) MESSAGE("left out: only the simulated device can show it");
  return simulator();
}

// What an error that is within rounding may be multiplied by where cuBLASLt computes the activation: the tanh
// of its GELU has fewer digits than an f32 (on an H200, 5e-6 wrong beside terms of 3), that of the simulator
// all.
inline double rounding_of_epilogue(Activation activation) {
  return activation == Activation::gelu_tanh && !simulator() ? 6 : 1;
}

}  // namespace tandem::testing
