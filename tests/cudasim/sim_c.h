// The simulation for programs that open it at run time: these functions are found by dlsym.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Sets options by text such as the environment variable's. NULL if it was understood, else what was wrong.
const char* cudasim_set_options(const char* text);

// Reports since the last reset, "kind: message"; NULL behind the last.
const char* cudasim_report(size_t index);
void cudasim_reset_reports(void);

// Live allocations of the device and of pinned memory; NULL behind the last. Index 0 takes a new look.
const char* cudasim_live_allocation(size_t index);

// Parses every kernel, and says how many there are unless `kernels` is NULL. NULL if the simulation executes
// them all, else which it does not.
const char* cudasim_check_all_kernels(size_t* kernels);

// Files a report without printing it: the device fails from here on, until cudasim_reset_reports.
void cudasim_break_device(void);

// How often the host has waited for a stream, an event or the device since the program started.
uint64_t cudasim_waits(void);
// Products of cuBLASLt with this epilogue since the program started; 0: those of cuBLAS.
int64_t cudasim_products_run(int epilogue);
// Plans of cuDNN that were run.
uint64_t cudasim_dnn_executions(void);
// What planning would have taken the real cuDNN since the program started: an attention 0.35 s, its gradient
// 0.33 s, a convolution or its gradient 0.01 s. Here it takes no time.
double cudasim_dnn_planning_seconds(void);
// Whether cuDNN's convolutions take a bias, as they do at first.
void cudasim_dnn_fuses_bias(int on);
// Whether cuDNN refuses to run any plan, as bad parameters.
void cudasim_dnn_refuses(int on);

struct cudasim_launch {
  const char *kernel, *symbol;
  uint32_t grid[3], block[3];
  uint64_t static_shared, dynamic_shared;
  uint64_t lane_instructions, warp_instructions, flops;
  uint64_t read_bytes, written_bytes, distinct_read, distinct_written;
  uint64_t read_sectors, written_sectors, reused_bytes;
  uint64_t shared_accesses, bank_conflicts, barriers;
};

// While on, launches are recorded; turning it on forgets those before.
void cudasim_record_launches(int on);
// Fills in what the n-th launch did (see LaunchCounters in sim.h); 0 behind the last.
int cudasim_recorded_launch(size_t index, struct cudasim_launch* launch);
// Reads of these bytes are counted as reused_bytes alone. NULL forgets all.
void cudasim_count_reused(const void* device, size_t bytes);

#ifdef __cplusplus
}
#endif
