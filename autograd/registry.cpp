#include "autograd/registry.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>

#include "autograd/load_kernels.h"
#include "autograd/noise.h"
#include "autograd/tensor_impl.h"

namespace tandem {
namespace {

std::vector<OpInfo>& registry() {
  static std::vector<OpInfo> ops;
  return ops;
}

// What a library that is being loaded has registered. An exception must not cross the dynamic linker.
struct Loading {
  std::vector<std::string> names;
  std::string error;
};
thread_local Loading* loading = nullptr;

}  // namespace

const std::vector<OpInfo>& registered_ops() { return registry(); }

const OpInfo& find_op(const std::string& name) {
  for (const OpInfo& op : registry()) {
    if (op.name == name) return op;
  }
  raise<ConfigError>("op: '{}' is not registered; `tandem ops` lists those that are", name);
}

Samples OpInfo::samples(const SampleMaker& make) const {
  OpCases made(make);
  if (cases) cases(made);
  return std::move(made.samples);
}

ErrorSamples OpInfo::errors() const {
  OpCases made(SampleMaker(1, DType::f64, kCpu));
  if (cases) cases(made);
  return std::move(made.errors);
}

RegisterOp::RegisterOp(std::string name, Cases cases, OpTraits traits) {
  OpInfo info{std::move(traits), std::move(name), std::move(cases)};
  auto& ops = registry();
  const auto at = std::lower_bound(ops.begin(), ops.end(), info.name,
                                   [](const OpInfo& op, const std::string& name) { return op.name < name; });
  const bool taken = at != ops.end() && at->name == info.name;
  if (taken && loading) {
    if (loading->error.empty()) loading->error = fmt::format("op: '{}' is registered twice", info.name);
    return;
  }
  check<ConfigError>(!taken, "op: '{}' is registered twice", info.name);
  if (loading) loading->names.push_back(info.name);
  ops.insert(at, std::move(info));
}

namespace {

std::vector<std::string>& all_loaded() {
  static std::vector<std::string> names;
  return names;
}

// The names of what it registers; none where it was loaded before.
std::optional<std::vector<std::string>> load_once(const std::string& file) {
  std::error_code unused;
  check<IoError>(std::filesystem::is_regular_file(file, unused), "load: no such file: '{}'", file);
  // With a slash, or the dynamic linker would search its own folders.
  const std::string path = std::filesystem::absolute(file).string();
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD)) return {};
  Loading state;
  loading = &state;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  loading = nullptr;
  if (!library) {
    const char* reason = dlerror();
    raise<IoError>("load: {}", reason ? reason : path.c_str());
  }
  check<ConfigError>(state.error.empty(), "load: '{}': {}", file, state.error);
  const std::filesystem::path at(path);
  const std::filesystem::path kernels = at.parent_path() / (at.stem().string() + "_cuda.so");
  if (std::filesystem::is_regular_file(kernels, unused)) load_kernels(kernels.string());
  all_loaded().insert(all_loaded().end(), state.names.begin(), state.names.end());
  return state.names;
}

}  // namespace

std::vector<std::string> load_library(const std::string& file) {
  return load_once(file).value_or(std::vector<std::string>());
}

std::vector<std::string> load_ops(const std::string& file) {
  const auto names = load_once(file);
  check<ConfigError>(!names || !names->empty(), "load: '{}' registers no op", file);
  return names.value_or(std::vector<std::string>());
}

const std::vector<std::string>& loaded_ops() { return all_loaded(); }

namespace {

NoiseKey sample_key(uint64_t seed) { return noise_key(seed, 0, 0, 0, Purpose::init); }

// In [0, 1), one for each element.
std::vector<double> uniform_values(uint64_t seed, const Shape& shape) {
  std::vector<double> values(shape.numel());
  fill_uniform(sample_key(seed), 0, 1, values.data(), shape.numel());
  return values;
}

}  // namespace

Tensor SampleMaker::normal(const Shape& shape) {
  std::vector<double> values(shape.numel());
  fill_normal(sample_key(++seed_), 0, 1, values.data(), shape.numel());
  return from_values(values, shape).to(dtype_).to(device_);
}

Tensor SampleMaker::uniform(const Shape& shape, double low, double high) {
  std::vector<double> values = uniform_values(++seed_, shape);
  for (double& v : values) v = low + (high - low) * v;
  return from_values(values, shape).to(dtype_).to(device_);
}

Tensor SampleMaker::distinct(const Shape& shape) {
  const int64_t n = shape.numel();
  const std::vector<int64_t> order = permutation(sample_key(++seed_), n);
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 0.1 * (order[i] - n / 2) + 0.013 * (seed_ % 7);
  return from_values(values, shape).to(dtype_).to(device_);
}

Tensor SampleMaker::away_from_zero(const Shape& shape) {
  std::vector<double> values = uniform_values(++seed_, shape);
  for (double& v : values) v = v < 0.5 ? -1.5 + 2.6 * v : 0.2 + 2.6 * (v - 0.5);
  return from_values(values, shape).to(dtype_).to(device_);
}

Tensor SampleMaker::integers(const Shape& shape, int64_t low, int64_t high) {
  std::vector<double> values = uniform_values(++seed_, shape);
  std::vector<int64_t> integers(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    integers[i] = low + static_cast<int64_t>(values[i] * (high - low));
  return from_values(integers, shape).to(device_);
}

Tensor SampleMaker::mask(const Shape& shape, double keep) {
  std::vector<double> values = uniform_values(++seed_, shape);
  std::vector<uint8_t> bits(values.size());
  for (size_t i = 0; i < values.size(); ++i) bits[i] = values[i] < keep;
  return from_values(bits, shape).to(DType::boolean).to(device_);
}

}  // namespace tandem
