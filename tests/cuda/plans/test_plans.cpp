// Plans of the real cuDNN for every graph that is used, on three architectures, without a device: what the
// code believes to be supported is, and what it does not ask for is not. A table goes to the output; the exit
// code is 1 when a row is not as expected. An argument selects the rows whose name contains it.
#include <fmt/format.h>

#include <chrono>
#include <string>
#include <vector>

#include "cuda/dnn_ops.h"
#include "tests/cuda/plans/devices.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

struct Case {
  std::string name;
  DType dtype;
  std::function<void(DnnGraph&)> build;
  bool planned = true;  // otherwise the library must have nothing
  bool tf32 = false;    // allowed
};

std::vector<Case> convolutions() {
  const std::pair<const char*, ConvShape> shapes[] = {
      {"3x3", {.n = 8, .c = 32, .h = 16, .w = 16, .o = 64, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1}},
      {"stride 2",
       {.n = 8,
        .c = 32,
        .h = 17,
        .w = 15,
        .o = 64,
        .kh = 3,
        .kw = 3,
        .stride_h = 2,
        .stride_w = 2,
        .pad_h = 1}},
      {"dilation 2",
       {.n = 8, .c = 32, .h = 16, .w = 16, .o = 64, .kh = 3, .kw = 2, .dilation_h = 2, .dilation_w = 2}},
      {"4 groups",
       {.n = 8, .c = 32, .h = 16, .w = 16, .o = 64, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 4}},
      {"depthwise",
       {.n = 8, .c = 32, .h = 16, .w = 16, .o = 32, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 32}},
      {"3 channels", {.n = 8, .c = 3, .h = 32, .w = 32, .o = 64, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1}},
      {"tiny", {.n = 1, .c = 1, .h = 4, .w = 3, .o = 2, .kh = 2, .kw = 3}},
  };
  std::vector<Case> all;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const auto& entry : shapes) {
      const auto add = [&](const char* what, auto build, bool planned = true, bool tf32 = false) {
        all.push_back({fmt::format("{}, {}", what, entry.first), dtype,
                       [=, s = entry.second](DnnGraph& graph) { build(graph, s); }, planned, tf32});
      };
      add("conv2d", [=](DnnGraph& g, const ConvShape& s) { conv_forward(g, s, dtype, false); });
      add("conv2d + bias", [=](DnnGraph& g, const ConvShape& s) { conv_forward(g, s, dtype, true); });
      add("conv2d data gradient", [=](DnnGraph& g, const ConvShape& s) { conv_data(g, s, dtype); });
      add("conv2d weight gradient", [=](DnnGraph& g, const ConvShape& s) { conv_weights(g, s, dtype); });
      // Of bf16 inputs in f32: exact, as TF32 holds every bf16.
      if (dtype == DType::f32)
        add(
            "conv2d weight gradient, TF32",
            [=](DnnGraph& g, const ConvShape& s) { conv_weights(g, s, dtype); }, true, true);
    }
  }
  return all;
}

std::vector<Case> attentions() {
  std::vector<Case> all;
  struct Sizes {
    const char* name;
    int64_t heads, queries, keys, dim, value_dim;
    bool causal;
    bool planned = true;
  };
  for (const Sizes& n : {Sizes{"head dim 64", 8, 128, 128, 64, 64, false},
                         {"head dim 64, causal", 8, 128, 128, 64, 64, true},
                         {"head dim 128, causal", 4, 256, 256, 128, 128, true},
                         {"197 tokens", 12, 197, 197, 64, 64, false},
                         {"33 queries of 57 keys, causal", 4, 33, 57, 32, 16, true},
                         {"head dim 8", 2, 16, 16, 8, 8, false},
                         {"head dim 60", 2, 64, 64, 60, 60, false, false}}) {
    // As the model has them: [batch, rows, heads, columns].
    const AttentionShape shape{.batch = 4,
                               .heads = n.heads,
                               .queries = n.queries,
                               .keys = n.keys,
                               .dim = n.dim,
                               .value_dim = n.value_dim,
                               .q = {n.queries * n.heads * n.dim, n.dim, n.heads * n.dim},
                               .k = {n.keys * n.heads * n.dim, n.dim, n.heads * n.dim},
                               .v = {n.keys * n.heads * n.value_dim, n.value_dim, n.heads * n.value_dim},
                               .out = {n.queries * n.heads * n.value_dim, n.value_dim, n.heads * n.value_dim},
                               .scale = 0.125,
                               .causal = n.causal};
    const std::string name = n.name;
    all.push_back(
        {"attention, " + name, DType::bf16, [=](DnnGraph& g) { attention_forward(g, shape); }, n.planned});
    all.push_back({"attention gradient, " + name, DType::bf16,
                   [=](DnnGraph& g) {
                     attention_backward(g, {shape, shape.out, shape.q, shape.k, shape.v});
                   },
                   n.planned});
  }
  return all;
}

// Whether it is as expected.
bool plan(const Case& c, const DeviceSpec& device, const DnnDescriptor& properties) {
  const auto start = std::chrono::steady_clock::now();
  DnnSearch found;
  bool failed = false;
  try {
    DnnPolicy policy = dnn_policy(c.dtype);
    policy.tensor_cores |= c.tf32;
    found = find_dnn_plan({.properties = &properties}, policy, 16, c.build);
  } catch (const std::exception& error) {
    failed = true;
    found.reason = error.what();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const bool right = !failed && found.plan.has_value() == c.planned;
  fmt::print(
      "{:<44} {:<5} {:<7} {:>10} {:>7} {:>12} {:>7.2f}  {}\n", c.name, name_of(c.dtype), device.architecture,
      found.candidates, found.plan ? fmt::format("{}", found.plan->engine()) : "-",
      found.plan ? fmt::format("{}", found.plan->workspace()) : "-", seconds,
      right ? (c.planned ? "planned" : "unsupported, as stated")
            : fmt::format("{}: {}", c.planned ? "NOT PLANNED" : "PLANNED, unlike stated", found.reason));
  std::fflush(stdout);
  return right;
}

}  // namespace

// test_plans ARCHITECTURES [PART OF A NAME]: for instance test_plans 80,90 "conv 3x3"
int main(int argc, char** argv) {
  const std::string wanted = fmt::format(",{},", argc > 1 ? argv[1] : "");
  std::vector<DeviceSpec> devices;
  for (const DeviceSpec& device : kDevices) {
    if (wanted.find(fmt::format(",{},", device.architecture + 3)) != std::string::npos)
      devices.push_back(device);
  }
  if (devices.empty()) {
    fmt::print("no architecture of this table (80, 90, 120) among '{}': nothing was planned\n",
               argc > 1 ? argv[1] : "");
    return 77;  // skipped
  }
  std::vector<Case> all;
  for (auto make : {convolutions, attentions}) {
    for (Case& c : make()) {
      if (argc < 3 || c.name.find(argv[2]) != std::string::npos) all.push_back(std::move(c));
    }
  }
  fmt::print("cuDNN {}\n{:<44} {:<5} {:<7} {:>10} {:>7} {:>12} {:>7}\n", cudnnGetVersion(), "graph", "dtype",
             "arch", "candidates", "engine", "workspace", "seconds");
  int wrong = 0;
  for (const DeviceSpec& device : devices) {
    const DnnDescriptor properties = dnn_device_properties(properties_json(device));
    for (const Case& c : all) wrong += !plan(c, device, properties);
  }
  fmt::print("{} plans, {} not as expected\n", all.size() * devices.size(), wrong);
  return wrong ? 1 : 0;
}
