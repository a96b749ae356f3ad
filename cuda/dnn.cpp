#include "cuda/dnn.h"

#include <fmt/args.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

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

constexpr int64_t kAlignment = 16;  // bytes; of every pointer that the library is given

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0; }
bool aligned(const std::vector<const void*>& pointers) {
  return std::all_of(pointers.begin(), pointers.end(), [](const void* p) { return aligned(p); });
}

// A dense tensor of a problem, or one that is aligned anyway.
struct Operand {
  void* data;
  int64_t bytes;
  bool written;
};
Operand read(const void* data, int64_t bytes) { return {const_cast<void*>(data), bytes, false}; }
Operand written(void* data, int64_t bytes) { return {data, bytes, true}; }

void copy_on_device(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream()),
        "cudaMemcpyAsync");
}

// The operands where the library may have them. An engine was seen to read vectors of 16 bytes whatever
// alignment was declared (batch norm, on an H200): what begins elsewhere goes through a copy.
class Aligned {
 public:
  explicit Aligned(const std::vector<Operand>& operands) : operands_(operands) {
    for (const Operand& operand : operands) {
      pointers_.push_back(operand.data);
      if (aligned(operand.data)) continue;
      copies_.push_back(std::make_unique<Scratch>(operand.bytes));
      pointers_.back() = copies_.back()->as<void>();
      if (!operand.written) copy_on_device(pointers_.back(), operand.data, operand.bytes);
    }
  }
  const std::vector<void*>& pointers() const { return pointers_; }
  void hand_back() const {
    for (size_t i = 0; i < operands_.size(); ++i)
      if (operands_[i].written && pointers_[i] != operands_[i].data)
        copy_on_device(operands_[i].data, pointers_[i], operands_[i].bytes);
  }

 private:
  const std::vector<Operand>& operands_;
  std::vector<void*> pointers_;
  std::vector<std::unique_ptr<Scratch>> copies_;
};

using Build = std::function<void(DnnGraph&)>;

// The plan for a problem, empty where there is none; null where no more are made.
std::optional<DnnPlan>* plan_of(const Problem& problem, const Build& build) {
  using Key = std::tuple<std::string, DType, bool, std::vector<int64_t>>;
  static auto& plans = *new std::map<Key, std::optional<DnnPlan>>;  // they outlive the driver otherwise
  Key key{problem.name, problem.dtype, problem.tf32, problem.sizes.values};
  if (const auto found = plans.find(key); found != plans.end()) return &found->second;
  if (plans.size() >= kMostPlans) return nullptr;
  DnnPolicy policy = dnn_policy(problem.dtype);
  policy.tensor_cores |= problem.tf32;
  DnnSearch search = find_dnn_plan({.handle = handle()}, policy, kAlignment, build);
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

bool run(const Problem& problem, const Build& build, const std::vector<Operand>& operands) {
  if (used("never")) return false;
  const std::lock_guard lock(in_use());
  std::optional<DnnPlan>* plan = nullptr;
  try {
    plan = plan_of(problem, build);
    if (!plan || !*plan) return false;
    const Scratch workspace((*plan)->workspace());
    const Aligned tensors(operands);
    (*plan)->execute(handle(), tensors.pointers(), workspace.as<void>());
    tensors.hand_back();
    return true;
  } catch (const DnnFailure& failure) {
    if (!plan || !failure.refused()) fail(failure, problem);
    note("cuDNN refuses its plan: {}: {}", problem.describe(), failure.what());
    plan->reset();
    return false;
  } catch (const OutOfMemoryError& error) {  // our own kernels take less; later there may be room again
    static bool told = false;
    if (!std::exchange(told, true)) note("no room for cuDNN: {}: {}", problem.describe(), error.what());
    return false;
  }
}

int64_t bits_of(double value) { return std::bit_cast<int64_t>(value); }

Sizes sizes_of(const ConvShape& s) {
  return {"x [{},{},{},{}], {} outputs of {}x{}, stride {}x{}, padding {}x{}, dilation {}x{}, {} groups",
          {s.n, s.c, s.h, s.w, s.o, s.kh, s.kw, s.stride_h, s.stride_w, s.pad_h, s.pad_w, s.dilation_h,
           s.dilation_w, s.groups}};
}
struct ConvBytes {
  int64_t x, weight, bias, y;
};
ConvBytes bytes_of(const ConvShape& s, DType dtype) {
  const int64_t size = size_of(dtype);
  return {s.n * s.c * s.h * s.w * size, s.o * (s.c / s.groups) * s.kh * s.kw * size, s.o * size,
          s.n * s.o * s.out_h() * s.out_w() * size};
}
// Of an attention's softmax statistics, which are dense; its other operands are strided, and aligned (takes).
int64_t bytes_of_sums(const AttentionShape& s) {
  return s.batch * s.heads * s.queries * static_cast<int64_t>(sizeof(float));
}
Sizes sizes_of(const AttentionShape& s, std::initializer_list<AttentionShape::Strides> all) {
  Sizes sizes{"{}x{} heads of {} queries and {} keys, dim {}, {} of values, causal {}",
              {s.batch, s.heads, s.queries, s.keys, s.dim, s.value_dim, s.causal, bits_of(s.scale)}};
  for (const auto& strides : all) sizes.values.insert(sizes.values.end(), strides.begin(), strides.end());
  return sizes;
}

// One of an attention's strided operands.
struct HeadRows {
  int64_t rows;
  AttentionShape::Strides strides;
};

bool takes(const AttentionShape& s, std::initializer_list<HeadRows> all,
           const std::vector<const void*>& pointers) {
  const auto fits = [](int64_t dim) { return dim > 0 && dim <= 128 && dim % 8 == 0; };
  const int64_t scores = s.batch * s.heads * s.queries * s.keys;
  const bool pays = scores >= kManyScores || (scores > 0 && used("always"));
  // Before 9.16 the gradient was wrong where 128 does not divide the number of keys.
  if (!fits(s.dim) || !fits(s.value_dim) || !pays || cudnnGetVersion() < 91600) return false;
  for (const auto& [rows, strides] : all) {
    const std::array<int64_t, 3> sizes{s.batch, s.heads, rows};
    for (size_t i = 0; i < 3; ++i)
      if (strides[i] % 8 != 0 || (strides[i] <= 0 && sizes[i] > 1)) return false;
  }
  return aligned(pointers);
}

}  // namespace

bool dnn_conv_forward(const ConvShape& s, DType dtype, const void* x, const void* weight, const void* bias,
                      void* y) {
  const bool biased = bias != nullptr;
  const ConvBytes bytes = bytes_of(s, dtype);
  std::vector<Operand> operands{read(x, bytes.x), read(weight, bytes.weight)};
  if (biased) operands.push_back(read(bias, bytes.bias));
  operands.push_back(written(y, bytes.y));
  return run(
      {biased ? "convolution + bias" : "convolution", dtype, sizes_of(s), allow_tf32()},
      [&](DnnGraph& graph) { conv_forward(graph, s, dtype, biased); }, operands);
}

bool dnn_conv_data(const ConvShape& s, DType dtype, const void* dy, const void* weight, void* dx) {
  const ConvBytes bytes = bytes_of(s, dtype);
  return run({"convolution's data gradient", dtype, sizes_of(s), allow_tf32()},
             [&](DnnGraph& graph) { conv_data(graph, s, dtype); },
             {read(dy, bytes.y), read(weight, bytes.weight), written(dx, bytes.x)});
}

bool dnn_conv_weights(const ConvShape& s, DType dtype, const void* x, const void* dy, void* dweight,
                      bool exact) {
  const ConvBytes bytes = bytes_of(s, dtype);
  return run({"convolution's weight gradient", dtype, sizes_of(s), exact || allow_tf32()},
             [&](DnnGraph& graph) { conv_weights(graph, s, dtype); },
             {read(x, bytes.x), read(dy, bytes.y), written(dweight, bytes.weight)});
}

bool dnn_attention_forward(const AttentionShape& s, const void* q, const void* k, const void* v, void* out,
                           float* log_sums) {
  if (!takes(s, {{s.queries, s.q}, {s.keys, s.k}, {s.keys, s.v}, {s.queries, s.out}}, {q, k, v, out}))
    return false;
  return run({"attention", DType::bf16, sizes_of(s, {s.q, s.k, s.v, s.out})},
             [&](DnnGraph& graph) { attention_forward(graph, s); },
             {read(q, 0), read(k, 0), read(v, 0), written(out, 0), written(log_sums, bytes_of_sums(s))});
}

bool dnn_attention_backward(const AttentionGradShape& s, const void* q, const void* k, const void* v,
                            const void* out, const void* dout, const float* log_sums, void* dq, void* dk,
                            void* dv) {
  if (!takes(s,
             {{s.queries, s.q},
              {s.keys, s.k},
              {s.keys, s.v},
              {s.queries, s.out},
              {s.queries, s.dout},
              {s.queries, s.dq},
              {s.keys, s.dk},
              {s.keys, s.dv}},
             {q, k, v, out, dout, dq, dk, dv}))
    return false;
  const Sizes sizes = sizes_of(s, {s.q, s.k, s.v, s.out, s.dout, s.dq, s.dk, s.dv});
  const Scratch row_sums(bytes_of_sums(s));
  return run(
      {"attention's gradient", DType::bf16, sizes}, [&](DnnGraph& graph) { attention_backward(graph, s); },
      {read(q, 0), read(k, 0), read(v, 0), read(out, 0), read(dout, 0), read(log_sums, bytes_of_sums(s)),
       written(dq, 0), written(dk, 0), written(dv, 0), written(row_sums.as<void>(), 0)});
}

}  // namespace tandem::cuda
