// Every registered op, every sample: gradients of first and second order, dtypes, layouts, passes, errors.
#include <doctest/doctest.h>

#include "autograd/device.h"
#include "autograd/engine.h"
#include "autograd/op_checks.h"
#include "tests/device.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// Calls check(op) for every op.
void for_each_op(const std::function<void(const OpInfo&)>& check) {
  for (const OpInfo& op : registered_ops()) {
    INFO("op ", op.name);
    try {
      check(op);
    } catch (const Error& error) {
      FAIL_CHECK(std::string(error.what()));
    }
  }
}

void expect(const OpCheck& check) {
  INFO(std::string(name_of(check.dtype)), ", ", check.what, ", allowed ", check.allowed);
  for (const std::string& failure : check.failures) FAIL_CHECK(failure);
  CHECK(check.passed());
}

// Calls check(op, sample) for every sample of every op in `dtype`.
void for_each_sample(DType dtype, const std::function<void(const OpInfo&, const Sample&)>& check) {
  for (const OpInfo& op : registered_ops()) {
    for (const Sample& sample : samples_of(op, dtype)) {
      INFO("op ", op.name, ", sample '", sample.label, "'");
      try {
        check(op, sample);
      } catch (const Error& error) {
        FAIL_CHECK(std::string(error.what()));
      }
    }
  }
}

bool is_float(const Tensor& x) { return x.defined() && is_floating(x.dtype()); }
bool has_floats(const Tensors& inputs) { return std::any_of(inputs.begin(), inputs.end(), is_float); }

Tensors as_leaves(const Tensors& inputs, uint64_t subset = ~uint64_t{0}) {
  Tensors result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& x = inputs[i];
    result.push_back(is_float(x) && (subset >> i & 1) ? x.detach().clone().requires_grad_() : x);
  }
  return result;
}

// The cotangents of the inputs for the cotangent v; undefined for inputs without a gradient.
Tensors vjp(const Function& f, const Tensors& inputs, const Tensor& v, uint64_t subset = ~uint64_t{0}) {
  const Tensors leaves = as_leaves(inputs, subset);
  f(leaves).backward(v);
  Tensors result;
  for (const Tensor& x : leaves)
    result.push_back(x.defined() && x.requires_grad() && !x.grad().defined() ? zeros_like(x)
                     : x.defined()                                           ? x.grad()
                                                                             : Tensor());
  return result;
}

}  // namespace

TEST_CASE("every op has samples and error samples") {
  for (const OpInfo& op : registered_ops()) CHECK(registration_defects(op) == "");
}

TEST_CASE("gradients agree with central differences, to second order where declared") {
  for_each_op([](const OpInfo& op) {
    if (op.differentiable) expect(check_gradients(op, device()));
  });
}

TEST_CASE("the gradient is linear in the cotangent, and the same for every subset of inputs that need one") {
  for_each_sample(DType::f64, [](const OpInfo& op, const Sample& sample) {
    if (!op.differentiable || !has_floats(sample.inputs)) return;
    const Tensor y = sample.function(sample.inputs);
    const Tensor v = cotangent_like(y, 3), w = cotangent_like(y, 4);
    const Tensors all = vjp(sample.function, sample.inputs, v);
    const Tensors other = vjp(sample.function, sample.inputs, w);
    const Tensors both = vjp(sample.function, sample.inputs, v.clone().mul_(2).add_(w, -3));
    for (size_t i = 0; i < all.size(); ++i) {
      if (!is_float(sample.inputs[i])) continue;
      const Closeness linear = close(both[i], all[i].clone().mul_(2).add_(other[i], -3), 1e-10);
      CHECK_MESSAGE(linear.close, "linear, input ", i, ": ", linear.message);
      const Tensors alone = vjp(sample.function, sample.inputs, v, uint64_t{1} << i);
      CHECK_MESSAGE(same_bits(alone[i], all[i]), "only input ", i, " needs a gradient");
      for (size_t k = 0; k < alone.size(); ++k) CHECK_MESSAGE((k == i || !alone[k].defined()), "input ", k);
    }
  });
}

TEST_CASE("layout does not matter, and nothing depends on old memory contents") {
  for_each_sample(DType::f64, [](const OpInfo& op, const Sample& sample) {
    const Tensor y = sample.function(sample.inputs);
    const Tensor v = is_float(y) ? cotangent_like(y, 5) : Tensor();
    const bool gradients = op.differentiable && has_floats(sample.inputs);
    const Tensors g = gradients ? vjp(sample.function, sample.inputs, v) : Tensors();
    for (int fill : {0x00, 0x7f, 0xff}) {
      set_allocation_fill(fill);
      const Tensor again = sample.function(sample.inputs);
      const Tensors g2 = gradients ? vjp(sample.function, sample.inputs, v) : Tensors();
      set_allocation_fill(-1);
      CHECK_MESSAGE(same_bits(again, y), "two runs differ, fill ", fill);
      for (size_t i = 0; i < g2.size(); ++i) {
        if (is_float(sample.inputs[i]))
          CHECK_MESSAGE(same_bits(g2[i], g[i]), "two gradients differ, input ", i);
      }
    }
    Tensors strided;
    for (const Tensor& x : sample.inputs) strided.push_back(x.defined() ? strided_copy(x) : x);
    const Closeness forward = close(sample.function(strided), y, 1e-12);
    CHECK_MESSAGE(forward.close, "strided inputs: ", forward.message);
    if (!gradients) return;
    const Tensors leaves = as_leaves(strided);
    sample.function(leaves).backward(strided_copy(v));
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!is_float(leaves[i])) continue;
      const Closeness c =
          close(leaves[i].grad().defined() ? leaves[i].grad() : zeros_like(leaves[i]), g[i], 1e-12);
      CHECK_MESSAGE(c.close, "strided gradient, input ", i, ": ", c.message);
    }
  });
}

TEST_CASE("an op means the same in every pass: m passes equal m single passes, shared inputs mixed in") {
  static constexpr int m = 3;
  for_each_sample(DType::f64, [](const OpInfo& op, const Sample& sample) {
    if (op.crosses_passes || op.draws_noise || !has_floats(sample.inputs)) return;
    for (size_t shared = 0; shared <= sample.inputs.size(); ++shared) {  // the last round shares nothing
      Tensors inputs = sample.inputs;
      bool any = false;
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (i == shared || !is_float(inputs[i])) continue;
        inputs[i] = several_passes(inputs[i], m, 11 + i);
        any = true;
      }
      if (!any) continue;
      auto one = [&](int pass) {
        Tensors single;
        for (const Tensor& x : inputs) single.push_back(x.defined() ? x.detach().pass(pass) : x);
        return single;
      };
      const Tensor y = sample.function(inputs);
      REQUIRE(y.passes() == m);
      CHECK(y.shape() == sample.function(sample.inputs).shape());
      const Tensor v = is_float(y) ? cotangent_like(y, 6) : Tensor();
      for (int pass = 0; pass < m; ++pass) {
        const Closeness c = close(y.detach().pass(pass), sample.function(one(pass)), 1e-11);
        CHECK_MESSAGE(c.close, "pass ", pass, ", shared input ", shared, ": ", c.message);
      }
      if (!op.differentiable) continue;
      const Tensors g = vjp(sample.function, inputs, v);
      std::vector<Tensors> parts;
      for (int pass = 0; pass < m; ++pass) parts.push_back(vjp(sample.function, one(pass), v.pass(pass)));
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (!is_float(inputs[i])) continue;
        Tensor expected = parts[0][i].clone();
        for (int pass = 1; pass < m && inputs[i].passes() == 1; ++pass) expected.add_(parts[pass][i]);
        if (inputs[i].passes() == m) {
          Tensors each;
          for (int pass = 0; pass < m; ++pass) each.push_back(parts[pass][i]);
          expected = stack_passes(each);
        }
        const Closeness c = close(g[i], expected, 1e-10);
        CHECK_MESSAGE(c.close, "gradient of input ", i, ", shared input ", shared, ": ", c.message);
      }
    }
  });
}

TEST_CASE("f32 and bf16 agree with f64") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for_each_op([&](const OpInfo& op) {
      if (std::find(op.dtypes.begin(), op.dtypes.end(), dtype) == op.dtypes.end()) return;
      expect(check_precision(op, dtype, device()));
    });
  }
}

TEST_CASE("a fused vjp refuses to be differentiated again, naming itself") {
  for_each_sample(DType::f64, [](const OpInfo& op, const Sample& sample) {
    if (!op.differentiable || op.second_order || !has_floats(sample.inputs)) return;
    const Tensors leaves = as_leaves(sample.inputs);
    const Tensor y = sample.function(leaves);
    if (!y.requires_grad()) return;
    CHECK_THROWS_AS(y.backward(cotangent_like(y, 2), {.create_graph = true}), AutogradError);
  });
}

TEST_CASE("bad input is a typed error that says what is wrong") {
  for (const OpInfo& op : registered_ops()) {
    for (const ErrorSample& sample : op.errors()) {
      INFO("op ", op.name, ", error '", sample.label, "'");
      try {
        sample.call();
        FAIL_CHECK("nothing was thrown");
      } catch (const std::exception& error) {
        CHECK_MESSAGE(sample.is_type(error), "another type of exception: ", std::string(error.what()));
        CHECK_MESSAGE(std::string(error.what()).find(sample.message) != std::string::npos,
                      "message: ", std::string(error.what()), "; expected: ", sample.message);
      }
    }
  }
}
