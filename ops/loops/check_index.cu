#include "cuda/pending_error.cuh"
#include "cuda/pending_error.h"
#include "cuda/reduce.cuh"
#include "ops/loops/check_index.h"

namespace tandem {
namespace {

using namespace detail;

constexpr int kBlock = 1024;
constexpr int64_t kPerBlock = 1 << 14;  // indices; more of them are looked at by several blocks

struct Smaller {
  __device__ int64_t operator()(int64_t a, int64_t b) const { return a < b ? a : b; }
};

// The lowest position of a bad index in [begin, end), for all threads of the block; n where there is none.
__device__ int64_t first_bad(const CheckIndex& a, int64_t begin, int64_t end) {
  const auto size = static_cast<uint64_t>(a.error.values[1]);
  int64_t first = a.n;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += kBlock)
    if (static_cast<uint64_t>(a.index[i]) >= size) first = Smaller{}(first, i);
  return cuda::block_reduce<kBlock>(first, Smaller{});
}

__device__ void report(CheckIndex& a, int64_t position, PendingError* slot) {
  if (threadIdx.x != 0 || position == a.n) return;
  a.error.values[0] = a.index[position];
  cuda::leave_error(slot, a.error);
}

__global__ void __launch_bounds__(kBlock) check_few(CheckIndex a, PendingError* slot) {
  report(a, first_bad(a, 0, a.n), slot);
}

__global__ void __launch_bounds__(kBlock) check_part(CheckIndex a, int64_t* positions) {
  const int64_t begin = blockIdx.x * kPerBlock, end = begin + kPerBlock < a.n ? begin + kPerBlock : a.n;
  const int64_t first = first_bad(a, begin, end);
  if (threadIdx.x == 0) positions[blockIdx.x] = first;
}

__global__ void __launch_bounds__(kBlock)
    check_parts(CheckIndex a, const int64_t* positions, int blocks, PendingError* slot) {
  int64_t first = a.n;
  for (int i = threadIdx.x; i < blocks; i += kBlock) first = Smaller{}(first, positions[i]);
  report(a, cuda::block_reduce<kBlock>(first, Smaller{}), slot);
}

void launch(const CheckIndex& a) {
  if (a.n == 0) return;
  PendingError* slot = cuda::pending_error();
  if (a.n <= kPerBlock) {
    cuda::launch<check_few>("check_index", cuda::Grid{1, kBlock}, a, slot);
  } else {
    const auto blocks = static_cast<unsigned>((a.n + kPerBlock - 1) / kPerBlock);
    const cuda::Scratch scratch(blocks * static_cast<int64_t>(sizeof(int64_t)));
    auto* const positions = scratch.as<int64_t>();
    cuda::launch<check_part>("check_index", cuda::Grid{blocks, kBlock}, a, positions);
    cuda::launch<check_parts>("check_index", cuda::Grid{1, kBlock}, a, positions, static_cast<int>(blocks),
                              slot);
  }
}

const RegisterKernels registered{[] { register_kernel(launch); }};

}  // namespace
}  // namespace tandem
