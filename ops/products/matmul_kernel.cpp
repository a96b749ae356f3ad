// The way of an f32 or bf16 product: collapse the batch where one matrix will do, bring every operand into a
// layout that oneDNN has an optimised implementation for (copying only then), run a cached primitive. Where
// there is no such implementation: bf16 is converted to f32, f32 takes our own loop.
#include "ops/products/matmul_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "ops/loops/scratch.h"
#include "ops/products/onednn.h"

namespace tandem::detail {
namespace {

using Problem = MatmulArgs;

std::string describe(const MatrixBatch& m, int64_t batch) {
  return fmt::format("{}[{},{},{}]", name_of(m.dtype), m.batch_stride == 0 ? 1 : batch, m.rows, m.cols);
}
bool is_dense(const MatrixBatch& m, int64_t batch) {
  return m.row_stride == m.cols && (m.batch_stride == m.rows * m.cols || m.batch_stride == 0 || batch == 1);
}
// What oneDNN runs well: a leading dimension of any size for single matrices; batches must be dense
// (measured: strided heads fall to a loop over plain gemm, 1.3 to 1.8 times slower than dense ones).
bool fits_library(const MatrixBatch& m, int64_t batch) {
  const auto fits = [batch](const MatrixBatch& x) {
    return is_row_major(x) && (batch == 1 || is_dense(x, batch));
  };
  return fits(m) || fits(transposed(m));
}

// A dense copy, rows along whichever axis of `m` has the smaller stride.
MatrixBatch packed(const MatrixBatch& m, int64_t batch, Slot slot) {
  if (m.row_stride < m.col_stride) return transposed(packed(transposed(m), batch, slot));
  const int64_t count = m.batch_stride == 0 ? 1 : batch;
  MatrixBatch copy =
      dense(scratch(slot, count * m.rows * m.cols * size_of(m.dtype)), m.dtype, m.rows, m.cols);
  copy_matrices(m, copy, count);
  if (m.batch_stride == 0) copy.batch_stride = 0;
  return copy;
}

struct Primitive {
  dnnl::matmul primitive;  // empty: no optimised implementation
  dnnl::memory::desc a, b, c, bias, scratch;
  bool usable = false;
};

dnnl::memory::desc layout(const MatrixBatch& m, int64_t batch) {
  if (batch == 1)
    return {{m.rows, m.cols}, onednn_dtype(m.dtype), dnnl::memory::dims{m.row_stride, m.col_stride}};
  const int64_t count = m.batch_stride == 0 ? 1 : batch,
                stride = count == 1 ? m.rows * m.cols : m.batch_stride;
  return {
      {count, m.rows, m.cols}, onednn_dtype(m.dtype), dnnl::memory::dims{stride, m.row_stride, m.col_stride}};
}

Primitive make_primitive(const Problem& p) {
  using dnnl::algorithm;
  Primitive made;
  made.a = layout(p.a, p.batch);
  made.b = layout(p.b, p.batch);
  made.c = layout(p.c, p.batch);
  const auto attributes = [&] {
    dnnl::primitive_attr attr = onednn_attributes();
    dnnl::post_ops ops;
    if (p.epilogue == Epilogue::relu) ops.append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f);
    if (p.epilogue == Epilogue::gelu) ops.append_eltwise(1.0f, algorithm::eltwise_gelu_erf, 0.0f, 0.0f);
    if (p.epilogue == Epilogue::gelu_tanh) ops.append_eltwise(1.0f, algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
    if (p.accumulate) ops.append_sum(1.0f);
    attr.set_post_ops(ops);
    return attr;
  }();
  dnnl::memory::dims bias_dims(p.batch == 1 ? 2 : 3, 1);
  bias_dims.back() = p.c.cols;
  if (p.bias)
    made.bias = {bias_dims, onednn_dtype(p.bias_dtype),
                 p.batch == 1 ? dnnl::memory::format_tag::ab : dnnl::memory::format_tag::abc};
  try {
    const dnnl::matmul::desc desc = p.bias ? dnnl::matmul::desc(made.a, made.b, made.bias, made.c)
                                           : dnnl::matmul::desc(made.a, made.b, made.c);
    const dnnl::matmul::primitive_desc found(desc, attributes, onednn_engine());
    if (!is_optimised(found.impl_info_str())) return made;
    made.scratch = found.scratchpad_desc();
    made.primitive = dnnl::matmul(found);
    made.usable = true;
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented && error.status != dnnl_invalid_arguments) throw;
  }
  return made;
}

// False when oneDNN has nothing optimised for the problem.
bool run_library(const Problem& p) {
  static PrimitiveCache<Primitive> cache(1024);
  const int threads = onednn_threads(p.batch * p.c.rows * p.c.cols * p.a.cols);
  const int64_t flags = static_cast<int64_t>(p.a.dtype) | static_cast<int64_t>(p.c.dtype) << 4 |
                        static_cast<int64_t>(p.bias_dtype) << 8 | static_cast<int64_t>(p.epilogue) << 12 |
                        int64_t{p.accumulate} << 16 | int64_t{p.bias != nullptr} << 17 |
                        int64_t{threads} << 20;
  const PrimitiveKey key{p.batch,        p.c.rows,         p.c.cols,         p.a.cols,       p.a.row_stride,
                         p.a.col_stride, p.a.batch_stride, p.b.row_stride,   p.b.col_stride, p.b.batch_stride,
                         p.c.row_stride, p.c.col_stride,   p.c.batch_stride, flags};
  try {
    const ThreadLimit limit(threads);
    const auto made = cache.get(key, [&] { return make_primitive(p); });
    if (!made->usable) return false;
    execute(made->primitive, made->scratch,
            {{DNNL_ARG_SRC, &made->a, p.a.data},
             {DNNL_ARG_WEIGHTS, &made->b, p.b.data},
             {DNNL_ARG_BIAS, &made->bias, p.bias},
             {DNNL_ARG_DST, &made->c, p.c.data}});
    return true;
  } catch (const dnnl::error& error) {
    raise<DeviceError>("matmul: oneDNN failed: {} (status {}): {}", error.what(),
                       static_cast<int>(error.status), describe(p));
  }
}

template <class T>
void run_loop(const Problem& p) {
  const auto strides = [](const MatrixBatch& m) {
    return Strides{m.row_stride, m.col_stride, m.batch_stride};
  };
  gemm_loop<T>(p.batch, p.c.rows, p.c.cols, p.a.cols, static_cast<const T*>(p.a.data), strides(p.a),
               static_cast<const T*>(p.b.data), strides(p.b), static_cast<T*>(const_cast<void*>(p.c.data)),
               strides(p.c), static_cast<const T*>(p.bias), p.epilogue, p.accumulate);
}

// Looking up and starting a primitive costs about 1 us; below so many multiply-adds our own loop is done
// sooner.
constexpr int64_t kTiny = 4096;
bool is_tiny(const Problem& p) {
  return p.a.dtype == DType::f32 && p.batch * p.c.rows * p.c.cols * p.a.cols <= kTiny &&
         (p.epilogue == Epilogue::none || p.epilogue == Epilogue::relu);
}

void run(Problem p);

// The bias in f32 (oneDNN takes a bf16 bias only beside bf16 operands).
const void* bias_in_f32(const Problem& p, Slot slot) {
  if (!p.bias || p.bias_dtype == DType::f32) return p.bias;
  float* copy = scratch_of<float>(slot, p.c.cols);
  copy_matrices(dense(p.bias, DType::bf16, 1, p.c.cols), dense(copy, DType::f32, 1, p.c.cols), 1);
  return copy;
}

// The same product with every operand in f32 scratch; rounded once, when c is written.
void run_in_f32(const Problem& p) {
  const auto in_f32 = [&](const MatrixBatch& m, Slot slot, bool filled) {
    if (m.dtype == DType::f32) return m;
    const int64_t count = m.batch_stride == 0 ? 1 : p.batch;
    MatrixBatch copy = dense(scratch(slot, count * m.rows * m.cols * 4), DType::f32, m.rows, m.cols);
    if (m.batch_stride == 0) copy.batch_stride = 0;
    if (filled) copy_matrices(m, copy, count);
    return copy;
  };
  Problem wide = p;
  wide.a = in_f32(p.a, Slot::convert_a, true);
  wide.b = in_f32(p.b, Slot::convert_b, true);
  wide.c = in_f32(p.c, Slot::convert_c, p.accumulate);
  wide.bias = bias_in_f32(p, Slot::convert_bias);
  wide.bias_dtype = DType::f32;
  run(wide);
  if (p.c.dtype != DType::f32) copy_matrices(wide.c, p.c, p.batch);
}

// Runs p with c in dense scratch and copies that to where c belongs.
void run_into_scratch(Problem p) {
  const MatrixBatch target = p.c;
  p.c = dense(scratch(Slot::pack_c, p.batch * target.rows * target.cols * size_of(target.dtype)),
              target.dtype, target.rows, target.cols);
  if (p.accumulate) copy_matrices(target, p.c, p.batch);
  run(p);
  copy_matrices(p.c, target, p.batch);
}

// f32 and bf16, no empty size but k.
void run(Problem p) {
  if (p.a.dtype == DType::f32 && p.c.dtype == DType::bf16) return run_in_f32(p);
  if (p.a.dtype == DType::f32 && p.bias) {
    p.bias = bias_in_f32(p, Slot::pack_bias);
    p.bias_dtype = DType::f32;
  }
  if (p.a.cols == 0) return p.a.dtype == DType::f32 ? run_loop<float>(p) : run_in_f32(p);
  if (is_tiny(p)) return run_loop<float>(p);
  normalise(p.a, p.batch);
  normalise(p.b, p.batch);
  normalise(p.c, p.batch);
  collapse(p);
  if (p.batch > 1 && p.a.batch_stride == 0 && p.b.batch_stride == 0) {  // the same product again and again
    const int64_t batch = std::exchange(p.batch, 1), bytes = p.c.batch_stride * size_of(p.c.dtype);
    for (int64_t i = 0; i < batch; ++i, p.c.data = static_cast<const char*>(p.c.data) + bytes) run(p);
    return;
  }
  const auto fits_as_output = [&](const MatrixBatch& m) {
    return is_row_major(m) && (p.batch == 1 || is_dense(m, p.batch));
  };
  if (!fits_as_output(p.c)) {  // oneDNN writes rows: c^T = b^T a^T where c is column-major
    if (p.bias || !fits_as_output(transposed(p.c))) return run_into_scratch(p);
    const MatrixBatch a = p.a;
    p.a = transposed(p.b);
    p.b = transposed(a);
    p.c = transposed(p.c);
    return run(p);
  }
  Problem ready = p;
  if (!fits_library(p.a, p.batch)) ready.a = packed(p.a, p.batch, Slot::pack_a);
  if (!fits_library(p.b, p.batch)) ready.b = packed(p.b, p.batch, Slot::pack_b);
  if (run_library(ready)) return;
  if (p.a.dtype == DType::bf16) return run_in_f32(p);
  run_loop<float>(p);
}

}  // namespace

std::string describe(const MatmulArgs& p) {
  return fmt::format("a {} vs b {}, out {}", describe(p.a, p.batch), describe(p.b, p.batch),
                     describe(p.c, p.batch));
}

// Descriptions are made on failure only: a tiny product must not pay for them.
void check_matmul(const MatmulArgs& p) {
  const auto &a = p.a, &b = p.b, &c = p.c;
  const bool f64 = a.dtype == DType::f64;
  if (!is_floating(a.dtype) || a.dtype != b.dtype || !is_floating(c.dtype) || (c.dtype == DType::f64) != f64)
    raise<DTypeError>(
        "matmul: element types do not go together: {}, expected a and b alike, out f32 or bf16 (f64 for f64)",
        describe(p));
  if (p.bias && (!is_floating(p.bias_dtype) || (p.bias_dtype == DType::f64) != f64))
    raise<DTypeError>("matmul: bias is {}: {}, expected f32 or bf16 (f64 for f64)", name_of(p.bias_dtype),
                      describe(p));
  if (std::min({p.batch, a.rows, a.cols, b.rows, b.cols, c.rows, c.cols}) < 0)
    raise<ShapeError>("matmul: negative size: {}, batch {}", describe(p), p.batch);
  if (a.cols != b.rows)
    raise<ShapeError>("matmul: inner dimensions differ: {} (a.size(-1)={}, b.size(-2)={})", describe(p),
                      a.cols, b.rows);
  if (c.rows != a.rows || c.cols != b.cols)
    raise<ShapeError>("matmul: output has the wrong size: {}, expected [{},{}]", describe(p), a.rows, b.cols);
  const bool empty = p.batch == 0 || c.rows == 0 || c.cols == 0;
  if (!empty && ((p.batch > 1 && c.batch_stride == 0) || (c.rows > 1 && c.row_stride == 0) ||
                 (c.cols > 1 && c.col_stride == 0)))
    raise<ShapeError>("matmul: output overlaps itself: {}, strides ({},{},{})", describe(p), c.batch_stride,
                      c.row_stride, c.col_stride);
}

void matmul_kernel(const MatrixBatch& a, const MatrixBatch& b, const MatrixBatch& c, int64_t batch,
                   const void* bias, DType bias_dtype, Epilogue epilogue, bool accumulate) {
  const Problem problem{a, b, c, batch, bias, bias_dtype, epilogue, accumulate};
  check_matmul(problem);
  if (batch == 0 || c.rows == 0 || c.cols == 0) return;
  if (a.dtype == DType::f64) return run_loop<double>(problem);
  run(problem);
}

}  // namespace tandem::detail
