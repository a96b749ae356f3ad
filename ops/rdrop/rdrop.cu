// The R-Drop losses on a device. Where the divisor is not given, the units are counted first; then every unit
// leaves a part behind (kernel.h), and one block adds the parts in their order, so that the loss has the same
// bits in every run and for every number of blocks.
#include <cmath>

#include "autograd/error.h"
#include "cuda/reduce.cuh"
#include "ops/rdrop/unit.cuh"

namespace tandem {
namespace {

using namespace rdrop;

constexpr int kSumThreads = 1024;

__device__ void set_error(DeviceSums& sums, const UnitError& error) {
  sums.error = static_cast<double>(error.kind);
  sums.unit = static_cast<double>(error.unit);
  sums.pass = error.pass;
  sums.index = static_cast<double>(error.index);
  sums.value = error.value;
}

// What an error's message needs.
template <class Args> __device__ void set_call(DeviceSums& sums, const Args& args) {
  sums.op_number = args.op_number;
  sums.classes = static_cast<double>(args.problem.classes);
  sums.ignore_index = static_cast<double>(args.problem.ignore_index);
}

__global__ void __launch_bounds__(kSumThreads) count_kernel(CountUnits args) {
  const Problem& problem = args.problem;
  struct Found {
    int64_t counted, bad;  // bad: the first unit whose label is none
  } found{0, problem.units};
  for (int64_t u = threadIdx.x; u < problem.units; u += kSumThreads) {
    if (args.valid && args.valid[u] == 0) continue;
    if (args.target && args.target[u] == problem.ignore_index) continue;
    ++found.counted;
    if (args.target && (args.target[u] < 0 || args.target[u] >= problem.classes) &&
        found.bad == problem.units)
      found.bad = u;
  }
  found = cuda::block_reduce<kSumThreads>(found, [](Found a, Found b) {
    return Found{a.counted + b.counted, a.bad < b.bad ? a.bad : b.bad};
  });
  if (threadIdx.x != 0) return;
  DeviceSums& sums = *args.sums;
  sums = {};
  sums.valid = static_cast<double>(found.counted);
  sums.divisor = found.counted > 0 ? sums.valid : 1;
  set_call(sums, args);
  if (found.bad < problem.units)
    set_error(sums, {static_cast<double>(args.target[found.bad]), found.bad, 0, 0, ErrorKind::label});
}

void launch_count(const CountUnits& args) {
  cuda::launch<count_kernel>("rdrop_count", cuda::Grid{1, kSumThreads}, args);
}

__global__ void __launch_bounds__(kSumThreads, 1) finish_kernel(FinishLoss args) {
  struct Total {
    double ce, kl;
    int64_t counted, correct, first;  // first: the part whose error is told
  };
  // A wrong label comes before every other error, as all labels are looked at first.
  constexpr int64_t kLater = int64_t{1} << 62, kNone = INT64_MAX;
  Total total{0, 0, 0, 0, kNone};
  for (int64_t i = threadIdx.x; i < args.part_count; i += kSumThreads) {
    const Part& part = args.parts[i];
    total.ce += part.ce, total.kl += part.kl;
    total.counted += part.counted, total.correct += part.correct;
    if (part.error.kind == ErrorKind::none) continue;
    const int64_t rank = part.error.kind == ErrorKind::label ? i : i + kLater;
    if (rank < total.first) total.first = rank;
  }
  total = cuda::block_reduce<kSumThreads>(total, [](const Total& a, const Total& b) {
    return Total{a.ce + b.ce, a.kl + b.kl, a.counted + b.counted, a.correct + b.correct,
                 a.first < b.first ? a.first : b.first};
  });
  if (threadIdx.x != 0) return;
  DeviceSums& sums = *args.sums;
  const double divisor = args.problem.current_divisor(args.sums);
  const double ce = total.counted ? total.ce / divisor : 0, kl = total.counted ? total.kl / divisor : 0;
  sums.ce = ce;
  sums.kl = kl;
  sums.valid = static_cast<double>(total.counted);
  sums.correct = static_cast<double>(total.correct) * args.copies;
  sums.divisor = divisor;
  set_call(sums, args);
  const double loss = ce + args.problem.current_alpha() / 2 * kl;
  if (args.loss) *args.loss = static_cast<float>(loss);
  if (args.wide_loss) *args.wide_loss = loss;
  set_error(sums, total.first == kNone ? UnitError{} : args.parts[total.first % kLater].error);
}

void launch_finish(const FinishLoss& args) {
  cuda::launch<finish_kernel>("rdrop_finish", cuda::Grid{1, kSumThreads}, args);
}

// Calls f<M>() for m passes: M is m, when it is small enough for registers; 0: any.
template <class F> void with_passes(int64_t m, F f) {
  switch (m) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    case 4:
      return f.template operator()<4>();
    default:
      return f.template operator()<0>();
  }
}

// ---- cross-entropy

// Threads that a multiprocessor has room for, by the registers that each takes. Up to two passes that is
// enough to hide the latency of what they wait for.
template <class T, int M> constexpr int kResident = M == 1 || M == 2 ? 1024 : 512;

template <class T, int M, int threads>
__global__ void __launch_bounds__(threads, threads == 32 ? 1 : kResident<T, M> / threads)
    cross_entropy_kernel(CrossEntropyUnits<T> args, cuda::TileLayout tiles) {
  extern __shared__ __align__(16) char shared[];
  cuda::CrossEntropyUnit<T, M, threads>(args, tiles, shared).run(blockIdx.x, gridDim.x);
}

template <class T, int M, int threads> void run_units(const CrossEntropyUnits<T>& args) {
  using C = compute_t<T>;
  constexpr auto kernel = cross_entropy_kernel<T, M, threads>;
  constexpr int V = 16 / sizeof(T);
  constexpr int64_t kTileBytes = 48 * 1024;  // where there are several, so that several blocks are at work
  const int64_t m = args.problem.passes, classes = args.problem.classes;
  const auto aligned = [&](const auto& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.pass_stride % V == 0 && x.unit_stride % V == 0;
  };
  cuda::TileLayout tiles{};
  tiles.vectors = classes % V == 0 && aligned(args.x) && (!args.grad.data || aligned(args.grad));
  const int64_t states = m * static_cast<int64_t>(sizeof(cuda::PassState<C>));
  const bool apart = M == 0 && states > 16 * 1024;
  const int64_t column = m * static_cast<int64_t>(sizeof(T)) + (M == 0 ? sizeof(C) : 0);
  const auto bytes = [&](int64_t columns) {
    return (apart ? 0 : (states + 15) / 16 * 16) + (columns + V - 1) / V * V * column;
  };
  int64_t columns = classes;
  if (bytes(columns) > cuda::shared_limit()) {
    columns = std::max<int64_t>(V, kTileBytes / column / V * V);
    check<DeviceError>(
        bytes(columns) <= cuda::shared_limit(),
        "rdrop_cross_entropy: cuda: {} passes need {} bytes of shared memory, and a block has {}", m,
        bytes(columns), cuda::shared_limit());
  }
  // Where so much memory leaves room for few blocks, they are large.
  if constexpr (threads == 256 && M > 0) {
    if (bytes(columns) > cuda::shared_limit() / (kResident<T, M> / threads))
      return run_units<T, M, kResident<T, M>>(args);
  }
  tiles.columns = static_cast<int>(columns);
  tiles.pitch = static_cast<int>((columns + V - 1) / V * V);
  const unsigned blocks = cuda::resident_blocks<kernel, threads>(args.problem.units, bytes(columns));
  const cuda::Scratch scratch(apart ? blocks * states : 1);
  if (apart) tiles.states = scratch.as<char>();
  cuda::launch<kernel>("rdrop_cross_entropy", cuda::Grid{blocks, threads, bytes(columns)}, args, tiles);
}

template <class T> void launch_cross_entropy(const CrossEntropyUnits<T>& args) {
  const Problem& problem = args.problem;
  if (problem.units == 0) return;
  for (const int64_t size : {problem.units, problem.classes, problem.passes})
    check<DeviceError>(size < INT_MAX,
                       "rdrop_cross_entropy: cuda: {} units, classes or passes, expected "
                       "less than 2^31",
                       size);
  const auto run = [&]<int M>() {
    problem.classes <= 512 ? run_units<T, M, 32>(args) : run_units<T, M, 256>(args);
  };
  if constexpr (sizeof(T) == 8) {
    run.template operator()<0>();
  } else {
    with_passes(problem.passes, run);
  }
}

// ---- regression

template <class T, int M> __global__ void __launch_bounds__(kPartUnits) mse_kernel(MseUnits<T> args) {
  const Problem& problem = args.problem;
  const int64_t u = static_cast<int64_t>(blockIdx.x) * kPartUnits + threadIdx.x;
  const int64_t m = M > 0 ? M : problem.passes;
  const double divisor = problem.current_divisor(args.sums), passes = static_cast<double>(m);
  const double ce_weight = 2 / (passes * divisor);
  const double kl_weight = m > 1 ? 2 * problem.current_alpha() / ((passes - 1) * divisor) : 0;
  Part part{};
  part.error.unit = INT64_MAX;  // none has an error
  if (u < problem.units && (!args.valid || args.valid[u] != 0)) {
    part.counted = 1;
    const auto look = [&](ErrorKind kind, int pass, double value) {
      if (part.error.kind != ErrorKind::none || isfinite(value)) return;
      part.error = {value, u, 0, pass, kind};
    };
    const double target = args.target[u];
    look(ErrorKind::target_number, 0, target);
    double mean = 0, squares = 0, spread = 0, held[M > 0 ? M : 1];
#pragma unroll
    for (int64_t i = 0; i < m; ++i) {
      const double value = *args.x.row(i, u);
      if constexpr (M > 0) held[i] = value;
      look(ErrorKind::prediction, static_cast<int>(i), value);
      mean += value / passes;
    }
#pragma unroll
    for (int64_t i = 0; i < m; ++i) {
      const double value = M > 0 ? held[i] : static_cast<double>(*args.x.row(i, u));
      const double error = value - target, deviation = value - mean;
      squares += error * error;
      spread += deviation * deviation;
      if (args.grad.data)
        *args.grad.row(i, u) = T(static_cast<compute_t<T>>(ce_weight * error + kl_weight * deviation));
    }
    part.ce = squares / passes;
    if (m > 1) part.kl = 2 * spread / (passes - (m > 1));  // 0 is not divided by, also where M is 1
  } else if (u < problem.units && args.grad.data) {
    for (int64_t i = 0; i < m; ++i) *args.grad.row(i, u) = T(0);
  }
  part = cuda::block_reduce<kPartUnits>(part, [](const Part& a, const Part& b) {
    Part sum = a.error.unit <= b.error.unit ? a : b;
    sum.ce = a.ce + b.ce, sum.kl = a.kl + b.kl;
    sum.counted = a.counted + b.counted;
    return sum;
  });
  if (threadIdx.x == 0) args.parts[blockIdx.x] = part;
}

template <class T> void launch_mse(const MseUnits<T>& args) {
  const int64_t blocks = (args.problem.units + kPartUnits - 1) / kPartUnits;
  if (blocks == 0) return;
  with_passes(args.problem.passes, [&]<int M>() {
    cuda::launch<mse_kernel<T, M>>("rdrop_mse", cuda::Grid{static_cast<unsigned>(blocks), kPartUnits}, args);
  });
}

const RegisterKernels registered{[] {
  register_kernel(launch_count);
  register_kernel(launch_finish);
  cuda::for_floats([]<class T>() {
    register_kernel(launch_cross_entropy<T>);
    register_kernel(launch_mse<T>);
  });
}};

}  // namespace
}  // namespace tandem
