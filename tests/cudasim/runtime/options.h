// How the simulated device behaves. Read once from the environment variable CUDASIM, for example
// CUDASIM="order=random,seed=3,deferred=1"; a program may change them between launches.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace cudasim {

enum class Order { forward, reverse, random };

struct Options {
  Order order = Order::forward;  // of blocks, of a block's warps, and of a warp's lanes where they differ
  uint64_t seed = 1;             // of every random choice; printed in reports
  bool check = true;             // uninitialised reads and races; bounds and alignment are always checked
  bool deferred = false;         // streams run at synchronisation points only, in random order among streams
  bool print = true;             // reports go to stderr as they are made
  int max_reports = 20;          // of one launch; one place and kind is reported once per launch
  uint64_t budget = 2'000'000'000;  // warp instructions of one launch, then it counts as hanging
  size_t memory = size_t{8} << 30;  // bytes of device memory that cudaMalloc hands out
  int devices = 1;                  // cudaGetDeviceCount; 0: every call returns cudaErrorNoDevice
  int driver = 13000;               // version; 0: no driver, calls return cudaErrorInsufficientDriver
  std::string mutate;               // "MODULE.N", see mutation.h
  int arch = 90;                    // 10 x major + minor of the compute capability that it says it has
  int multiprocessors = 132;
  int registers = 32;                         // per thread, of kernels that are not in the table
  std::map<std::string, int> register_table;  // by the kernel's mangled name (ptxas knows, the PTX does not)
};

Options& options();
// Sets options from text such as CUDASIM's; throws std::invalid_argument naming an unknown key or value.
void parse_options(Options& options, const std::string& text);
std::string describe(const Options& options);

}  // namespace cudasim
