// How a matrix product gets to a library that takes some layouts only: collapse the batch where one matrix
// will do, write the output by rows, and bring the operands into a layout that the library takes, copying
// only then. Shared by the CPU (oneDNN, matmul_kernel.cpp) and CUDA (cuBLAS, cuda/blas.cpp).
#pragma once

#include <utility>

#include "ops/loops/scratch.h"
#include "ops/products/matmul_args.h"

namespace tandem::detail {

// A Library has, all static:
//   struct Memory { void* get(Slot, int64_t bytes); }           scratch memory for the time of a call
//   void convert(from, to, batch)                               copies matrices, also to another dtype
//   DType bias_dtype(args)                                      that it takes a bias in
//   bool takes(matrix, batch), takes_output(matrix, batch)      as a or b, as c
//   bool transposes(args)                                       whether c^T = b^T a^T is a way to c
//   bool run_without_it(args)                                   runs what is not for the library, or false
//   void run(args)                                              in layouts that it takes
//   void sum_rows(args)                                         the by-product, on its own
template <class Library> struct MatmulDriver {
  using Memory = typename Library::Memory;

  // No empty size but k.
  static void run(MatmulArgs p) {
    if (p.a.dtype == DType::f32 && p.c.dtype == DType::bf16) return run_with_dense_c(p, DType::f32);
    Memory bias, a, b;
    if (const DType dtype = Library::bias_dtype(p); p.bias && p.bias_dtype != dtype) {
      const MatrixBatch given = dense(p.bias, std::exchange(p.bias_dtype, dtype), 1, p.c.cols);
      const MatrixBatch copy = dense_like(given, dtype, 1, bias, Slot::pack_bias);
      Library::convert(given, copy, 1);
      p.bias = copy.data;
    }
    normalise(p.a, p.batch), normalise(p.b, p.batch), normalise(p.c, p.batch);
    collapse(p);
    if (Library::run_without_it(p)) return;
    if (!Library::takes_output(p.c, p.batch)) {
      if (!Library::transposes(p) || !Library::takes_output(transposed(p.c), p.batch))
        return run_with_dense_c(p, p.c.dtype);
      const MatrixBatch left = p.a;
      p.a = transposed(p.b), p.b = transposed(left), p.c = transposed(p.c);
      return run(p);
    }
    if (!Library::takes(p.a, p.batch)) p.a = packed(p.a, p.batch, a, Slot::pack_a);
    if (!Library::takes(p.b, p.batch)) p.b = packed(p.b, p.batch, b, Slot::pack_b);
    Library::run(p);
  }

  // `count` dense matrices of the size of `like`, in memory.
  static MatrixBatch dense_like(const MatrixBatch& like, DType dtype, int64_t count, Memory& memory,
                                Slot slot) {
    return dense(memory.get(slot, count * like.rows * like.cols * size_of(dtype)), dtype, like.rows,
                 like.cols);
  }

 private:
  // A dense copy, rows along whichever axis of `m` has the smaller stride.
  static MatrixBatch packed(const MatrixBatch& m, int64_t batch, Memory& memory, Slot slot) {
    if (m.row_stride < m.col_stride) return transposed(packed(transposed(m), batch, memory, slot));
    const int64_t count = m.batch_stride == 0 ? 1 : batch;
    MatrixBatch copy = dense_like(m, m.dtype, count, memory, slot);
    Library::convert(m, copy, count);
    if (m.batch_stride == 0) copy.batch_stride = 0;
    return copy;
  }

  // Runs p with c, and a by-product of its strides, in scratch memory, and copies them to their places.
  static void run_with_dense_c(MatmulArgs p, DType dtype) {
    const MatrixBatch target = p.c;
    if (p.row_sums) Library::sum_rows(p);
    p.row_sums = nullptr;
    Memory memory, memory_of_z;
    const MatrixBatch c = p.c = dense_like(target, dtype, p.batch, memory, Slot::pack_c);
    if (p.accumulate) Library::convert(target, c, p.batch);
    MatrixBatch z{}, z_target = target;
    if (p.preactivation) {
      z = dense_like(target, dtype, 1, memory_of_z, Slot::convert_c);
      z_target.data = std::exchange(p.preactivation, const_cast<void*>(z.data));
    }
    run(p);
    if (z.data) Library::convert(z, z_target, 1);
    Library::convert(c, target, p.batch);
  }
};

}  // namespace tandem::detail
