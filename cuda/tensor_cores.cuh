// What devices from compute capability 8.0 on have for products of bf16: matrices of 16-bit elements in a
// warp's registers, copies to shared memory that go on beside the computation, rounding and maxima in
// hardware.
//
// Of a matrix of 8 rows of 8 elements a lane 4 g + q holds the elements 2 q and 2 q + 1 of row g, in 32 bits.
#pragma once

#include <cstdint>

namespace tandem::cuda {

// 32 bits each: elements of the 16 x 16 left factor (quarters: rows 0-7 and 8-15 of columns 0-7, then those
// of columns 8-15), of the 16 x 8 right factor (rows 0-7, rows 8-15), f32 of the 16 x 8 sums (two of row g,
// two of row g + 8).
struct LeftFactor {
  uint32_t at[4];
};
struct RightFactor {
  uint32_t at[2];
};
struct Sums {
  float at[4] = {};
};

// sums += left right, products of bf16.
__device__ inline void multiply_add(Sums& sums, const LeftFactor& left, const RightFactor& right) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums.at[0]), "+f"(sums.at[1]), "+f"(sums.at[2]), "+f"(sums.at[3])
      : "r"(left.at[0]), "r"(left.at[1]), "r"(left.at[2]), "r"(left.at[3]), "r"(right.at[0]),
        "r"(right.at[1]));
}

// An address of shared memory as instructions take it.
__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four matrices; lane 8 i + r has the address of row r, 16 bytes, of matrix i.
__device__ inline void load_matrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
// The same of their transposes.
__device__ inline void load_transposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// Begins to copy 16 bytes to shared memory, or zeroes, where `from` is not read.
__device__ inline void copy_async(uint32_t to, const void* from, bool zeroes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(zeroes ? 0 : 16)
               : "memory");
}
// Waits for the thread's own copies. Those of others are there after a barrier.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Two bf16, rounded to nearest even.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// The larger of two bf16 and two others; the number where the other one is NaN.
__device__ inline uint32_t max_bf16(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

// 2^x, of which the last bit or two may be wrong; 0 where it is not normal.
__device__ inline float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace tandem::cuda
