#include "cuda/dnn.h"

#include <fmt/args.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>

#include "autograd/error.h"
#include "autograd/scope.h"
#include "cuda/context.h"
#include "cuda/dnn_ops.h"
#include "cuda/note.h"
#include "ops/matmul.h"

namespace tandem::cuda {
namespace {

// A plan holds some megabytes of the host, and may belong to a recorded step: none is ever given back.
constexpr size_t kMostPlans = 2000;
// Scores from which attention is worth it: those of images and long texts, where our own path takes
// milliseconds.
constexpr int64_t kManyScores = int64_t{1} << 24;

// The numbers that a graph is built from, and how they read; those that are not for reading come last.
struct Sizes {
  const char* text;
  std::vector<int64_t> values;
};

struct Problem {
  std::string name;
  DType dtype;
  Sizes sizes;
  bool tf32 = false;

  std::string describe() const {
    fmt::dynamic_format_arg_store<fmt::format_context> values;
    for (const int64_t value : sizes.values) values.push_back(value);
    return fmt::format("{} {}, {}", name, name_of(dtype), fmt::vformat(sizes.text, values));
  }
};

[[noreturn]] void fail(const DnnFailure& failure, const Problem& problem) {
  raise<DeviceError>("{}: cuDNN: {}; {}", OpScope::current(), failure.what(), problem.describe());
}

cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    cudnnHandle_t h;
    check_dnn(cudnnCreate(&h), "cudnnCreate");
    check_dnn(cudnnSetStream(h, stream()), "cudnnSetStream");
    return h;
  }();
  return made;
}

bool aligned(const std::vector<const void*>& pointers) {
  return std::all_of(pointers.begin(), pointers.end(),
                     [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

// 16 bytes, or what all pointers have of them.
int64_t alignment_of(const std::vector<void*>& pointers) {
  uintptr_t bits = 16;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return int64_t{1} << std::countr_zero(bits);
}

using Build = std::function<void(DnnGraph&)>;

// The plan for a problem, empty where there is none; null where no more are made.
std::optional<DnnPlan>* plan_of(const Problem& problem, int64_t alignment, const Build& build) {
  using Key = std::tuple<std::string, DType, bool, int64_t, std::vector<int64_t>>;
  static auto& plans = *new std::map<Key, std::optional<DnnPlan>>;  // they outlive the driver otherwise
  Key key{problem.name, problem.dtype, problem.tf32, alignment, problem.sizes.values};
  if (const auto found = plans.find(key); found != plans.end()) return &found->second;
  if (plans.size() >= kMostPlans) return nullptr;
  DnnPolicy policy = dnn_policy(problem.dtype);
  policy.tensor_cores |= problem.tf32;
  DnnSearch search = find_dnn_plan({.handle = handle()}, policy, alignment, build);
  if (!search.plan) note("cuDNN has no plan: {}: {}", problem.describe(), search.reason);
  return &plans.emplace(std::move(key), std::move(search.plan)).first->second;
}

// What TANDEM_CUDNN says (cuda/dnn.h).
bool used(const char* how) {
  const char* set = std::getenv("TANDEM_CUDNN");
  return set && std::string_view(set) == how;
}

std::mutex& in_use() {  // the handle and the plans are one thread's at a time
  static std::mutex mutex;
  return mutex;
}

template <class... P> bool run(const Problem& problem, const Build& build, P*... pointers) {
  if (used("never")) return false;
  const std::lock_guard lock(in_use());
  std::optional<DnnPlan>* plan = nullptr;
  try {
    const std::vector<void*> tensors{const_cast<void*>(static_cast<const void*>(pointers))...};
    plan = plan_of(problem, alignment_of(tensors), build);
    if (!plan || !*plan) return false;
    const Scratch workspace((*plan)->workspace());
    (*plan)->execute(handle(), tensors, workspace.as<void>());
    return true;
  } catch (const DnnFailure& failure) {
    if (!plan || !failure.refused()) fail(failure, problem);
    note("cuDNN refuses its plan: {}: {}", problem.describe(), failure.what());
    plan->reset();
    return false;
  }
}

int64_t bits_of(double value) { return std::bit_cast<int64_t>(value); }

Sizes sizes_of(const ConvShape& s) {
  return {"x [{},{},{},{}], {} outputs of {}x{}, stride {}x{}, padding {}x{}, dilation {}x{}, {} groups",
          {s.n, s.c, s.h, s.w, s.o, s.kh, s.kw, s.stride_h, s.stride_w, s.pad_h, s.pad_w, s.dilation_h,
           s.dilation_w, s.groups}};
}
Sizes sizes_of(const AttentionShape& s, std::initializer_list<AttentionShape::Strides> all) {
  Sizes sizes{"{}x{} heads of {} queries and {} keys, dim {}, {} of values, causal {}",
              {s.batch, s.heads, s.queries, s.keys, s.dim, s.value_dim, s.causal, bits_of(s.scale)}};
  for (const auto& strides : all) sizes.values.insert(sizes.values.end(), strides.begin(), strides.end());
  return sizes;
}

bool takes(const AttentionShape& s, std::initializer_list<AttentionShape::Strides> all,
           const std::vector<const void*>& pointers) {
  const auto fits = [](int64_t dim) { return dim > 0 && dim <= 128 && dim % 8 == 0; };
  const int64_t scores = s.batch * s.heads * s.queries * s.keys;
  const bool pays = scores >= kManyScores || (scores > 0 && used("always"));
  // Before 9.16 the gradient was wrong where 128 does not divide the number of keys.
  if (!fits(s.dim) || !fits(s.value_dim) || !pays || cudnnGetVersion() < 91600) return false;
  for (const auto& strides : all) {
    if (std::any_of(strides.begin(), strides.end(), [](int64_t stride) { return stride % 8 != 0; }))
      return false;
  }
  return aligned(pointers);
}

}  // namespace

bool dnn_conv_forward(const ConvShape& s, DType dtype, const void* x, const void* weight, const void* bias,
                      void* y) {
  const bool biased = bias != nullptr;
  const Problem problem{biased ? "convolution + bias" : "convolution", dtype, sizes_of(s), allow_tf32()};
  const Build build = [&](DnnGraph& graph) { conv_forward(graph, s, dtype, biased); };
  return biased ? run(problem, build, x, weight, bias, y) : run(problem, build, x, weight, y);
}

bool dnn_conv_data(const ConvShape& s, DType dtype, const void* dy, const void* weight, void* dx) {
  return run(
      {"convolution's data gradient", dtype, sizes_of(s), allow_tf32()},
      [&](DnnGraph& graph) { conv_data(graph, s, dtype); }, dy, weight, dx);
}

bool dnn_conv_weights(const ConvShape& s, DType dtype, const void* x, const void* dy, void* dweight,
                      bool exact) {
  return run(
      {"convolution's weight gradient", dtype, sizes_of(s), exact || allow_tf32()},
      [&](DnnGraph& graph) { conv_weights(graph, s, dtype); }, x, dy, dweight);
}

bool dnn_attention_forward(const AttentionShape& s, const void* q, const void* k, const void* v, void* out,
                           float* log_sums) {
  return takes(s, {s.q, s.k, s.v, s.out}, {q, k, v, out}) &&
         run(
             {"attention", DType::bf16, sizes_of(s, {s.q, s.k, s.v, s.out})},
             [&](DnnGraph& graph) { attention_forward(graph, s); }, q, k, v, out, log_sums);
}

bool dnn_attention_backward(const AttentionGradShape& s, const void* q, const void* k, const void* v,
                            const void* out, const void* dout, const float* log_sums, void* dq, void* dk,
                            void* dv) {
  if (!takes(s, {s.q, s.k, s.v, s.out, s.dout, s.dq, s.dk, s.dv}, {q, k, v, out, dout, dq, dk, dv}))
    return false;
  const Sizes sizes = sizes_of(s, {s.q, s.k, s.v, s.out, s.dout, s.dq, s.dk, s.dv});
  const Scratch row_sums(s.batch * s.heads * s.queries * static_cast<int64_t>(sizeof(float)));
  return run(
      {"attention's gradient", DType::bf16, sizes}, [&](DnnGraph& graph) { attention_backward(graph, s); }, q,
      k, v, out, dout, log_sums, dq, dk, dv, row_sums.as<float>());
}

}  // namespace tandem::cuda
