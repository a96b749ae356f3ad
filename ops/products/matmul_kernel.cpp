// Products of f32 and bf16 by a cached primitive of oneDNN, in layouts that it has an optimised
// implementation for (matmul_driver.h). Where it has none bf16 is converted to f32, and f32 takes our own
// loop.
#include "ops/products/matmul_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "ops/products/matmul_driver.h"
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
    if (p.epilogue == Activation::relu) append_function(ops, algorithm::eltwise_relu);
    if (p.epilogue == Activation::gelu) append_function(ops, algorithm::eltwise_gelu_erf);
    if (p.epilogue == Activation::gelu_tanh) append_function(ops, algorithm::eltwise_gelu_tanh);
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
    const auto found = p.bias ? primitive_of<dnnl::matmul>(attributes, made.a, made.b, made.bias, made.c)
                              : primitive_of<dnnl::matmul>(attributes, made.a, made.b, made.c);
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

template <class T> void run_loop(const Problem& p) {
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
         (p.epilogue == Activation::none || p.epilogue == Activation::relu);
}

// What the driver needs to know of oneDNN.
struct OneDnn {
  struct Memory {
    void* get(Slot slot, int64_t bytes) { return scratch(slot, bytes); }
  };
  static constexpr auto convert = copy_matrices;
  // f32 beside f32 operands, either type beside bf16 operands.
  static DType bias_dtype(const Problem& p) { return p.a.dtype == DType::f32 ? DType::f32 : p.bias_dtype; }
  // A leading dimension of any size for single matrices; batches must be dense (measured: strided heads fall
  // to a loop over plain gemm, 1.3 to 1.8 times slower than dense ones).
  static bool takes_output(const MatrixBatch& m, int64_t batch) {
    return is_row_major(m) && (batch == 1 || is_dense(m, batch));
  }
  static bool takes(const MatrixBatch& m, int64_t batch) {
    return takes_output(m, batch) || takes_output(transposed(m), batch);
  }
  static bool transposes(const Problem& p) { return !p.bias; }
  static bool run_without_it(const Problem& p);
  static void run(const Problem& p);
  static void sum_rows(const Problem&) {}  // the CPU has no by-products
};
using Driver = MatmulDriver<OneDnn>;

// The same product with every operand in f32 scratch; rounded once, when c is written.
void run_in_f32(const Problem& p) {
  const auto in_f32 = [](const MatrixBatch& m, int64_t batch, Slot slot, bool filled) {
    if (m.dtype == DType::f32) return m;
    const int64_t count = m.batch_stride == 0 ? 1 : batch;
    MatrixBatch copy = dense(scratch(slot, count * m.rows * m.cols * 4), DType::f32, m.rows, m.cols);
    if (m.batch_stride == 0) copy.batch_stride = 0;
    if (filled) copy_matrices(m, copy, count);
    return copy;
  };
  Problem wide = p;
  wide.a = in_f32(p.a, p.batch, Slot::convert_a, true);
  wide.b = in_f32(p.b, p.batch, Slot::convert_b, true);
  wide.c = in_f32(p.c, p.batch, Slot::convert_c, p.accumulate);
  if (p.bias) wide.bias = in_f32(dense(p.bias, p.bias_dtype, 1, p.c.cols), 1, Slot::convert_bias, true).data;
  wide.bias_dtype = DType::f32;
  Driver::run(wide);
  if (p.c.dtype != DType::f32) copy_matrices(wide.c, p.c, p.batch);
}

bool OneDnn::run_without_it(const Problem& p) {
  if (p.a.cols == 0 || is_tiny(p)) {
    p.a.dtype == DType::f32 ? run_loop<float>(p) : run_in_f32(p);
    return true;
  }
  if (p.batch == 1 || p.a.batch_stride != 0 || p.b.batch_stride != 0) return false;
  Problem one = p;  // the same product again and again
  one.batch = 1;
  const int64_t bytes = p.c.batch_stride * size_of(p.c.dtype);
  for (int64_t i = 0; i < p.batch; ++i, one.c.data = static_cast<const char*>(one.c.data) + bytes)
    Driver::run(one);
  return true;
}

void OneDnn::run(const Problem& p) {
  if (run_library(p)) return;
  p.a.dtype == DType::bf16 ? run_in_f32(p) : run_loop<float>(p);
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
                   const void* bias, DType bias_dtype, Activation epilogue, bool accumulate) {
  const Problem problem{a, b, c, batch, bias, bias_dtype, epilogue, accumulate};
  check_matmul(problem);
  if (batch == 0 || c.rows == 0 || c.cols == 0) return;
  if (a.dtype == DType::f64) return run_loop<double>(problem);
  Driver::run(problem);
}

}  // namespace tandem::detail
