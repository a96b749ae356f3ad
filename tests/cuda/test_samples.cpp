// Every sample of every registered op on the device against the CPU: values and gradients, in all dtypes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/engine.h"
#include "ops/join.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"
#include "tests/cuda/simulator.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

bool is_float(const Tensor& x) { return x.defined() && is_floating(x.dtype()); }

// What an operator may lack on the device, with the reason; everything else must be there.
struct Hole {
  std::string op;
  DType dtype;
  std::string reason;
};
const std::vector<Hole> kHoles = {};

bool is_hole(const OpInfo& op, DType dtype) {
  return std::any_of(kHoles.begin(), kHoles.end(),
                     [&](const Hole& h) { return h.op == op.name && h.dtype == dtype; });
}

double tolerance(const OpInfo& op, DType dtype) {
  return dtype == DType::f64 ? 1e-11 : dtype == DType::f32 ? op.f32_tolerance : op.bf16_tolerance;
}

// The gradients of a product with the gradients; none where these do not depend on the inputs.
Tensors second_gradients(const Sample& sample, const Tensors& leaves) {
  Tensors wanted;
  for (const Tensor& x : leaves)
    if (is_float(x)) wanted.push_back(x);
  const Tensor y = sample.function(leaves);
  const Tensors first =
      grad(y, wanted, cotangent_like(y.detach().to(kCpu), 8).to(y.device()), {.create_graph = true});
  Tensor product;
  for (size_t i = 0; i < first.size(); ++i) {
    if (!first[i].requires_grad()) continue;
    const Tensor v = cotangent_like(first[i].detach().to(kCpu), 20 + i).to(y.device());
    const Tensor term = sum(first[i] * v).passes_as_batch().sum();
    product = product.defined() ? product + term : term;
  }
  if (!product.defined()) return {};
  return grad(product, wanted);
}

void compare_second(const OpInfo& op, DType dtype, const Sample& sample) {
  const Tensors host = second_gradients(sample, leaves_on(kCpu, sample.inputs, true)),
                there = second_gradients(sample, leaves_on(device(), sample.inputs, true));
  REQUIRE(host.size() == there.size());
  double total = 0;
  for (const Tensor& g : host)
    for (const double value : g.to_vector<double>()) total += value * value;
  for (size_t i = 0; i < host.size(); ++i) {
    const Closeness c =
        close(there[i].to(kCpu), host[i], 2 * tolerance(op, dtype), std::max(1e-3, 1e-2 * std::sqrt(total)));
    CHECK_MESSAGE(c.close, "second gradient ", i, ": ", c.message);
  }
}

void compare(const OpInfo& op, DType dtype, const Sample& sample, bool second = true) {
  const bool differentiable =
      op.differentiable && std::any_of(sample.inputs.begin(), sample.inputs.end(), is_float);
  const Tensors host = leaves_on(kCpu, sample.inputs, differentiable),
                there = leaves_on(device(), sample.inputs, differentiable);
  const Tensor expected = sample.function(host), y = sample.function(there);
  CHECK(y.device() == device());
  const Closeness forward = close(y.to(kCpu), expected, tolerance(op, dtype));
  CHECK_MESSAGE(forward.close, forward.message);
  if (!differentiable || !y.requires_grad()) return;
  const Tensor v = cotangent_like(expected, 8);
  expected.backward(v);
  y.backward(v.to(device()));
  double total = 0;
  for (const Tensor& x : host) {
    if (!is_float(x) || !x.grad().defined()) continue;
    for (double g : x.grad().to_vector<double>()) total += g * g;
  }
  for (size_t i = 0; i < host.size(); ++i) {
    if (!is_float(host[i])) continue;
    REQUIRE(host[i].grad().defined() == there[i].grad().defined());
    if (!host[i].grad().defined()) continue;
    CHECK(there[i].grad().device() == device());
    const Closeness c = close(there[i].grad().to(kCpu), host[i].grad(), tolerance(op, dtype),
                              std::max(1e-3, 1e-3 * std::sqrt(total)));
    CHECK_MESSAGE(c.close, "gradient of input ", i, ": ", c.message);
  }
  if (second && op.second_order) compare_second(op, dtype, sample);
}

}  // namespace

TEST_CASE("device: every sample of every op gives what the CPU gives, forward and backward") {
  for (const OpInfo& op : registered_ops()) {
    SUBCASE(op.name.c_str()) {
      for (const DType dtype : op.dtypes) {
        if (is_hole(op, dtype)) continue;
        SampleMaker make(7, dtype, kCpu);
        for (const Sample& sample : op.samples(make)) {
          INFO("op ", op.name, ", sample '", sample.label, "', ", std::string(name_of(dtype)));
          try {
            compare(op, dtype, sample);
          } catch (const Error& error) {
            FAIL_CHECK(std::string(error.what()));
            if (simulator())
              simulator()
                  ->reset_reports();  // a device keeps its error: the next sample has a chance of its own
          }
        }
      }
    }
  }
}

namespace {

// A dense copy of x, its rows `times` times as long and five times as many: vectors of any dtype, several
// blocks.
Tensor repeated(const Tensor& x, int64_t times) {
  const Tensors beside(static_cast<size_t>(times), x), below(5, concat(beside, -1));
  return concat(below, 0);
}

bool of_one_shape(const Tensors& inputs) {
  return std::all_of(inputs.begin(), inputs.end(), [&](const Tensor& x) {
    return x.defined() && x.dim() > 0 && x.numel() > 0 && x.shape() == inputs[0].shape();
  });
}

}  // namespace

TEST_CASE("device: every sample of every op whose inputs may be larger does the same there, too") {
  for (const OpInfo& op : registered_ops()) {
    SUBCASE(op.name.c_str()) {
      for (const DType dtype : op.dtypes) {
        if (is_hole(op, dtype)) continue;
        SampleMaker make(7, dtype, kCpu);
        for (Sample& sample : op.samples(make)) {
          if (!of_one_shape(sample.inputs)) continue;
          INFO("op ", op.name, ", sample '", sample.label, "', ", std::string(name_of(dtype)));
          // As vectors; then one by one, in rows that fit none.
          for (const int64_t times : {int64_t{16}, int64_t{17}}) {
            Sample larger = sample;
            for (Tensor& x : larger.inputs) x = repeated(x.detach(), times);
            try {
              larger.function(larger.inputs);
            } catch (const Error&) {
              break;  // this sample's attributes fit its shapes alone
            }
            try {
              compare(op, dtype, larger, times == 16);  // smaller samples are no vectors
            } catch (const Error& error) {
              FAIL_CHECK(std::string(error.what()));
              if (simulator()) simulator()->reset_reports();
            }
          }
        }
      }
    }
  }
}

namespace {

// Here the CPU or a library multiplies by 0 what takes no part: padding, keys that are hidden or dropped (but
// see test_attention.cpp), the closed side of ReLU.
const std::vector<std::string> kMultiplyByZero = {"attention",    "attention_dropout",    "conv2d",
                                                  "feed_forward", "feed_forward_dropout", "self_attention",
                                                  "linear",       "packed_attention"};

// The value and the gradients of a sample, or the message of its error.
std::pair<Tensors, std::string> outcome(const Sample& sample, Device where, bool differentiable) {
  Tensors all;
  try {
    const Tensors leaves = leaves_on(where, sample.inputs, differentiable);
    const Tensor y = sample.function(leaves);
    all.push_back(y.detach().to(kCpu));
    if (!y.requires_grad()) return {all, ""};
    y.backward(cotangent_like(y.detach(), 8));
    for (const Tensor& x : leaves)
      if (is_float(x) && x.grad().defined()) all.push_back(x.grad().to(kCpu));
    return {all, ""};
  } catch (const Error& error) {
    if (where != kCpu && simulator()) simulator()->reset_reports();
    return {{}, error.what()};
  }
}

}  // namespace

TEST_CASE("device: NaN and infinity in any input of any op go where they go on the CPU") {
  for (const OpInfo& op : registered_ops()) {
    if (std::find(kMultiplyByZero.begin(), kMultiplyByZero.end(), op.name) != kMultiplyByZero.end()) continue;
    SUBCASE(op.name.c_str()) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        if (std::find(op.dtypes.begin(), op.dtypes.end(), dtype) == op.dtypes.end()) continue;
        SampleMaker make(7, dtype, kCpu);
        for (const Sample& sample : op.samples(make)) {
          for (size_t k = 0; k < sample.inputs.size(); ++k) {
            if (!is_float(sample.inputs[k]) || sample.inputs[k].numel() == 0) continue;
            for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
              INFO("op ", op.name, ", sample '", sample.label, "', ", std::string(name_of(dtype)), ", ",
                   value, " in input ", k);
              Sample spoilt = sample;
              const Tensor x = sample.inputs[k].detach().clone();
              reshape(x, {x.numel()}).select(0, x.numel() / 2).fill_(value);
              spoilt.inputs[k] = x;
              const auto [here, error_here] = outcome(spoilt, kCpu, op.differentiable);
              const auto [there, error_there] = outcome(spoilt, device(), op.differentiable);
              CHECK_MESSAGE(error_there.empty() == error_here.empty(), error_there, error_here);
              REQUIRE(there.size() == here.size());
              for (size_t i = 0; i < here.size(); ++i) {
                const Closeness c = close(there[i], here[i], 4 * tolerance(op, dtype));
                CHECK_MESSAGE(c.close, "result ", i, ": ", c.message);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("device: an input that stayed on the CPU is an error that names the op and both devices") {
  for (const OpInfo& op : registered_ops()) {
    SampleMaker make(7, op.dtypes.at(0), kCpu);
    for (const Sample& sample : op.samples(make)) {
      for (size_t i = 0; i < sample.inputs.size(); ++i) {
        Tensors inputs = leaves_on(device(), sample.inputs, false);
        if (!inputs[i].defined()) continue;
        inputs[i] = sample.inputs[i];
        if (std::none_of(inputs.begin(), inputs.end(),
                         [](const Tensor& x) { return x.defined() && x.device() == device(); }))
          continue;
        INFO("op ", op.name, ", sample '", sample.label, "', input ", i);
        try {
          sample.function(inputs);
          FAIL_CHECK("nothing was thrown");
        } catch (const DeviceError& error) {
          const std::string message = error.what();
          INFO(message);
          // Of an op composed of others, the first of those is named.
          CHECK(message.find(": inputs on different devices: ") != std::string::npos);
          CHECK(message.ends_with("; x.to(device) moves one"));
        } catch (const std::exception& error) {
          FAIL_CHECK(std::string(error.what()));
        }
      }
    }
  }
}

TEST_CASE("device: the simulation executes every instruction of every kernel") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  size_t kernels = 0;
  const char* problem = sim->check_all_kernels(&kernels);
  CHECK_MESSAGE(!problem, problem);
  CHECK(kernels > 1000);
}

TEST_CASE("device: what is said to be missing is missing") {
  for (const Hole& hole : kHoles) {
    INFO(hole.op, " ", std::string(name_of(hole.dtype)), ": ", hole.reason);
    SampleMaker make(7, hole.dtype, device());
    const Sample sample = find_op(hole.op).samples(make).at(0);
    CHECK_THROWS_AS(sample.function(sample.inputs), DeviceError);
  }
}
