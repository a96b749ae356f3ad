// The R-Drop losses. Every unit leaves a part behind (ops/rdrop/kernel.h), and one block adds the parts
// in their order, so that the loss has the same bits in every run and for every number of blocks.
#include <cmath>

#include "autograd/error.h"
#include "cuda/reduce.cuh"
#include "ops/rdrop/unit.cuh"

namespace tandem {
namespace {

using namespace detail;

constexpr int kSumThreads = 1024;

// Puts numbers at their places among the sums.
struct Report {
  double* sums;
  __device__ void error(RDropError kind, int64_t unit, int pass, int64_t index, double value) const {
    sums[rdrop_slot::error] = static_cast<double>(kind);
    sums[rdrop_slot::unit] = static_cast<double>(unit);
    sums[rdrop_slot::pass] = pass;
    sums[rdrop_slot::index] = static_cast<double>(index);
    sums[rdrop_slot::value] = value;
  }
};

__global__ void __launch_bounds__(kSumThreads) count_kernel(RDropCount args) {
  struct Found {
    int64_t counted, bad;  // bad: the first unit whose label is none
  } found{0, args.units};
  for (int64_t u = threadIdx.x; u < args.units; u += kSumThreads) {
    if (args.valid && args.valid[u] == 0) continue;
    if (args.target && args.target[u] == args.ignore_index) continue;
    ++found.counted;
    if (args.target && (args.target[u] < 0 || args.target[u] >= args.classes) && found.bad == args.units)
      found.bad = u;
  }
  found = cuda::block_reduce<kSumThreads>(found, [](Found a, Found b) {
    return Found{a.counted + b.counted, a.bad < b.bad ? a.bad : b.bad};
  });
  if (threadIdx.x != 0) return;
  for (int i = 0; i < rdrop_slot::count; ++i) args.sums[i] = 0;
  const double counted = static_cast<double>(found.counted);
  args.sums[rdrop_slot::valid] = counted;
  args.sums[rdrop_slot::divisor] = counted > 0 ? counted : 1;
  args.sums[rdrop_slot::caller] = args.caller;
  args.sums[rdrop_slot::classes] = static_cast<double>(args.classes);
  args.sums[rdrop_slot::ignored] = static_cast<double>(args.ignore_index);
  if (found.bad < args.units)
    Report{args.sums}.error(RDropError::label, found.bad, 0, 0, static_cast<double>(args.target[found.bad]));
}

void launch_count(const RDropCount& args) {
  count_kernel<<<1, kSumThreads, 0, cuda::stream()>>>(args);
  cuda::check_launch("rdrop_count");
}

__global__ void __launch_bounds__(kSumThreads, 1) finish_kernel(RDropFinish args) {
  struct Total {
    double fit, distance;
    int64_t counted, correct, first;  // first: the part with the error to be told
  };
  // A wrong label comes before every other error, as all labels are looked at first.
  constexpr int64_t kLater = int64_t{1} << 62, kNone = INT64_MAX;
  Total total{0, 0, 0, 0, kNone};
  for (int64_t i = threadIdx.x; i < args.parts_count; i += kSumThreads) {
    const RDropPart& part = args.parts[i];
    total.fit += part.fit, total.distance += part.distance;
    total.counted += part.counted, total.correct += part.correct;
    if (part.error == RDropError::none) continue;
    const int64_t rank = part.error == RDropError::label ? i : i + kLater;
    if (rank < total.first) total.first = rank;
  }
  total = cuda::block_reduce<kSumThreads>(total, [](const Total& a, const Total& b) {
    return Total{a.fit + b.fit, a.distance + b.distance, a.counted + b.counted, a.correct + b.correct,
                 a.first < b.first ? a.first : b.first};
  });
  if (threadIdx.x != 0) return;
  const double divisor = args.weights.divisor_now(args.sums);
  const double fit = total.counted ? total.fit / divisor : 0,
               distance = total.counted ? total.distance / divisor : 0;
  double* sums = args.sums;
  sums[rdrop_slot::fit] = fit;
  sums[rdrop_slot::distance] = distance;
  sums[rdrop_slot::valid] = static_cast<double>(total.counted);
  sums[rdrop_slot::correct] = static_cast<double>(total.correct) * args.copies;
  sums[rdrop_slot::divisor] = divisor;
  sums[rdrop_slot::caller] = args.caller;
  sums[rdrop_slot::classes] = static_cast<double>(args.classes);
  sums[rdrop_slot::ignored] = static_cast<double>(args.ignore_index);
  const double loss = fit + args.weights.alpha_now() / 2 * distance;
  if (args.loss) *args.loss = static_cast<float>(loss);
  if (args.wide_loss) *args.wide_loss = loss;
  if (total.first == kNone) {
    Report{sums}.error(RDropError::none, 0, 0, 0, 0);
  } else {
    const RDropPart& part = args.parts[total.first % kLater];
    Report{sums}.error(part.error, part.unit, part.pass, part.index, part.value);
  }
}

void launch_finish(const RDropFinish& args) {
  finish_kernel<<<1, kSumThreads, 0, cuda::stream()>>>(args);
  cuda::check_launch("rdrop_finish");
}

// ---- cross-entropy
// -----------------------------------------------------------------------------------------

template <class T, int M, int threads>
__global__ void __launch_bounds__(threads, 1)
    cross_entropy_kernel(RDropUnitRows<T> args, cuda::RDropTiles tiles) {
  extern __shared__ __align__(16) char unit_room[];
  cuda::RDropUnit<T, M, threads> unit(args, tiles, unit_room);
  for (int64_t u = blockIdx.x; u < args.rows.units; u += gridDim.x) unit.run(u);
}

template <class T, int M, int threads>
void run_units(const RDropUnitRows<T>& args) {
  using C = compute_t<T>;
  constexpr auto kernel = cross_entropy_kernel<T, M, threads>;
  constexpr int V = 16 / sizeof(T);
  constexpr int64_t kTileBytes = 48 * 1024;  // where there are several, so that several blocks are at work
  const int64_t m = args.rows.passes, classes = args.rows.classes;
  const auto aligned = [&](const auto& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.pass_stride % V == 0 && x.row_stride % V == 0;
  };
  cuda::RDropTiles tiles{};
  tiles.vectors = classes % V == 0 && aligned(args.logits) && (!args.grad.data || aligned(args.grad));
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
  tiles.columns = static_cast<int>(columns);
  tiles.pitch = static_cast<int>((columns + V - 1) / V * V);
  const unsigned blocks = cuda::resident_blocks<kernel, threads>(args.rows.units, bytes(columns));
  const cuda::Scratch scratch(apart ? blocks * states : 1);
  if (apart) tiles.states = scratch.as<char>();
  kernel<<<blocks, threads, bytes(columns), cuda::stream()>>>(args, tiles);
  cuda::check_launch("rdrop_cross_entropy");
}

template <class T, int M>
void run_passes(const RDropUnitRows<T>& args) {
  args.rows.classes <= 512 ? run_units<T, M, 32>(args) : run_units<T, M, 256>(args);
}

template <class T>
void launch_cross_entropy(const RDropUnitRows<T>& args) {
  if (args.rows.units == 0) return;
  check<DeviceError>(args.rows.classes < INT_MAX && args.rows.passes < INT_MAX,
                     "rdrop_cross_entropy: cuda: {} classes, expected less than 2^31", args.rows.classes);
  switch (args.rows.passes) {
    case 1:
      return run_passes<T, 1>(args);
    case 2:
      return run_passes<T, 2>(args);
    case 3:
      return run_passes<T, 3>(args);
    case 4:
      return run_passes<T, 4>(args);
    default:
      return run_passes<T, 0>(args);
  }
}

// ---- regression
// --------------------------------------------------------------------------------------------

// M: the number of passes, when it is small enough for registers; 0: any.
template <class T, int M>
__global__ void __launch_bounds__(kRDropMseUnits) mse_kernel(RDropMseUnits<T> args) {
  const RDropRows& rows = args.rows;
  const int64_t u = static_cast<int64_t>(blockIdx.x) * kRDropMseUnits + threadIdx.x;
  const int64_t m = M > 0 ? M : rows.passes;
  const double divisor = args.weights.divisor_now(args.sums), passes = static_cast<double>(m);
  const double fit_weight = 2 / (passes * divisor);
  const double weight = m > 1 ? 2 * args.weights.alpha_now() / ((passes - 1) * divisor) : 0;
  RDropPart part{};
  part.unit = INT64_MAX;  // none has an error
  if (u < rows.units && (!args.valid || args.valid[u] != 0)) {
    part.counted = 1;
    const auto look = [&](RDropError kind, int pass, double value) {
      if (part.error != RDropError::none || isfinite(value)) return;
      part.error = kind, part.unit = u, part.pass = pass, part.value = value;
    };
    const double target = args.target[u];
    look(RDropError::target_number, 0, target);
    double mean = 0, fit = 0, spread = 0, held[M > 0 ? M : 1];
#pragma unroll
    for (int64_t i = 0; i < m; ++i) {
      const double value = *args.y.row(i, u);
      if constexpr (M > 0) held[i] = value;
      look(RDropError::prediction, static_cast<int>(i), value);
      mean += value / passes;
    }
#pragma unroll
    for (int64_t i = 0; i < m; ++i) {
      const double value = M > 0 ? held[i] : static_cast<double>(*args.y.row(i, u));
      const double error = value - target, deviation = value - mean;
      fit += error * error;
      spread += deviation * deviation;
      if (args.grad.data)
        *args.grad.row(i, u) = T(static_cast<compute_t<T>>(fit_weight * error + weight * deviation));
    }
    part.fit = fit / passes;
    if (m > 1) part.distance = 2 * spread / (passes - (m > 1));  // 0 is not divided by, also where M is 1
  } else if (u < rows.units && args.grad.data) {
    for (int64_t i = 0; i < m; ++i) *args.grad.row(i, u) = T(0);
  }
  part = cuda::block_reduce<kRDropMseUnits>(part, [](const RDropPart& a, const RDropPart& b) {
    RDropPart sum = a.unit <= b.unit ? a : b;
    sum.fit = a.fit + b.fit, sum.distance = a.distance + b.distance;
    sum.counted = a.counted + b.counted;
    return sum;
  });
  if (threadIdx.x == 0) args.parts[blockIdx.x] = part;
}

template <class T>
void launch_mse(const RDropMseUnits<T>& args) {
  const int64_t blocks = (args.rows.units + kRDropMseUnits - 1) / kRDropMseUnits;
  if (blocks == 0) return;
  const auto run = [&]<int M>() {
    mse_kernel<T, M><<<static_cast<unsigned>(blocks), kRDropMseUnits, 0, cuda::stream()>>>(args);
  };
  switch (args.rows.passes) {
    case 1:
      run.template operator()<1>();
      break;
    case 2:
      run.template operator()<2>();
      break;
    case 3:
      run.template operator()<3>();
      break;
    case 4:
      run.template operator()<4>();
      break;
    default:
      run.template operator()<0>();
  }
  cuda::check_launch("rdrop_mse");
}

const RegisterKernel<RDropCount> count{launch_count};
const RegisterKernel<RDropFinish> finish{launch_finish};
const bool registered = [] {
  cuda::ForFloats([]<class T>() {
    device_kernel<RDropUnitRows<T>> = launch_cross_entropy<T>;
    device_kernel<RDropMseUnits<T>> = launch_mse<T>;
  });
  return true;
}();

}  // namespace
}  // namespace tandem
