#include "tests/cuda/roofline/assembler.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>

#include "autograd/error.h"

namespace tandem::roofline {

std::map<std::string, KernelFigures> assembler_figures(const std::string& folder, const std::string& arch) {
  static const std::regex entry(R"(Compiling entry function '([^']+)' for '([^']+)')"),
      stack(R"(^ *(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads)"),
      used(R"(Used (\d+) registers)");
  std::map<std::string, KernelFigures> figures;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(folder, none)) {
    if (file.path().extension() != ".ptxas") continue;
    std::ifstream lines(file.path());
    KernelFigures* kernel = nullptr;  // the one that is spoken of, if it is for this architecture
    std::smatch match;
    for (std::string line; std::getline(lines, line);) {
      if (std::regex_search(line, match, entry)) {
        kernel = match[2] == arch ? &figures[match[1]] : nullptr;
      } else if (kernel && std::regex_search(line, match, stack)) {
        kernel->stack = std::stoi(match[1]);
        kernel->spilled = std::stoi(match[2]) + std::stoi(match[3]);
      } else if (kernel && std::regex_search(line, match, used)) {
        kernel->registers = std::stoi(match[1]);
      }
    }
  }
  return figures;
}

namespace {

// Of a multiprocessor, from the table "Technical specifications per compute capability" of the CUDA C++
// programming guide. A block takes 1 KiB of shared memory beside its own.
struct Limits {
  const char* arch;
  int threads, blocks;
  int64_t shared;
};
constexpr int64_t kKiB = 1024;
constexpr std::array<Limits, 6> kLimits{{{"sm_80", 2048, 32, 164 * kKiB},
                                         {"sm_86", 1536, 16, 100 * kKiB},
                                         {"sm_89", 1536, 24, 100 * kKiB},
                                         {"sm_90", 2048, 32, 228 * kKiB},
                                         {"sm_100", 2048, 32, 228 * kKiB},
                                         {"sm_120", 1536, 24, 100 * kKiB}}};
constexpr int kWarp = 32, kSchedulers = 4, kRegisters = 65536;

int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

double occupancy(const std::string& arch, int threads, int registers, int64_t shared_bytes) {
  const auto limits =
      std::find_if(kLimits.begin(), kLimits.end(), [&](const Limits& each) { return arch == each.arch; });
  std::string known;
  for (const Limits& each : kLimits) known += std::string(known.empty() ? "" : ", ") + each.arch;
  check<ConfigError>(limits != kLimits.end(), "roofline: expected an architecture of {}; got '{}'", known,
                     arch);
  const int64_t warps = (threads + kWarp - 1) / kWarp, most = limits->threads / kWarp;
  int64_t blocks = std::min<int64_t>(limits->blocks, most / warps);
  // Registers are given to whole warps in units of 256; each scheduler has a quarter of them.
  const int64_t of_warp = up(int64_t{registers} * kWarp, 256);
  if (of_warp > 0) blocks = std::min(blocks, kRegisters / kSchedulers / of_warp * kSchedulers / warps);
  blocks = std::min(blocks, limits->shared / up(shared_bytes + kKiB, 128));
  return static_cast<double>(blocks * warps) / static_cast<double>(most);
}

}  // namespace tandem::roofline
