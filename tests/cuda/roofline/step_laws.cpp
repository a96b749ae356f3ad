#include "tests/cuda/roofline/step_laws.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "autograd/device.h"
#include "autograd/registry.h"
#include "nn/init.h"
#include "nn/optim/adam.h"
#include "nn/train/step.h"
#include "ops/ops.h"
#include "sim.h"
#include "tests/cuda/roofline/traffic.h"

namespace tandem::roofline {
namespace {

// The law through counts at (b, l), (2b, l), (b, 2l), (2b, 2l).
StepLaw through(const std::array<double, 4>& counts, StepSize from) {
  const auto b = static_cast<double>(from.batch), l = static_cast<double>(from.layers);
  const auto [one, two_b, two_l, both] = counts;
  StepLaw law{.of_both = (both - two_b - two_l + one) / (b * l)};
  law.of_batch = (two_b - one) / b - law.of_both * l;
  law.of_layers = (two_l - one) / l - law.of_both * b;
  law.c0 = one - law.of_batch * b - law.of_layers * l - law.of_both * b * l;
  return law;
}

}  // namespace

StepCount count_step(models::VitConfig options, StepSize size) {
  const Device device{DeviceType::cuda};
  options.depth = size.layers;
  const nn::InitScope init({.seed = 1, .device = device});
  models::Vit model(options);
  nn::AdamW optimizer(model.parameters());
  for (const Tensor& each : model.parameters()) each.grad() = zeros_like(each);
  optimizer.step();  // its state is there then
  SampleMaker maker(1, DType::f32, device);
  const Tensor images = maker.normal({size.batch, options.channels, options.height(), options.width()});
  const Tensor labels = maker.integers({size.batch}, 0, options.classes);
  backend(device).synchronize();
  const uint64_t products = cudasim::product_bytes();
  cudasim::record_launches(true);
  {
    nn::Step step(model, optimizer, {.precision = DType::bf16});
    rdrop_cross_entropy(model.forward(images), labels, {.alpha = 1}).loss.backward();
    step.update(1);
  }
  backend(device).synchronize();
  cudasim::record_launches(false);
  StepCount count{.kernels = {}, .products = static_cast<double>(cudasim::product_bytes() - products)};
  for (const KernelTraffic& k : recorded_kernels())
    count.kernels.push_back({k.typed_name, static_cast<double>(k.distinct),
                             static_cast<double>(k.instructions), static_cast<double>(k.launches)});
  return count;
}

StepLaws step_laws(const models::VitConfig& options, StepSize from) {
  struct Counts {
    std::array<double, 4> bytes = {}, instructions = {}, launches = {};
  };
  std::map<std::string, Counts> kernels;
  std::array<double, 4> products = {};
  for (size_t i = 0; i < 4; ++i) {
    const StepSize size{from.batch * (i % 2 ? 2 : 1), from.layers * (i / 2 ? 2 : 1)};
    const StepCount count = count_step(options, size);
    products[i] = count.products;
    for (const StepCount::Kernel& k : count.kernels) {
      Counts& of = kernels[k.name];
      of.bytes[i] += k.bytes, of.instructions[i] += k.instructions, of.launches[i] += k.launches;
    }
  }
  StepLaws laws{.kernels = {}, .products = through(products, from)};
  for (const auto& [name, counts] : kernels)
    laws.kernels.push_back({name, through(counts.bytes, from), through(counts.instructions, from),
                            through(counts.launches, from)});
  return laws;
}

double distance(const StepLaws& laws, const StepCount& count, StepSize size) {
  std::map<std::string, double> off;
  double all = 0;
  for (const StepCount::Kernel& k : count.kernels) off[k.name] += k.bytes, all += k.bytes;
  for (const KernelLaw& law : laws.kernels) off[law.name] -= law.bytes.at(size);
  double largest = 0;
  for (const auto& [name, difference] : off) largest = std::max(largest, std::abs(difference) / all);
  return largest;
}

}  // namespace tandem::roofline
