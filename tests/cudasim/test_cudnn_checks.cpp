// What the simulated cuDNN refuses and reports.
#include <algorithm>
#include <array>

#include "autograd/registry.h"
#include "cuda/dnn_ops.h"
#include "dnn_harness.h"
#include "libraries/cudnn_count.h"
#include "ops/ops.h"

using namespace tandem;
using namespace tandem::cuda;
using namespace dnn_test;

namespace {

constexpr ConvShape kConv{.n = 2, .c = 2, .h = 5, .w = 4, .o = 4, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1};

// The status of the failure that `body` throws; success if none.
template <class Body> cudnnStatus_t status_of(Body&& body) {
  try {
    body();
  } catch (const DnnFailure& failure) {
    return failure.status;
  }
  return CUDNN_STATUS_SUCCESS;
}

// Reports are expected: printed they would look like failures.
struct Quiet {
  bool before = std::exchange(cudasim::options().print, false);
  Quiet() { cudasim::reset_reports(); }
  ~Quiet() {
    cudasim::reset_reports();
    cudasim::options().print = before;
  }
  static bool reported(const std::string& kind) {
    cudaDeviceSynchronize();
    return std::any_of(cudasim::reports().begin(), cudasim::reports().end(),
                       [&](const cudasim::Report& report) { return report.kind == kind; });
  }
};

// A convolution that is right, for one thing to be made wrong.
struct Case {
  Handle handle;
  DnnSearch found = find_dnn_plan({.handle = handle}, dnn_policy(DType::f32), 16,
                                  [](DnnGraph& graph) { conv_forward(graph, kConv, DType::f32, false); });
  SampleMaker make{1, DType::f32, kCpu};
  OnDevice x = OnDevice::input(make.normal({2, 2, 5, 4})), w = OnDevice::input(make.normal({4, 2, 3, 3})),
           y = OnDevice::output({2, 4, 5, 4}, DType::f32);
  DeviceArray<char> workspace{static_cast<size_t>(found.plan->workspace())};

  cudnnStatus_t run(std::vector<void*> tensors, void* room) {
    return status_of([&] { found.plan->execute(handle, tensors, room); });
  }
  cudnnStatus_t run() { return run({x.data(), w.data(), y.data()}, workspace.data()); }
};

}  // namespace

TEST_CASE("cudnn: pointers and the workspace are checked when a plan runs") {
  const Quiet quiet;
  Case c;
  CHECK(c.run() == CUDNN_STATUS_SUCCESS);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(cudasim::reports().empty());

  CHECK(c.run({c.x.data(), c.w.data(), c.y.data()}, nullptr) == CUDNN_STATUS_BAD_PARAM);
  CHECK(c.run({c.x.data(), nullptr, c.y.data()}, c.workspace.data()) == CUDNN_STATUS_BAD_PARAM);
  std::vector<float> host(1000);
  CHECK(c.run({host.data(), c.w.data(), c.y.data()}, c.workspace.data()) == CUDNN_STATUS_BAD_PARAM);
  CHECK(Quiet::reported("host pointer"));
  char* shifted = static_cast<char*>(c.x.data()) + 4;
  CHECK(c.run({shifted, c.w.data(), c.y.data()}, c.workspace.data()) ==
        CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  CHECK(Quiet::reported("misaligned"));
  // Also where less alignment was stated: engines read vectors all the same.
  cudasim::reset_reports();
  c.found = find_dnn_plan({.handle = c.handle}, dnn_policy(DType::f32), 4,
                          [](DnnGraph& graph) { conv_forward(graph, kConv, DType::f32, false); });
  CHECK(c.run({shifted, c.w.data(), c.y.data()}, c.workspace.data()) ==
        CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  CHECK(Quiet::reported("misaligned"));
}

TEST_CASE("cudnn: what the library declines is no plan, and is asked again of the fallback") {
  const Handle handle;
  const auto find = [&] {
    return find_dnn_plan({.handle = handle}, dnn_policy(DType::f32), 16,
                         [](DnnGraph& graph) { conv_forward(graph, kConv, DType::f32, false); });
  };
  for (const cudnnStatus_t status :
       {CUDNN_STATUS_NOT_SUPPORTED, CUDNN_STATUS_BAD_PARAM, CUDNN_STATUS_INTERNAL_ERROR}) {
    cudasim_dnn_graph_status(status);
    const DnnSearch none = find();
    cudasim_dnn_graph_status(0);
    CHECK(!none.plan);
    CHECK(none.reason.find("(operation graph) returned") != std::string::npos);
    cudasim_dnn_heuristics_status(status);
    const DnnSearch found = find();
    cudasim_dnn_heuristics_status(0);
    CHECK(found.plan);
  }
  cudasim_dnn_graph_status(CUDNN_STATUS_EXECUTION_FAILED_CUDART);
  CHECK(status_of(find) == CUDNN_STATUS_EXECUTION_FAILED_CUDART);
  cudasim_dnn_graph_status(0);
}

TEST_CASE("cudnn: attention whose rows lie in one place is not simulated") {
  const Quiet quiet;
  const Handle handle;
  const AttentionShape::Strides rows{64, 32, 8}, shared{32, 0, 8};
  find_dnn_plan({.handle = handle}, dnn_policy(DType::bf16), 16, [&](DnnGraph& g) {
    attention_forward(g, {1, 2, 4, 4, 8, 8, rows, shared, shared, rows, 1, false});
  });
  CHECK(Quiet::reported("not simulated"));
}

TEST_CASE("cudnn: what planning would have taken is counted by the kind of graph") {
  const Handle handle;
  const auto cost = [&](DType dtype, const std::function<void(DnnGraph&)>& build) {
    const double before = cudasim::dnn_planning_seconds();
    find_dnn_plan({.handle = handle}, dnn_policy(dtype), 16, build);
    return cudasim::dnn_planning_seconds() - before;
  };
  const AttentionShape::Strides rows{4 * 8, 4 * 8, 8};
  const AttentionShape s{1, 1, 4, 4, 8, 8, rows, rows, rows, rows, 1, true},
      unsupported{1, 1, 4, 4, 60, 60, rows, rows, rows, rows, 1, true};
  using doctest::Approx;
  CHECK(cost(DType::bf16, [&](DnnGraph& g) { attention_forward(g, s); }) == Approx(0.35));
  CHECK(cost(DType::bf16, [&](DnnGraph& g) {
          attention_backward(g, {s, rows, rows, rows, rows});
        }) == Approx(0.33));
  CHECK(cost(DType::f32, [](DnnGraph& g) { conv_weights(g, kConv, DType::f32); }) == Approx(0.01));
  CHECK(cost(DType::bf16, [&](DnnGraph& g) { attention_forward(g, unsupported); }) == 0);
}

TEST_CASE("cudnn: memory that is too small or was never written is reported when the work runs") {
  SUBCASE("operand") {
    const Quiet quiet;
    Case c;
    const DeviceArray<float> small(std::vector<float>(71));
    c.run({c.x.data(), small.data(), c.y.data()}, c.workspace.data());
    CHECK(Quiet::reported("out of bounds"));
  }
  SUBCASE("output") {
    const Quiet quiet;
    Case c;
    const DeviceArray<float> small(159);
    c.run({c.x.data(), c.w.data(), small.data()}, c.workspace.data());
    CHECK(Quiet::reported("out of bounds"));
  }
  SUBCASE("workspace") {
    const Quiet quiet;
    Case c;
    const DeviceArray<char> small(c.found.plan->workspace() - 1);
    c.run({c.x.data(), c.w.data(), c.y.data()}, small.data());
    CHECK(Quiet::reported("out of bounds"));
  }
  SUBCASE("not initialised") {
    const Quiet quiet;
    Case c;
    const OnDevice raw = OnDevice::output({2, 2, 5, 4}, DType::f32);
    c.run({raw.data(), c.w.data(), c.y.data()}, c.workspace.data());
    CHECK(Quiet::reported("uninitialised read"));
  }
}

TEST_CASE("cudnn: work goes to the handle's stream, and into a recording of it") {
  Case c;
  cudaStream_t stream;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  REQUIRE(cudnnSetStream(c.handle, stream) == CUDNN_STATUS_SUCCESS);
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  CHECK(c.run() == CUDNN_STATUS_SUCCESS);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphInstantiate(&executable, graph, 0));
  const Tensor x = c.make.normal({2, 2, 5, 4});
  require(cudaMemcpy(c.x.data(), x.raw(), c.x.bytes(), cudaMemcpyHostToDevice));
  require(cudaGraphLaunch(executable, stream));
  require(cudaStreamSynchronize(stream));
  CHECK(close(c.y.host(), conv2d(x, c.w.host(), {}, {.padding = {1, 1}}), 1e-6));
  cudaGraphExecDestroy(executable), cudaGraphDestroy(graph), cudaStreamDestroy(stream);
}

TEST_CASE("cudnn: f32 is f32 unless TF32 is asked for, and unsteady engines are passed over") {
  SampleMaker make(4, DType::f32, kCpu);
  const Handle handle;
  const Tensor x = make.normal({2, 2, 5, 4}), w = make.normal({4, 2, 3, 3});
  const Tensor y = conv2d(x, w, {}, {.padding = {1, 1}});
  const auto distance = [&](const DnnPolicy& policy) {
    const DnnSearch found = find_dnn_plan({.handle = handle}, policy, 16, [](DnnGraph& graph) {
      conv_forward(graph, kConv, DType::f32, false);
    });
    const OnDevice out = OnDevice::output(y.shape(), DType::f32);
    const DeviceArray<char> workspace(found.plan->workspace());
    const OnDevice xs = OnDevice::input(x), ws = OnDevice::input(w);
    found.plan->execute(handle, {xs.data(), ws.data(), out.data()}, workspace.data());
    double worst = 0;
    for (const double d : (out.host() - y).to_vector<double>()) worst = std::max(worst, std::fabs(d));
    return worst;
  };
  CHECK(distance({}) < 1e-5);
  CHECK(distance({.tensor_cores = true}) > 1e-4);
  const auto engine = [&](const DnnPolicy& policy) {
    return find_dnn_plan({.handle = handle}, policy, 16,
                         [](DnnGraph& graph) { conv_weights(graph, kConv, DType::f32); })
        .plan->engine();
  };
  CHECK(engine({}) != engine({.nondeterministic = true}));
}

TEST_CASE("cudnn: what the real library has no engine for, it has none for here") {
  const Handle handle;
  const DnnSearch found = find_dnn_plan({.handle = handle}, dnn_policy(DType::bf16), 16, [](DnnGraph& g) {
    const AttentionShape::Strides strides{60 * 4, 60 * 4, 60};
    attention_forward(g, {1, 1, 4, 4, 60, 60, strides, strides, strides, strides, 1, false});
  });
  CHECK(!found.plan);
}

TEST_CASE("cudnn: descriptors are checked as the real ones are, or harder") {
  const auto tensor = [](const Dims& dims, const Dims& strides, int64_t alignment = 16, int64_t uid = 1) {
    DnnDescriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)
        .set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
        .set(CUDNN_ATTR_TENSOR_STRIDES, strides)
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment)
        .finalize("tensor");
    return d;
  };
  CHECK(status_of([&] { tensor({2, 3}, {3, 1}); }) == CUDNN_STATUS_SUCCESS);
  CHECK(status_of([&] { tensor({2, 3}, {3}); }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(status_of([&] { tensor({2, 3}, {-3, 1}); }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(status_of([&] { tensor({2, 0}, {3, 1}); }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(status_of([&] { tensor({2, 3}, {3, 1}, 2); }) == CUDNN_STATUS_BAD_PARAM);

  DnnDescriptor done = tensor({2, 3}, {3, 1});
  CHECK(status_of([&] { done.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, int64_t{2}); }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(status_of([&] { done.finalize("again"); }) == CUDNN_STATUS_BAD_PARAM);
  DnnDescriptor open(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  CHECK(status_of([&] { open.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, 2.0f); }) ==
        CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  CHECK(status_of([&] { open.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, Dims{1, 2}); }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(status_of([&] { open.get_int(CUDNN_ATTR_TENSOR_UNIQUE_ID); }) == CUDNN_STATUS_NOT_INITIALIZED);
  CHECK(status_of([&] { open.finalize("incomplete"); }) == CUDNN_STATUS_BAD_PARAM);
  DnnDescriptor product(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  CHECK(status_of([&] { product.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, open.raw()); }) ==
        CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
}

TEST_CASE("cudnn: operations and graphs that do not fit together are refused") {
  const auto graph = [](const std::function<void(DnnGraph&)>& add) {
    return status_of([&] {
      DnnGraph g;
      add(g);
      DnnDescriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
          .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, g.operations())
          .finalize("operation graph");
    });
  };
  const auto add = [](DnnGraph& g, DnnGraph::Ref a, DnnGraph::Ref b, DnnGraph::Ref y) {
    DnnDescriptor mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    mode.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
        .finalize("pointwise");
    DnnDescriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, g.keep(std::move(mode)))
        .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, a)
        .set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b)
        .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    g.add(std::move(d));
  };
  const auto f = CUDNN_DATA_FLOAT;
  CHECK(graph([&](DnnGraph& g) {
          add(g, g.tensor(f, {2, 3}), g.tensor(f, {1, 3}), g.tensor(f, {2, 3}));
        }) == CUDNN_STATUS_SUCCESS);
  CHECK(graph([&](DnnGraph& g) {
          add(g, g.tensor(f, {2, 3}), g.tensor(f, {2, 2}), g.tensor(f, {2, 3}));
        }) == CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  CHECK(graph([&](DnnGraph& g) {
          const auto x = g.tensor(f, {2, 3}), y = g.tensor(f, {2, 3});
          add(g, x, x, y), add(g, x, x, y);
        }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(graph([&](DnnGraph& g) {
          add(g, g.intermediate(f, {2, 3}), g.tensor(f, {2, 3}), g.tensor(f, {2, 3}));
        }) == CUDNN_STATUS_BAD_PARAM);
  CHECK(graph([&](DnnGraph& g) {
          add(g, g.tensor(f, {2, 3}), g.tensor(f, {2, 3}), g.constant(1, 2));
        }) == CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  ConvShape wrong = kConv;
  wrong.groups = 2, wrong.o = 3;  // the groups do not divide the outputs
  CHECK(graph([&](DnnGraph& g) { conv_forward(g, wrong, DType::f32, false); }) == CUDNN_STATUS_BAD_PARAM);
}

TEST_CASE("cudnn: what is not simulated is reported, and never succeeds") {
  const Quiet quiet;
  CHECK(status_of([] { DnnDescriptor d(CUDNN_BACKEND_RNG_DESCRIPTOR); }) != CUDNN_STATUS_SUCCESS);
  CHECK(Quiet::reported("not simulated"));
  cudasim::reset_reports();
  DnnDescriptor d(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  CHECK(status_of([&] { d.set(CUDNN_ATTR_POINTWISE_ELU_ALPHA, 1.0); }) != CUDNN_STATUS_SUCCESS);
  CHECK(Quiet::reported("not simulated"));
}
