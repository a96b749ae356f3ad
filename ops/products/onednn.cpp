#include "ops/products/onednn.h"

#include <omp.h>

#include <string_view>

#include "autograd/parallel.h"
#include "ops/loops/scratch.h"
#include "ops/matmul.h"

namespace tandem::detail {

const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type onednn_dtype(DType dtype) {
  return dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

ThreadLimit::ThreadLimit(int threads) : outer_(omp_get_max_threads()) {
  if (threads != outer_) omp_set_num_threads(threads);
}
ThreadLimit::~ThreadLimit() {
  if (omp_get_max_threads() != outer_) omp_set_num_threads(outer_);
}

int onednn_threads(int64_t multiply_adds) {
  return omp_in_parallel() || multiply_adds <= (int64_t{1} << 18) ? 1 : num_threads();
}

dnnl::primitive_attr onednn_attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void execute(const dnnl::primitive& primitive, const dnnl::memory::desc& scratch_layout,
             std::initializer_list<Operand> operands) {
  thread_local const dnnl::stream stream(onednn_engine());
  constexpr size_t kMost = 6;
  std::array<dnnl::memory, kMost> memories;
  std::array<dnnl_exec_arg_t, kMost> args;
  int count = 0;
  const auto add = [&](int arg, const dnnl::memory::desc& layout, void* data) {
    auto& memory = memories[static_cast<size_t>(count)];
    memory = dnnl::memory(layout, onednn_engine(), data);
    args[static_cast<size_t>(count++)] = {arg, memory.get()};
  };
  for (const Operand& operand : operands)
    if (operand.data) add(operand.arg, *operand.layout, const_cast<void*>(operand.data));
  if (const size_t bytes = scratch_layout.get_size(); bytes > 0)
    add(DNNL_ARG_SCRATCHPAD, scratch_layout, scratch(Slot::library, static_cast<int64_t>(bytes)));
  // The C call takes an array of arguments; the C++ one builds a hash map for every call.
  dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), stream.get(), count, args.data()),
                          "could not execute a primitive");
}

size_t PrimitiveKeyHash::operator()(const PrimitiveKey& key) const {
  uint64_t hash = 0;
  for (const int64_t value : key) {
    hash = (hash ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 29;
  }
  return hash;
}

bool is_optimised(const char* implementation) { return !std::string_view(implementation).starts_with("ref"); }

}  // namespace tandem::detail

namespace tandem {

bool has_bf16_products() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & wanted) == wanted;
}

}  // namespace tandem
