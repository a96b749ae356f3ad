// What is known of kernels without running them: registers and spills, from the assembler, and how many
// threads of theirs a multiprocessor holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tandem::roofline {

struct KernelFigures {
  int registers = 0;  // of a thread
  int spilled = 0;    // bytes stored and loaded
  int stack = 0;      // bytes of a thread
};

// What `ptxas -v` said of the kernels, by their mangled names, for one architecture ("sm_90"): from the files
// *.ptxas of a folder, which cuda/compile-kernel leaves beside the objects.
std::map<std::string, KernelFigures> assembler_figures(const std::string& folder, const std::string& arch);

// Of the threads that a multiprocessor can hold, the part that is there when it is given as many blocks as
// fit; 0 if none fits. ConfigError for an architecture whose limits are not known.
double occupancy(const std::string& arch, int threads, int registers, int64_t shared_bytes);

}  // namespace tandem::roofline
