// The registry of operators. Registering an op enters it into the gradient checks, the error tests, the
// device comparison, the benchmarks and the op table: no list elsewhere names it.
//
//   const RegisterOp exp_op("exp", [](OpCases& c) {
//     c.sample("3x4", {c.normal({3, 4})}, call(exp));
//     c.fails<DTypeError>("i64", "exp: expected a floating dtype", [] { exp(zeros({2}, {DType::i64})); });
//   });
//
// A sample's function of two tensors and an attribute:
//
//   c.sample("rows", {c.normal({3, 5}), c.normal({5})},
//            [](const Tensors& in) { return squared_distance(in[0], in[1], /*dim=*/1); });
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem {

// Makes the tensors of samples: seeded, of the dtype and device that is being tested.
class SampleMaker {
 public:
  SampleMaker(uint64_t seed, DType dtype, Device device) : seed_(seed), dtype_(dtype), device_(device) {}

  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  Tensor normal(const Shape& shape);                            // N(0, 1)
  Tensor uniform(const Shape& shape, double low, double high);  // in [low, high)
  Tensor distinct(const Shape& shape);  // no two closer than 0.1, nor 0.01 to an earlier one's: for max, sort
  Tensor away_from_zero(const Shape& shape);                       // |x| in [0.2, 1.5]: for kinks at 0
  Tensor integers(const Shape& shape, int64_t low, int64_t high);  // i64 in [low, high)
  Tensor mask(const Shape& shape, double keep = 0.7);              // bool

 private:
  uint64_t seed_;
  DType dtype_;
  Device device_;
};

// An op with its attributes bound: a function of tensors alone.
using Function = std::function<Tensor(const Tensors&)>;

// One call that must work, and whose gradients are checked.
struct Sample {
  std::string label;  // what is particular about it: "a row of one", "strided"
  Tensors inputs;     // gradients are checked for those of a floating dtype
  Function function;  // applies the op with this sample's attributes
};
using Samples = std::vector<Sample>;

// A call that must throw `Exception` with a message that contains `message`.
struct ErrorSample {
  std::string label;  // as of a Sample
  std::function<void()> call;
  std::string message;
  std::function<bool(const std::exception&)> is_type;  // whether an exception is an `Exception`
};
using ErrorSamples = std::vector<ErrorSample>;

// What a registration states of its op: samples, whose tensors it makes, and calls that must fail.
class OpCases : public SampleMaker {
 public:
  explicit OpCases(const SampleMaker& make) : SampleMaker(make) {}

  // `function` applies the op to `inputs` with this sample's attributes.
  void sample(std::string label, Tensors inputs, Function function) {
    samples.push_back({std::move(label), std::move(inputs), std::move(function)});
  }
  // That must throw an E with a message that contains `message`, as must `call`.
  template <class E> void fails(std::string label, std::string message, Tensors inputs, Function function) {
    fails<E>(std::move(label), std::move(message), [=] { function(inputs); });
  }
  template <class E> void fails(std::string label, std::string message, std::function<void()> call) {
    errors.push_back({std::move(label), std::move(call), std::move(message),
                      [](const std::exception& e) { return dynamic_cast<const E*>(&e) != nullptr; }});
  }

  Samples samples;      // so far
  ErrorSamples errors;  // so far
};
using Cases = std::function<void(OpCases&)>;

// How the suite treats an op.
struct OpTraits {
  bool differentiable = true;   // false: the output is an index or a truth value
  bool second_order = true;     // false: the vjp is a fused kernel
  bool crosses_passes = false;  // true for losses, which compare passes, and for what makes passes of
                                // tensors and back; all others mean the same in every pass
  bool draws_noise = false;     // needs a PassContext
  std::vector<DType> dtypes = {DType::f64, DType::f32, DType::bf16};  // of the floating inputs
  double f32_tolerance = 2e-5;   // against f64, relative to the norm of the result
  double bf16_tolerance = 3e-2;  // the same
  std::string no_errors = {};    // why there are no error samples; without a reason there must be some
};

// A registered op.
struct OpInfo : OpTraits {
  std::string name;  // as Op::name()
  Cases cases;       // states its samples

  Samples samples(const SampleMaker& make) const;  // of the dtype and device of `make`
  ErrorSamples errors() const;                     // on the CPU
};

// All registered ops, by name. A ConfigError naming the op when it is unknown or registered twice.
const std::vector<OpInfo>& registered_ops();
const OpInfo& find_op(const std::string& name);

// A global of this type registers the op `name` when its library is loaded.
struct RegisterOp {
  RegisterOp(std::string name, Cases cases, OpTraits traits = {});
};

// Loads a shared library, linked against this one, into the process for good: its RegisterOp objects register
// what it brings, whose names are returned (none when it was loaded before). IoError when the file cannot be
// loaded; ConfigError when it registers an op whose name is taken.
std::vector<std::string> load_library(const std::string& file);
// The same of a library of ops: ConfigError when it registers none.
std::vector<std::string> load_ops(const std::string& file);
// The names of all ops that were loaded so.
const std::vector<std::string>& loaded_ops();

// call(exp): a unary or binary function as a sample's Function.
inline Function call(Tensor (*f)(const Tensor&)) {
  return [f](const Tensors& in) { return f(in[0]); };
}
inline Function call(Tensor (*f)(const Tensor&, const Tensor&)) {
  return [f](const Tensors& in) { return f(in[0], in[1]); };
}
// bound(softmax)(-1): a function of one tensor and attributes; those that are tensors go to the device of
// in[0].
inline Tensor attribute_of(const Tensor& in, const Tensor& t) { return t.defined() ? t.to(in.device()) : t; }
template <class A> const A& attribute_of(const Tensor&, const A& attribute) { return attribute; }
template <class... A> auto bound(Tensor (*f)(const Tensor&, A...)) {
  return [f](std::decay_t<A>... attributes) -> Function {
    return [=](const Tensors& in) { return f(in[0], attribute_of(in[0], attributes)...); };
  };
}

}  // namespace tandem
