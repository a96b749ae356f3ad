// One update of all parameters in one launch: every tensor is read once, and written once.
#include <type_traits>

#include "nn/optim/rules.h"
#include "nn/optim/tensors.cuh"

namespace tandem::nn {
namespace {

template <class Rule, class T>
__global__ void __launch_bounds__(cuda::kThreads) update_kernel(OptimizerStep<Rule, T> a) {
  constexpr int V = 16 / sizeof(T), S = Rule::kStates;
  using Factors = typename Rule::template Factors<T>;
  if (a.norm && !isfinite(*a.norm)) return;
  // What stands in the place of an average's gradient is the weight.
  constexpr bool clips = !std::is_same_v<Rule, EmaRule>;
  const T clip = clips && a.norm ? static_cast<T>(a.norm[1]) : T(1);
  __shared__ Factors shared;
  Factors factors;
  double last[3] = {-1, -1, -1};  // of the first thread: what the factors were made of
  const auto begin = [&](const TensorRow& row, int64_t) {
    __syncthreads();         // the factors of the chunk before may still be read
    if (threadIdx.x == 0) {  // powers in f64: for one thread, and not for every chunk
      const double now[3] = {
          (a.scalars ? a.scalars->lr : a.lr) * row.lr_ratio, row.weight_decay,
          (a.scalars ? static_cast<double>(a.scalars->step + 1) : static_cast<double>(a.steps)) +
              static_cast<double>(row.steps_ahead)};
      if (now[0] != last[0] || now[1] != last[1] || now[2] != last[2])
        shared = a.rule.template factors<T>(now[0], now[1], now[2]);
#pragma unroll
      for (int i = 0; i < 3; ++i) last[i] = now[i];
    }
    __syncthreads();
    factors = shared;
  };
  const auto apply = [&](T g, T& p, T* state) {
    if constexpr (S == 0) Rule::apply(factors, g, p);
    if constexpr (S == 1) Rule::apply(factors, g, p, state[0]);
    if constexpr (S == 2) Rule::apply(factors, g, p, state[0], state[1]);
  };
  for_tensor_chunks<V>(a.tensors, begin, [&]<int N>(const TensorRow& row, int64_t i) {
    using Values = cuda::Vector<T, N>;
    const Values g = load_tensor<T, N>(row.gradient, i);
    Values p = load_tensor<T, N>(row.parameter, i), s[S + 1];
#pragma unroll
    for (int k = 0; k < S; ++k) s[k] = load_tensor<T, N>(row.state[k], i);
#pragma unroll
    for (int v = 0; v < N; ++v) {
      T state[S + 1];
#pragma unroll
      for (int k = 0; k < S; ++k) state[k] = s[k].at[v];
      apply(clips ? clip * g.at[v] : g.at[v], p.at[v], state);
#pragma unroll
      for (int k = 0; k < S; ++k) s[k].at[v] = state[k];
    }
    store_tensor(row.parameter, i, p);
#pragma unroll
    for (int k = 0; k < S; ++k) store_tensor(row.state[k], i, s[k]);
  });
}

template <class Rule, class T> void launch(const OptimizerStep<Rule, T>& args) {
  cuda::launch<update_kernel<Rule, T>>("optimizer", cuda::blocks_for(args.tensors.chunks), args);
}

const RegisterKernels registered{[] {
  cuda::for_types<AdamRule, SgdRule, MomentumRule, EmaRule>([]<class Rule>() {
    register_kernel(launch<Rule, float>);
    register_kernel(launch<Rule, double>);
  });
}};

}  // namespace
}  // namespace tandem::nn
