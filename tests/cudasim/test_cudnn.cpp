// The graphs of cuDNN that the CUDA part uses, on the simulated library, against the ops of the CPU.
#include "autograd/registry.h"
#include "cuda/dnn_ops.h"
#include "dnn_harness.h"
#include "ops/ops.h"

using namespace tandem;
using namespace tandem::cuda;
using namespace dnn_test;

namespace {

Tensor leaf(const Tensor& x) { return x.detach().clone().requires_grad_(); }

void convolution(DType dtype, const Shape& x_shape, const Shape& w_shape, const Conv2dOptions& o) {
  SampleMaker make(3, dtype, kCpu);
  const Tensor x = leaf(make.normal(x_shape)), w = leaf(make.normal(w_shape)), b = make.normal({w_shape[0]});
  const Tensor y = conv2d(x, w, b, o), plain = conv2d(x, w, {}, o), g = make.normal(y.shape());
  plain.backward(g);
  const ConvShape s{.n = x_shape[0],
                    .c = x_shape[1],
                    .h = x_shape[2],
                    .w = x_shape[3],
                    .o = w_shape[0],
                    .kh = w_shape[2],
                    .kw = w_shape[3],
                    .stride_h = o.stride[0],
                    .stride_w = o.stride[1],
                    .pad_h = o.padding[0],
                    .pad_w = o.padding[1],
                    .dilation_h = o.dilation[0],
                    .dilation_w = o.dilation[1],
                    .groups = o.groups};
  const OnDevice xs = OnDevice::input(x), ws = OnDevice::input(w), bs = OnDevice::input(b),
                 gs = OnDevice::input(g);
  OnDevice out = OnDevice::output(y.shape(), dtype);
  run(dtype, [&](DnnGraph& graph) { conv_forward(graph, s, dtype, false); }, {xs, ws, out});
  CHECK(close(out.host(), plain, tolerance(dtype)));
  out = OnDevice::output(y.shape(), dtype);
  run(dtype, [&](DnnGraph& graph) { conv_forward(graph, s, dtype, true); }, {xs, ws, bs, out});
  CHECK(close(out.host(), y, tolerance(dtype)));
  out = OnDevice::output(x_shape, dtype);
  run(dtype, [&](DnnGraph& graph) { conv_data(graph, s, dtype); }, {gs, ws, out});
  CHECK(close(out.host(), x.grad(), tolerance(dtype)));
  out = OnDevice::output(w_shape, dtype);
  run(dtype, [&](DnnGraph& graph) { conv_weights(graph, s, dtype); }, {xs, gs, out});
  CHECK(close(out.host(), w.grad(), tolerance(dtype)));
}

// Heads beside the columns, as a layer's projections leave them: [batch, rows, heads, columns].
void attention(int64_t batch, int64_t heads, int64_t queries, int64_t keys, int64_t dim, int64_t value_dim,
               bool causal) {
  SampleMaker make(8, DType::bf16, kCpu);
  const auto rows = [&](int64_t n, int64_t columns) { return leaf(make.normal({batch, n, heads, columns})); };
  const auto strides = [&](int64_t n, int64_t columns) {
    return AttentionShape::Strides{n * heads * columns, columns, heads * columns};
  };
  const Tensor q = rows(queries, dim), k = rows(keys, dim), v = rows(keys, value_dim);
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  const auto heads_first = [](const Tensor& x) { return x.transpose(1, 2); };
  const Tensor y = heads_first(
      tandem::attention(heads_first(q), heads_first(k), heads_first(v), {.scale = scale, .causal = causal}));
  const Tensor g = make.normal(y.shape());
  y.backward(g);
  const AttentionShape s{.batch = batch,
                         .heads = heads,
                         .queries = queries,
                         .keys = keys,
                         .dim = dim,
                         .value_dim = value_dim,
                         .q = strides(queries, dim),
                         .k = strides(keys, dim),
                         .v = strides(keys, value_dim),
                         .out = strides(queries, value_dim),
                         .scale = scale,
                         .causal = causal};
  // The cotangents lie heads first, unlike what they are of.
  const auto heads_outside = [&](int64_t n, int64_t columns) {
    return AttentionShape::Strides{heads * n * columns, n * columns, columns};
  };
  const AttentionGradShape grad{s, heads_outside(queries, value_dim), heads_outside(queries, dim),
                                heads_outside(keys, dim), heads_outside(keys, value_dim)};
  const auto made = [](const Tensor& like) { return OnDevice::output(like.shape(), like.dtype()); };
  const OnDevice qs = OnDevice::input(q), ks = OnDevice::input(k), vs = OnDevice::input(v), out = made(y),
                 sums = OnDevice::output({batch, heads, queries}, DType::f32);
  run(DType::bf16, [&](DnnGraph& graph) { attention_forward(graph, s); }, {qs, ks, vs, out, sums});
  CHECK(close(out.host(), y, 6e-3));
  const auto apart = [&](int64_t n, int64_t columns) {
    return OnDevice::output({batch, heads, n, columns}, DType::bf16);
  };
  const OnDevice dq = apart(queries, dim), dk = apart(keys, dim), dv = apart(keys, value_dim),
                 row_sums = OnDevice::output({batch, heads, queries}, DType::f32);
  run(DType::bf16, [&](DnnGraph& graph) { attention_backward(graph, grad); },
      {qs, ks, vs, out, OnDevice::input(heads_first(g)), sums, dq, dk, dv, row_sums});
  CHECK(close(dq.host(), heads_first(q.grad()).contiguous(), 1e-2));
  CHECK(close(dk.host(), heads_first(k.grad()).contiguous(), 1e-2));
  CHECK(close(dv.host(), heads_first(v.grad()).contiguous(), 1e-2));
}

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f64};

}  // namespace

TEST_CASE("cudnn: convolutions, with a bias, and their gradients") {
  for (const DType dtype : kFloats) {
    CAPTURE(std::string(name_of(dtype)));
    convolution(dtype, {2, 3, 6, 5}, {4, 3, 3, 3}, {.padding = {1, 1}});
    convolution(dtype, {1, 2, 7, 6}, {3, 2, 3, 2}, {.stride = {2, 3}, .padding = {1, 0}});
    convolution(dtype, {2, 1, 6, 7}, {2, 1, 2, 3}, {.padding = {0, 2}, .dilation = {2, 2}});
    convolution(dtype, {2, 4, 4, 4}, {6, 2, 2, 2}, {.groups = 2});
    convolution(dtype, {2, 3, 4, 4}, {3, 1, 3, 3}, {.padding = {1, 1}, .groups = 3});
  }
}

TEST_CASE("cudnn: attention, plain and causal, and its gradients") {
  for (const bool causal : {false, true}) {
    attention(2, 2, 6, 6, 8, 8, causal);
    attention(1, 3, 5, 9, 16, 8, causal);
    attention(2, 1, 7, 4, 8, 24, causal);
  }
}
