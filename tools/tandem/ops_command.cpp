#include <fmt/format.h>

#include <algorithm>

#include "autograd/engine.h"
#include "autograd/gradcheck.h"
#include "autograd/noise.h"
#include "autograd/registry.h"
#include "tools/tandem/commands.h"

namespace tandem::command {
namespace {

// "name   ", as wide as the longest name of an op.
std::string padded(const std::string& name) {
  size_t width = 0;
  for (const OpInfo& op : registered_ops()) width = std::max(width, op.name.size());
  return fmt::format("{:<{}}", name, width);
}

// Runs a sample there and back: the table is what happens then, not what a list claims. "yes", "-" for a
// dtype that the op does not take, or "no", and then why not is added to `holes`.
std::string support(const OpInfo& op, DType dtype, Device device, std::vector<std::string>& holes) {
  if (std::find(op.dtypes.begin(), op.dtypes.end(), dtype) == op.dtypes.end()) return "-";
  try {
    SampleMaker make(1, dtype, device);
    const Sample sample = op.samples(make).at(0);
    for (const Tensor& x : sample.inputs)
      if (op.differentiable && x.defined() && is_floating(x.dtype())) x.requires_grad_();
    const Tensor y = sample.function(sample.inputs);
    if (y.requires_grad()) y.backward(ones_like(y));
    backend(device).synchronize();
    return "yes";
  } catch (const Error& error) {
    holes.push_back(fmt::format("{} {} {}: {}", op.name, name_of(device), name_of(dtype), error.what()));
    return "no";
  }
}

void print_table(Device asked) {
  std::vector<Device> devices{kCpu};
  if (asked != kCpu) devices.push_back(asked);
  std::vector<std::string> holes;
  std::string title = padded("op");
  for (const Device device : devices)
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
      title += fmt::format(" {:>9}", fmt::format("{} {}", name_of(device), name_of(dtype)));
  fmt::print("{}   {:<10} {:>7}\n", title, "gradient", "samples");
  for (const OpInfo& op : registered_ops()) {
    SampleMaker make(1, DType::f64, kCpu);
    std::string row = padded(op.name);
    for (const Device device : devices)
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
        row += fmt::format(" {:>9}", support(op, dtype, device, holes));
    fmt::print("{}   {:<10} {:>7}\n", row,
               !op.differentiable ? "none"
               : op.second_order  ? "2nd order"
                                  : "1st order",
               op.samples(make).size());
  }
  fmt::print("{} ops\n", registered_ops().size());
  for (const std::string& hole : holes) fmt::print("no: {}\n", hole);
}

// A cotangent: any but all ones, or the output itself, under which the gradient of a norm vanishes.
Tensor random_like(const Tensor& x) {
  const Tensor result = empty(x.shape(), {.dtype = DType::f64}, x.passes());
  fill_normal(noise_key(8, 1, 0, 0, Purpose::init), 0, 1, result.data<double>(), x.numel() * x.passes());
  return result.to(x.dtype());
}

// The worst distance of values and gradients in `dtype` on a device from those in f64 on the CPU, relative to
// their norm.
double distance_from_f64(const OpInfo& op, DType dtype, Device device) {
  double worst = 0;
  auto is_float = [](const Tensor& x) { return x.defined() && is_floating(x.dtype()); };
  auto compare = [&](const Tensor& a, const Tensor& b, double floor) {
    const auto x = a.to_vector<double>(), y = b.to_vector<double>();
    double distance = 0, size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] == y[i]) continue;
      distance += (x[i] - y[i]) * (x[i] - y[i]);
    }
    for (double v : y) size += std::isfinite(v) ? v * v : 0;
    const double error = std::sqrt(distance) / std::max(std::sqrt(size), floor);
    if (!(error <= worst)) worst = error;  // also when it is NaN
  };
  SampleMaker make(7, dtype, device), make_on_cpu(7, dtype, kCpu);  // of the same values
  const Samples samples = op.samples(make), on_cpu = op.samples(make_on_cpu);
  for (size_t s = 0; s < samples.size(); ++s) {
    Tensors narrow, wide;
    for (const Tensor& x : samples[s].inputs)
      narrow.push_back(is_float(x) ? x.detach().clone().requires_grad_(op.differentiable) : x);
    for (const Tensor& x : on_cpu[s].inputs)
      wide.push_back(is_float(x) ? x.detach().to(DType::f64).clone().requires_grad_(op.differentiable) : x);
    const Tensor y = samples[s].function(narrow), reference = on_cpu[s].function(wide);
    compare(y, reference, 1e-3);
    if (!reference.requires_grad()) continue;
    const Tensor v = random_like(y);
    y.backward(v.to(device));
    reference.backward(v.to(DType::f64));
    double total = 0;  // of all gradients: some true ones are 0, and rounding is all that is left of them
    for (const Tensor& x : wide) {
      if (!is_float(x) || !x.grad().defined()) continue;
      for (double g : x.grad().to_vector<double>()) total += g * g;
    }
    for (size_t i = 0; i < wide.size(); ++i) {
      if (is_float(wide[i]) && wide[i].grad().defined())
        compare(narrow[i].grad(), wide[i].grad(), std::max(1e-3, 1e-3 * std::sqrt(total)));
    }
  }
  return worst;
}

// One row per dtype; false when the op failed.
bool check_op(const OpInfo& op, Device device) {
  SampleMaker make(7, DType::f64, device);
  const Samples samples = op.samples(make);
  auto row = [&](const char* dtype, const char* check, double error, double allowed, bool passed) {
    fmt::print("{} {:<5} {:<6} {:>7} {:<11} {:>9.1e} {:>9.0e}  {}\n", padded(op.name), dtype, name_of(device),
               samples.size(), check, error, allowed, passed ? "ok" : "FAILED");
  };
  bool all = true;
  if (op.differentiable) {
    double worst = 0;
    std::string message;
    for (const Sample& sample : samples) {
      const GradcheckResult result =
          gradcheck(sample.function, sample.inputs, {.second_order = op.second_order});
      worst = std::max(worst, result.error);
      if (!result.passed) message += fmt::format("    sample '{}': {}\n", sample.label, result.message);
    }
    row("f64", op.second_order ? "gradient x2" : "gradient", worst, GradcheckOptions().tolerance,
        message.empty());
    fmt::print("{}", message);
    all &= message.empty();
  }
  auto check_distance = [&](const char* name, DType dtype, double allowed) {
    if (std::find(op.dtypes.begin(), op.dtypes.end(), dtype) == op.dtypes.end()) return;
    const double error = distance_from_f64(op, dtype, device);
    row(name, dtype == DType::f64 ? "against cpu" : "against f64", error, allowed, error <= allowed);
    all &= error <= allowed;
  };
  if (device != kCpu) check_distance("f64", DType::f64, 1e-10);
  check_distance("f32", DType::f32, op.f32_tolerance);
  check_distance("bf16", DType::bf16, op.bf16_tolerance);
  return all;
}

using Files = std::shared_ptr<std::vector<std::string>>;

// One file for each --load, so that names of operators may follow.
Files add_load(Command& command) {
  auto libraries = std::make_shared<std::vector<std::string>>();
  command.option("--load", *libraries, anything(), "a shared library of your own operators (repeatable)")
      .one_each_time("FILE");
  return libraries;
}

// The names of what the libraries registered.
std::vector<std::string> load_all(const std::vector<std::string>& libraries) {
  std::vector<std::string> names;
  for (const std::string& file : libraries) {
    const std::vector<std::string> loaded = load_ops(file);
    names.insert(names.end(), loaded.begin(), loaded.end());
  }
  return names;
}

using Name = std::shared_ptr<std::string>;
Name add_device(Command& command) {
  auto device = std::make_shared<std::string>("cpu");
  command.device(*device);
  return device;
}

}  // namespace

void add_ops(Command& root) {
  Command table = root.add("ops", "the table of operators: dtypes, devices, orders of derivative");
  table.run([libraries = add_load(table), device = add_device(table)] {
    load_all(*libraries);
    print_table(load_device(*device));
  });

  Command gradcheck = root.add("gradcheck", "check operators: gradients in f64, f32 and bf16 against f64");
  auto names = std::make_shared<std::vector<std::string>>();
  gradcheck.argument("op", *names, "operators to check (default: all, or all of the libraries)");
  const Files libraries = add_load(gradcheck);
  const Name chosen = add_device(gradcheck);
  gradcheck.run([names, libraries, chosen] {
    const Device device = load_device(*chosen);
    const std::vector<std::string> loaded = load_all(*libraries);
    std::vector<const OpInfo*> ops;
    for (const std::string& name : names->empty() ? loaded : *names) ops.push_back(&find_op(name));
    if (ops.empty()) {
      for (const OpInfo& op : registered_ops()) ops.push_back(&op);
    }
    fmt::print("{} {:<5} {:<6} {:>7} {:<11} {:>9} {:>9}\n", padded("op"), "dtype", "device", "samples",
               "check", "worst", "allowed");
    int failed = 0;
    for (const OpInfo* op : ops) {
      try {
        failed += !check_op(*op, device);
      } catch (const Error& error) {  // a device may lack a kernel: the others are checked all the same
        fmt::print("{} FAILED: {}\n", padded(op->name), error.what());
        ++failed;
      }
    }
    fmt::print("{} ops passed, {} failed\n", ops.size() - failed, failed);
    check<Error>(failed == 0, "gradcheck: {} of {} ops failed", failed, ops.size());
  });
}

}  // namespace tandem::command
