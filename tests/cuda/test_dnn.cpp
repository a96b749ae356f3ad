// What cuDNN computes on the device, or our own kernels in its place, against the ops of the CPU: forward and
// backward, with everything given to the library that it takes, and with nothing.
#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "autograd/engine.h"
#include "autograd/registry.h"
#include "ops/ops.h"
#include "tests/cuda/cudnn_use.h"
#include "tests/cuda/simulator.h"
#include "tests/device.h"

using namespace tandem;
using testing::CudnnUse;
using testing::device, testing::Simulator, testing::simulator, testing::simulator_or_message;

namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

double tolerance(DType dtype) { return dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 4e-6 : 1.2e-2; }

double relative_distance(const Tensor& a, const Tensor& b) {
  const auto x = a.to(kCpu).to_vector<double>(), y = b.to_vector<double>();
  REQUIRE(x.size() == y.size());
  double distance = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) distance += std::pow(x[i] - y[i], 2), size += y[i] * y[i];
  return std::sqrt(distance) / std::max(1e-3, std::sqrt(size));
}

// How many plans of the library were run. The simulator counts them; of a real device, any number is right.
struct Plans {
  uint64_t run = simulator() ? simulator()->dnn_executions() : 0;
  bool operator==(uint64_t expected) const { return !simulator() || run == expected; }
};

// f of the inputs there and here, values and gradients, whatever is given to the library. How many plans of
// it that took, where it was given all that it takes.
Plans compare(DType dtype, const Tensors& inputs, const std::function<Tensor(const Tensors&)>& f) {
  const auto leaves = [&](Device where) {
    Tensors all;
    for (const Tensor& x : inputs)
      all.push_back(x.defined() ? x.detach().to(where).clone().requires_grad_() : x);
    return all;
  };
  const Tensors here = leaves(kCpu);
  const Tensor expected = f(here);
  SampleMaker make(9, dtype, kCpu);
  Tensor v = make.normal(expected.shape());
  if (expected.passes() > 1) {
    Tensors each;
    for (int i = 0; i < expected.passes(); ++i) each.push_back(make.normal(expected.shape()));
    v = stack_passes(each);
  }
  expected.backward(v);
  Plans plans;
  for (const bool by_library : {true, false}) {
    const CudnnUse use(by_library ? "always" : "never");
    const Plans before;
    const Tensors there = leaves(device());
    const Tensor y = f(there);
    CHECK(y.device() == device());
    CHECK(relative_distance(y, expected) <= tolerance(dtype));
    y.backward(v.to(device()));
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].defined())
        CHECK_MESSAGE(relative_distance(there[i].grad(), here[i].grad()) <= tolerance(dtype),
                      "gradient of input ", i, by_library ? ", by the library" : ", by our own kernels");
    }
    const Plans run{Plans().run - before.run};
    if (by_library) {
      plans = run;
    } else {
      CHECK(run == 0);
    }
  }
  return plans;
}

// Sets what the simulated cuDNN alone knows (tests/cudasim/libraries/cudnn_count.h), until this ends.
template <class T> class Setting {
 public:
  Setting(const char* name, T value) : set_(reinterpret_cast<void (*)(T)>(dlsym(RTLD_DEFAULT, name))) {
    const bool found = set_ != nullptr;
    REQUIRE(found);
    set_(value);
  }
  ~Setting() { set_(0); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  void (*set_)(T);
};

Tensor in_passes(const std::function<Tensor()>& make, int passes) {
  Tensors all;
  for (int i = 0; i < passes; ++i) all.push_back(make());
  return stack_passes(all);
}

}  // namespace

TEST_CASE("dnn: conv2d with strides, padding, dilation and groups") {
  for (const DType dtype : kFloats) {
    SampleMaker make(1, dtype, kCpu);
    const auto check = [&](const Shape& x, const Shape& w, const Conv2dOptions& options, bool bias = true) {
      INFO(std::string(name_of(dtype)), " ", fmt::format("{} {}", x, w));
      const Plans plans =
          compare(dtype, {make.normal(x), make.normal(w), bias ? make.normal({w[0]}) : Tensor()},
                  [&](const Tensors& in) { return conv2d(in[0], in[1], in[2], options); });
      CHECK(plans == (x[0] > 0 ? 3 : 0));
    };
    check({2, 3, 8, 7}, {4, 3, 3, 3}, {.padding = {1, 1}});
    check({2, 3, 8, 7}, {4, 3, 3, 3}, {.padding = {1, 1}}, false);
    check({3, 2, 9, 8}, {5, 2, 3, 2}, {.stride = {2, 3}, .padding = {1, 0}});
    check({1, 2, 9, 9}, {2, 2, 3, 2}, {.padding = {2, 1}, .dilation = {2, 3}});
    check({2, 6, 5, 5}, {4, 3, 2, 2}, {.stride = {1, 2}, .groups = 2});
    check({2, 4, 6, 6}, {4, 1, 3, 3}, {.padding = {1, 1}, .groups = 4});
    check({2, 5, 1, 1}, {3, 5, 1, 1}, {});
    check({3, 2, 14, 15}, {7, 2, 2, 3}, {.padding = {1, 1}});  // more positions than a block has threads
    check({0, 2, 3, 3}, {2, 2, 2, 2}, {});
  }
}

TEST_CASE("dnn: conv2d adds its bias itself where the library does not") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  sim->dnn_fuses_bias(false);
  for (const DType dtype : kFloats) {
    SampleMaker make(1, dtype, kCpu);
    const auto conv = [](const Tensors& in) { return conv2d(in[0], in[1], in[2], {.padding = {1, 1}}); };
    CHECK(compare(dtype, {make.normal({3, 2, 13, 15}), make.normal({7, 2, 2, 3}), make.normal({7})}, conv) ==
          3);
  }
  sim->dnn_fuses_bias(true);
}

TEST_CASE("dnn: a plan that the library refuses to run is none") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  SampleMaker make(17, DType::f32, kCpu);
  const auto conv = [](const Tensors& in) { return conv2d(in[0], in[1]); };
  const Tensors inputs{make.normal({3, 4, 9, 7}), make.normal({5, 4, 3, 2})};
  sim->dnn_refuses(true);
  CHECK(compare(DType::f32, inputs, conv) == 0);
  sim->dnn_refuses(false);
  CHECK(compare(DType::f32, inputs, conv) == 0);  // it is not asked again
}

TEST_CASE("dnn: where there is no room for a plan's workspace, our own kernels do it") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  SampleMaker make(18, DType::f32, kCpu), of_bf16(19, DType::bf16, kCpu);
  const auto conv = [](const Tensors& in) { return conv2d(in[0], in[1]); };
  const auto attend = [](const Tensors& in) { return attention(in[0], in[0], in[0]); };
  {
    const Setting more("cudasim_dnn_workspace", int64_t{1} << 40);
    CHECK(compare(DType::f32, {make.normal({3, 4, 8, 7}), make.normal({5, 4, 2, 3})}, conv) == 0);
    CHECK(compare(DType::bf16, {of_bf16.normal({1, 3, 11, 16})}, attend) == 0);
  }
  CHECK(compare(DType::f32, {make.normal({3, 4, 8, 6}), make.normal({5, 4, 2, 3})}, conv) == 3);
}

TEST_CASE("dnn: planning that fails is no plan, and the fallback's engines are asked for, too") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  SampleMaker make(20, DType::f32, kCpu);
  int64_t width = 20;  // of shapes that were not planned before
  const auto planned = [&] {
    return compare(DType::f32, {make.normal({1, 2, 3, width++}), make.normal({3, 2, 2, 2})},
                   [](const Tensors& in) { return conv2d(in[0], in[1]); });
  };
  for (const int status : {3000, 2000, 4000}) {  // not supported, a bad parameter, an internal error
    INFO(status);
    {
      const Setting graph("cudasim_dnn_graph_status", status);
      CHECK(planned() == 0);
    }
    const Setting heuristics("cudasim_dnn_heuristics_status", status);
    CHECK(planned() == 3);
  }
  const Setting broken("cudasim_dnn_graph_status", 5000);  // an execution that failed: the device's
  CHECK_THROWS_AS(planned(), DeviceError);
}

TEST_CASE("dnn: conv2d in mixed precision, of passes, and of a view") {
  SampleMaker make(2, DType::f32, kCpu);
  const Tensor x = make.normal({2, 3, 6, 6}).to(DType::bf16), w = make.normal({4, 3, 3, 3}),
               b = make.normal({4});
  const auto conv = [](const Tensors& in) { return conv2d(in[0], in[1], in[2], {.padding = {1, 1}}); };
  CHECK(compare(DType::bf16, {x, w, b}, conv) == 3);
  compare(DType::f32, {in_passes([&] { return make.normal({2, 3, 5, 4}); }, 3), w, b}, conv);
  // Four bytes into a block: the library has copies.
  const auto behind_one = [](const Tensor& x, const Shape& shape) {
    return x.slice(0, 1, 1 + shape.numel()).reshape(shape);
  };
  const Shape images{2, 3, 5, 4}, weights{4, 3, 3, 3};
  CHECK(
      compare(DType::f32,
              {make.normal({1 + images.numel()}), make.normal({1 + weights.numel()}), make.normal({5})},
              [&](const Tensors& in) {
                return conv({behind_one(in[0], images), behind_one(in[1], weights), behind_one(in[2], {4})});
              }) == 3);
}

TEST_CASE("dnn: conv2d of f32 is f32 unless TF32 is allowed") {
  SampleMaker make(12, DType::f32, kCpu);
  // A real library computes small ones in f32 also where TF32 is allowed.
  const Shape images = simulator() ? Shape{2, 3, 6, 6} : Shape{32, 128, 56, 56},
              weights = simulator() ? Shape{4, 3, 3, 3} : Shape{128, 128, 3, 3};
  const Tensor x = make.normal(images), w = make.normal(weights), expected = conv2d(x, w);
  const auto distance = [&] { return relative_distance(conv2d(x.to(device()), w.to(device())), expected); };
  CHECK(distance() < 1e-6);
  set_allow_tf32(true);
  const double rounded = distance();
  set_allow_tf32(false);
  CHECK(rounded > 1e-5);
  CHECK(rounded < 1e-3);
}

TEST_CASE("dnn: conv2d can be differentiated twice on the device") {
  SampleMaker make(3, DType::f64, kCpu);
  const Tensor x = make.normal({1, 2, 4, 4}), w = make.normal({2, 2, 2, 2});
  const auto penalty = [&](Device where) {
    const Tensor a = x.to(where).clone().requires_grad_(), b = w.to(where).clone().requires_grad_();
    const Tensor y = square(conv2d(a, b)).sum();
    square(grad(y, {a}, {}, {.create_graph = true})[0]).sum().backward();
    return std::pair{a.grad().to(kCpu), b.grad().to(kCpu)};
  };
  const auto here = penalty(kCpu), there = penalty(device());
  CHECK(relative_distance(there.first, here.first) < 1e-12);
  CHECK(relative_distance(there.second, here.second) < 1e-12);
}

TEST_CASE("dnn: attention of bf16 without mask and dropout, in the layouts that layers have") {
  SampleMaker make(11, DType::bf16, kCpu);
  for (const bool causal : {false, true}) {
    const auto attend = [causal](const Tensor& q, const Tensor& k, const Tensor& v) {
      return attention(q, k, v, {.causal = causal});
    };
    // One projection for the three, heads beside the columns.
    CHECK(compare(DType::bf16, {make.normal({2, 7, 3, 4, 8})}, [&](const Tensors& in) {
            const Tensor heads = in[0].permute({2, 0, 3, 1, 4});
            return attend(heads.select(0, 0), heads.select(0, 1), heads.select(0, 2));
          }) == 2);
    // Dense heads, other keys than queries, values of another size; in passes, some of them shared.
    const auto q = [&] { return make.normal({2, 3, 5, 16}); };
    const Tensor k = make.normal({2, 3, 9, 16}), v = make.normal({2, 3, 9, 8});
    const auto dense = [&](const Tensors& in) { return attend(in[0], in[1], in[2]); };
    CHECK(compare(DType::bf16, {q(), k, v}, dense) == 2);
    CHECK(compare(DType::bf16, {in_passes(q, 3), k, v}, dense) == 6);
    CHECK(compare(DType::bf16,
                  {make.normal({1, 2, 4, 12}), make.normal({1, 2, 4, 12}), make.normal({1, 2, 4, 8})},
                  dense) == 0);
  }
}

TEST_CASE("dnn: attention whose heads share keys and values, in one place of memory, is our own kernels'") {
  SampleMaker make(21, DType::bf16, kCpu);
  const auto shared = [](const Tensors& in) {
    const Shape all{2, 3, 9, 16};
    return attention(in[0], in[1].expand(all), in[2].expand(all));
  };
  CHECK(compare(DType::bf16,
                {make.normal({2, 3, 5, 16}), make.normal({2, 1, 9, 16}), make.normal({2, 1, 9, 16})},
                shared) == 0);
}

TEST_CASE("dnn: attention's gradient for one of its inputs alone") {
  SampleMaker make(13, DType::bf16, kCpu);
  const Tensors all{make.normal({1, 2, 4, 8}), make.normal({1, 2, 6, 8}), make.normal({1, 2, 6, 8})};
  for (size_t one = 0; one < 3; ++one) {
    const auto gradient = [&](Device where) {
      Tensors in;
      for (const Tensor& x : all) in.push_back(x.to(where).clone());
      in[one].requires_grad_();
      const Tensor y = attention(in[0], in[1], in[2]);
      y.backward(all[0].to(where));
      return in[one].grad().to(kCpu);
    };
    CHECK(relative_distance(gradient(device()), gradient(kCpu)) < tolerance(DType::bf16));
  }
}

TEST_CASE("dnn: attention's gradient where the library made the output, but does not take the cotangent") {
  SampleMaker make(14, DType::bf16, kCpu);
  const Tensor x = make.normal({1, 2, 4, 8}), column = make.normal({1, 2, 4, 1});
  const auto gradient = [&](Device where) {
    const Tensor in = x.to(where).clone().requires_grad_();
    attention(in, in, in).backward(column.to(where).expand(x.shape()));  // its columns lie in one place
    return in.grad().to(kCpu);
  };
  const CudnnUse use("always");
  const Simulator* sim = simulator_or_message();
  const uint64_t before = sim ? sim->dnn_executions() : 0;
  const Tensor on_device = gradient(device());
  if (sim) CHECK(sim->dnn_executions() - before == 1);
  CHECK(relative_distance(on_device, gradient(kCpu)) < tolerance(DType::bf16));
}

TEST_CASE(
    "dnn: attention's gradient by the library of our own output, and by our own kernels of the library's") {
  SampleMaker make(15, DType::bf16, kCpu);
  const Tensor x = make.normal({1, 2, 20, 8}), v = make.normal(x.shape());
  const auto gradient = [&](Device where, const char* forward, const char* backward) {
    const Tensor in = x.to(where).clone().requires_grad_();
    const auto y = [&] {
      const CudnnUse use(forward);
      return attention(in, in, in, {.causal = true});
    }();
    const CudnnUse use(backward);
    y.backward(v.to(where));
    return in.grad().to(kCpu);
  };
  const Tensor expected = gradient(kCpu, "never", "never");
  for (const bool by_library : {true, false}) {
    const char *forward = by_library ? "always" : "never", *backward = by_library ? "never" : "always";
    CHECK(relative_distance(gradient(device(), forward, backward), expected) < tolerance(DType::bf16));
  }
}

TEST_CASE("dnn: an epoch of texts, each batch of another length, waits for no plans") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  const double before = sim->dnn_planning_seconds();
  const int64_t tokens = 1024, heads = 4, dim = 8;  // of a batch, about
  for (int64_t length = 10; length < 50; ++length) {
    const Shape shape{tokens / length, heads, length, dim};
    const Tensor x = zeros(shape, {DType::bf16, device()}).requires_grad_();
    attention(x, x, x, {.causal = true}).backward(zeros(shape, {DType::bf16, device()}));
  }
  CHECK(sim->dnn_planning_seconds() - before < 5);
}

TEST_CASE("dnn: attention of one shape is planned once, however often it runs") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  const CudnnUse use("always");
  SampleMaker make(16, DType::bf16, kCpu);
  const double before = sim->dnn_planning_seconds();
  const uint64_t run = sim->dnn_executions();
  for (int i = 0; i < 5; ++i) {
    const auto heads = [&] { return make.normal({3, 2, 10, 24}).to(device()).requires_grad_(); };
    const Tensor y = attention(heads(), heads(), heads(), {.causal = true});
    y.backward(make.normal(y.shape()).to(device()));
  }
  CHECK(sim->dnn_executions() - run == 10);
  CHECK(sim->dnn_planning_seconds() - before == doctest::Approx(0.35 + 0.33));  // a forward and a backward
}

TEST_CASE("dnn: work of the library is recorded, and done again on what is there then") {
  Backend& backend = tandem::backend(device());
  SampleMaker make(10, DType::f32, kCpu);
  const Tensor w = make.normal({4, 3, 3, 3}).to(device()), b = make.normal({4}).to(device());
  const Tensor x = make.normal({2, 3, 6, 6}).to(device()), out = zeros({2, 4, 3, 3}, {DType::f32, device()});
  const auto work = [&](const Tensor& in) {
    return avg_pool2d(conv2d(in, w, b, {.padding = {1, 1}}), {2, 2});
  };
  backend.begin_recording();
  out.copy_(work(x));
  const std::unique_ptr<Recording> recording = backend.end_recording();
  for (int i = 0; i < 2; ++i) {
    const Tensor next = make.normal({2, 3, 6, 6});
    x.copy_(next.to(device()));
    recording->replay();
    CHECK(relative_distance(out, work(next.to(device())).to(kCpu)) < 1e-6);
  }
}

TEST_CASE("dnn: an error of the library names the op, the call and the sizes") {
  const Simulator* sim = simulator_or_message();
  if (!sim) return;
  const Tensor x = zeros({2, 3, 6, 6}, {DType::f32, device()}),
               w = zeros({4, 3, 3, 3}, {DType::f32, device()});
  conv2d(x, w);  // its plan and its memory are there from now on
  backend(device()).synchronize();
  sim->break_device();
  try {
    conv2d(x, w);
    FAIL("nothing was thrown");
  } catch (const DeviceError& error) {
    const std::string message = error.what();
    INFO(message);
    for (const char* part :
         {"conv2d: cuDNN: cudnnBackendExecute returned CUDNN_STATUS_EXECUTION_FAILED_CUDART",
          "convolution f32, x [2,3,6,6], 4 outputs of 3x3, stride 1x1"})
      CHECK(message.find(part) != std::string::npos);
  }
  sim->reset_reports();
}
