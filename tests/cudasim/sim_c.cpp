#include "sim_c.h"

#include <stdexcept>
#include <utility>

#include "libraries/cublas_gemm.h"
#include "libraries/cudnn_count.h"
#include "sim.h"

using namespace cudasim;

extern "C" {

const char* cudasim_set_options(const char* text) {
  static std::string problem;
  try {
    Options changed = options();
    parse_options(changed, text);
    options() = changed;
    return nullptr;
  } catch (const std::invalid_argument& error) {
    problem = error.what();
    return problem.c_str();
  }
}

const char* cudasim_report(size_t index) {
  static std::string text;
  if (index >= reports().size()) return nullptr;
  text = reports()[index].kind + ": " + reports()[index].message;
  return text.c_str();
}

void cudasim_reset_reports() { reset_reports(); }

const char* cudasim_live_allocation(size_t index) {
  static std::vector<std::string> live;
  if (index == 0) live = live_allocations();
  return index < live.size() ? live[index].c_str() : nullptr;
}

const char* cudasim_check_all_kernels(size_t* kernels) {
  static std::string problem;
  try {
    const size_t count = check_all_kernels();
    if (kernels) *kernels = count;
    return nullptr;
  } catch (const std::runtime_error& error) {
    problem = error.what();
    return problem.c_str();
  }
}

void cudasim_break_device() {
  const bool print = std::exchange(options().print, false);
  report("test", "the device fails from here on");
  options().print = print;
}

uint64_t cudasim_waits() { return waits(); }
int64_t cudasim_products_run(int epilogue) { return products_run(epilogue); }
uint64_t cudasim_dnn_executions() { return dnn_executions(); }
double cudasim_dnn_planning_seconds() { return dnn_planning_seconds(); }
void cudasim_dnn_fuses_bias(int on) { dnn_fuses_bias() = on != 0; }
void cudasim_dnn_refuses(int on) { dnn_refuses() = on != 0; }

void cudasim_record_launches(int on) { record_launches(on != 0); }

int cudasim_recorded_launch(size_t index, cudasim_launch* launch) {
  if (index >= recorded_launches().size()) return 0;
  const LaunchCounters& c = recorded_launches()[index];
  *launch = {.kernel = c.kernel.c_str(),
             .symbol = c.symbol.c_str(),
             .grid = {c.grid.x, c.grid.y, c.grid.z},
             .block = {c.block.x, c.block.y, c.block.z},
             .static_shared = c.static_shared,
             .dynamic_shared = c.dynamic_shared,
             .lane_instructions = c.lane_instructions,
             .warp_instructions = c.warp_instructions,
             .flops = c.flops,
             .read_bytes = c.read_bytes,
             .written_bytes = c.written_bytes,
             .distinct_read = c.distinct_read,
             .distinct_written = c.distinct_written,
             .read_sectors = c.read_sectors,
             .written_sectors = c.written_sectors,
             .reused_bytes = c.reused_bytes,
             .shared_accesses = c.shared_accesses,
             .bank_conflicts = c.bank_conflicts,
             .barriers = c.barriers};
  return 1;
}

void cudasim_count_reused(const void* device, size_t bytes) { count_reused(device, bytes); }

}  // extern "C"
