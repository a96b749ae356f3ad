// The bytes of device memory that a training step of a ViT moves, kernel by kernel, as laws in the batch and
// the number of layers: measured on small ones, said of large ones.
//
// A kernel's bytes are those that its launches touch, each counted once a launch, so what caches keep while
// it runs is left out. With batch b and layers l they are c0 + c1 b + c2 l + c3 b l: exactly so where the
// kernel's launches only depend on sizes in proportion, which the measured sizes beside the four that make
// the law show.
#pragma once

#include <string>
#include <vector>

#include "models/vit/vit.h"

namespace tandem::roofline {

struct StepSize {
  int64_t batch, layers;
};

// Of a number that the simulated device counts, or of several.
struct StepLaw {
  double c0 = 0, of_batch = 0, of_layers = 0, of_both = 0;
  double at(StepSize s) const {
    const auto b = static_cast<double>(s.batch), l = static_cast<double>(s.layers);
    return c0 + of_batch * b + of_layers * l + of_both * b * l;
  }
  StepLaw& operator+=(const StepLaw& other) {
    c0 += other.c0, of_batch += other.of_batch, of_layers += other.of_layers, of_both += other.of_both;
    return *this;
  }
};

struct KernelLaw {
  std::string name;  // demangled, shortened
  StepLaw bytes, instructions, launches;
};

struct StepLaws {
  std::vector<KernelLaw> kernels;  // our own
  StepLaw products;                // bytes of the operands and results of cuBLAS's
};

// What a step of R-Drop with m = 2 (bf16, cross-entropy, clipping, AdamW) of a model of these options does on
// the simulated device, which must be loaded and check accesses; `layers` in place of the options' depth.
struct StepCount {
  struct Kernel {
    std::string name;
    double bytes = 0, instructions = 0, launches = 0;
  };
  std::vector<Kernel> kernels;
  double products = 0;
};
StepCount count_step(models::VitConfig options, StepSize size);

// From counts at `from` and at twice its batch, twice its layers, and both.
StepLaws step_laws(const models::VitConfig& options, StepSize from);

// How far a law is from a count: the largest difference of a kernel's bytes, as a part of all bytes counted.
double distance(const StepLaws& laws, const StepCount& count, StepSize size);

}  // namespace tandem::roofline
