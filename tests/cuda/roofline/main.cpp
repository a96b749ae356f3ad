// What kernels move on the simulated device, beside what they must, and what the assembler says of them.
//   roofline ARCH [GB/s]      roofline sm_90: the floor is that of an H100's memory, 3350 GB/s
//   roofline step             what a training step of ViT-B/16 moves, kernel by kernel, by laws from small
//   steps
// Exit status: 1 if some work moves more than is asked for, 2 for wrong arguments.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "autograd/device.h"
#include "autograd/error.h"
#include "sim.h"
#include "tests/cuda/roofline/assembler.h"
#include "tests/cuda/roofline/step_laws.h"
#include "tests/cuda/roofline/traffic.h"
#include "tests/program_folder.h"

namespace tandem::roofline {
namespace {

struct Options {
  std::string arch;  // "sm_90"
  double bandwidth;  // GB/s
};

class Table {
 public:
  Table(const Options& options, std::map<std::string, KernelFigures> figures)
      : options_(options), figures_(std::move(figures)) {}

  static void header() {
    fmt::print("{:<39} {:>8} {:>9} {:>9} {:>6} {:>8} {:>8} {:>6} {:>9} {:>7} {:>5} {:>5} {:>5} {:>8}\n",
               "work, and its kernels", "launches", "least kB", "count kB", "ratio", "sectors", "needed",
               "use", "conflicts", "instr/B", "occup", "regs", "spill", "floor us");
  }
  void row(const std::string& name, const Traffic& t) const {
    fmt::print("{:<39} {:>8} {:>9.1f} {:>9.1f} {:>6.3f} {:>8} {:>8.0f} {:>5.1f}% {:>9} {:>7.3f}{}{:>8.2f}\n",
               name, t.launches, t.minimum / 1e3, t.counted / 1e3, t.ratio(), t.sectors,
               t.sector_use() * static_cast<double>(t.sectors), 100 * t.sector_use(), t.conflicts,
               static_cast<double>(t.instructions) / t.minimum,
               t.kernels.size() == 1 ? figures(t.kernels[0]) : std::string(19, ' '),
               t.minimum / options_.bandwidth / 1e3);
    if (t.kernels.size() == 1) return;
    for (const KernelTraffic& k : t.kernels) {
      const double asked = static_cast<double>(k.bytes);
      fmt::print("  {:<37} {:>8} {:>9} {:>9.1f} {:>6} {:>8} {:>8.0f} {:>5.1f}% {:>9} {:>7.3f}{}\n", k.name,
                 k.launches, "", asked / 1e3, "", k.sectors, asked / 32,
                 k.sectors == 0 ? 100 : 100 * asked / (32 * static_cast<double>(k.sectors)), k.conflicts,
                 static_cast<double>(k.instructions) / asked, figures(k));
    }
  }

 private:
  std::string figures(const KernelTraffic& k) const {
    const auto found = figures_.find(k.symbol);
    if (found == figures_.end()) return fmt::format(" {:>5} {:>5} {:>5} ", "-", "-", "-");
    const KernelFigures& f = found->second;
    const double held = occupancy(options_.arch, k.threads, f.registers,
                                  static_cast<int64_t>(k.static_shared + k.dynamic_shared));
    return fmt::format(" {:>4.0f}% {:>5} {:>5} ", 100 * held, f.registers, f.spilled);
  }

  const Options& options_;
  std::map<std::string, KernelFigures> figures_;
};

// A step of ViT-B/16 (Dosovitskiy et al. 2021), batch 64: images of 65 tokens, as many as there are tokens in
// 64 of 197. Laws are of two layers and four: one alone is the last one, which computes what the head reads.
void report_step() {
  models::VitConfig vit = models::vit_preset("b16");
  vit.image_size = 128;
  const StepSize large{194, 12};
  load_device("cudasim");
  StepLaws laws = step_laws(vit, {2, 2});
  std::sort(laws.kernels.begin(), laws.kernels.end(),
            [&](const KernelLaw& a, const KernelLaw& b) { return a.bytes.at(large) > b.bytes.at(large); });
  fmt::print("A step of ViT-B/16, batch 64, m = 2, bf16, dropout 0.1; an H200 has 0.24 instr/B\n");
  fmt::print("{:>9} {:>8} {:>8}  {}\n", "GB", "instr/B", "launches", "kernel");
  KernelLaw all{.name = "all of our own kernels", .bytes = {}, .instructions = {}, .launches = {}};
  const auto line = [&](const KernelLaw& k) {
    const double bytes = k.bytes.at(large);
    fmt::print("{:>9.3f} {:>8.3f} {:>8.0f}  {}\n", bytes / 1e9, k.instructions.at(large) / bytes,
               k.launches.at(large), k.name);
  };
  for (const KernelLaw& k : laws.kernels) {
    line(k);
    all.bytes += k.bytes, all.instructions += k.instructions, all.launches += k.launches;
  }
  line(all);
  fmt::print("{:>9.3f} {:>17}  operands and results of cuBLAS's products\n", laws.products.at(large) / 1e9,
             "");
}

void report(const Options& options) {
  occupancy(options.arch, 32, 32, 0);  // ConfigError for an architecture whose limits are not known
  const Device device = load_device("cudasim");
  cudasim::options().check = false;  // mistakes are looked for by the tests
  auto figures = assembler_figures((testing::program_folder() / "../../cuda").string(), options.arch);
  const bool assembled = !figures.empty();
  fmt::print("What kernels move: counted on a simulated device; floor: the least bytes at {} GB/s\n\n",
             options.bandwidth);
  const Table table(options, std::move(figures));
  Table::header();
  std::vector<std::string> missed;
  for (const Workload& workload : traffic_workloads(device)) {
    const Traffic traffic = measure_traffic(workload);
    table.row(workload.name, traffic);
    std::fflush(stdout);
    if (workload.allowed > 0 && traffic.ratio() > workload.allowed)
      missed.push_back(
          fmt::format("{}: ratio {:.3f}, asked for {}", workload.name, traffic.ratio(), workload.allowed));
  }
  if (!assembled)
    fmt::print("\nregs, spill, occup: this build has no code for {} (-Dgpu_arch)\n", options.arch);
  std::string lines;
  for (const std::string& line : missed) lines += "\n  " + line;
  check<Error>(missed.empty(), "roofline: {} kinds of work move more than is asked for:{}", missed.size(),
               lines);
}

}  // namespace
}  // namespace tandem::roofline

int main(int argc, char** argv) {
  using namespace tandem;
  try {
    check<ConfigError>(argc == 2 || argc == 3, "roofline: expected ARCH [GB/s], such as sm_90, or step");
    const double bandwidth = argc == 3 ? std::strtod(argv[2], nullptr) : 3350;
    check<ConfigError>(std::isfinite(bandwidth) && bandwidth > 0, "roofline: expected GB/s > 0, got '{}'",
                       argc == 3 ? argv[2] : "");
    testing::find_test_devices();
    if (argc == 2 && std::string(argv[1]) == "step") return roofline::report_step(), 0;
    roofline::report({argv[1], bandwidth});
    return 0;
  } catch (const ConfigError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
