#include <fmt/format.h>

#include <algorithm>

#include "autograd/op_checks.h"
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

// A row for each check; false when the op failed one.
bool print_checks(const OpInfo& op, Device device) {
  SampleMaker make(1, DType::f64, device);
  const size_t samples = op.samples(make).size();
  bool passed = true;
  check_op(op, device, [&](const OpCheck& check) {
    fmt::print("{} {:<5} {:<6} {:>7} {:<11} {:>9.1e} {:>9.0e}  {}\n", padded(op.name), name_of(check.dtype),
               name_of(device), samples, check.what, check.worst, check.allowed,
               check.passed() ? "ok" : "FAILED");
    for (const std::string& failure : check.failures) fmt::print("    {}\n", failure);
    passed &= check.passed();
  });
  return passed;
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
  table.examples({"tandem ops", "tandem ops --load ./libmyops.so"});
  table.run([device = add_device(table)] { print_table(load_device(*device)); });

  Command gradcheck = root.add("gradcheck", "check operators: gradients in f64, f32 and bf16 against f64");
  auto names = std::make_shared<std::vector<std::string>>();
  gradcheck.argument("op", *names, "operators to check (default: all, or all of the libraries)");
  const Name chosen = add_device(gradcheck);
  gradcheck.examples({"tandem gradcheck softmax layer_norm", "tandem gradcheck --load ./libmyops.so"});
  gradcheck.run([names, chosen] {
    const Device device = load_device(*chosen);
    std::vector<const OpInfo*> ops;
    for (const std::string& name : names->empty() ? loaded_ops() : *names) ops.push_back(&find_op(name));
    if (ops.empty()) {
      for (const OpInfo& op : registered_ops()) ops.push_back(&op);
    }
    fmt::print("{} {:<5} {:<6} {:>7} {:<11} {:>9} {:>9}\n", padded("op"), "dtype", "device", "samples",
               "check", "worst", "allowed");
    int failed = 0;
    for (const OpInfo* op : ops) {
      try {
        failed += !print_checks(*op, device);
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
