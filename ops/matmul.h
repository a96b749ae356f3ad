// Matrix products with torch's rules.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// a @ b. Two vectors [k], [k] give their dot product []; a vector beside a matrix is a row on the left or a
// column on the right, and that dimension is dropped from the result; otherwise a [..., n, k] and b [..., k,
// p] give [..., n, p], leading dimensions broadcast. Operands of any strides; dtypes bf16, f32, f64,
// promoted. Sums of bf16 are made in f32. ShapeError when sizes do not fit, DTypeError for integers.
Tensor matmul(const Tensor& a, const Tensor& b);

// The same with the sums stored as `result`: f32 or bf16 for f32 and bf16 operands, f64 for f64.
Tensor matmul(const Tensor& a, const Tensor& b, DType result);

// Of vectors: the sum of their products [], and the products of all pairs [n, m]. ShapeError for others.
Tensor dot(const Tensor& a, const Tensor& b);
Tensor outer(const Tensor& a, const Tensor& b);

// Whether devices may multiply f32 as TF32, with 10 bits of mantissa, where that is faster, in products and
// in convolutions. Off unless set.
void set_allow_tf32(bool allow);
bool allow_tf32();

// Whether this processor has instructions for products of bf16; where it has none they take longer than those
// of f32. DNNL_MAX_CPU_ISA, which limits oneDNN's choice of instructions, counts.
bool has_bf16_products();

}  // namespace tandem
