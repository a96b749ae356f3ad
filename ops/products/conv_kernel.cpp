// oneDNN chooses the layouts, mostly blocked ones; operands are reordered into them around the call. (Held
// from layer to layer they would save an eighth of a small network's step; channels last would save nothing:
// its convolutions are slower by what the reorders take.) Where it has nothing optimised, bf16 is converted
// to f32, and f32 takes our own loops.
#include "ops/products/conv_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "ops/loops/scratch.h"
#include "ops/products/conv_loop.h"
#include "ops/products/matmul_kernel.h"
#include "ops/products/onednn.h"

namespace tandem::detail {
namespace {

using dnnl::memory;
enum class Pass { forward, data, weights };

std::string describe(const ConvShape& s) {
  return fmt::format(
      "x [{},{},{},{}], weight [{},{},{},{}], stride ({},{}), padding ({},{}), dilation ({},{}), groups {}",
      s.n, s.c, s.h, s.w, s.o, s.groups > 0 ? s.c / s.groups : 0, s.kh, s.kw, s.stride_h, s.stride_w, s.pad_h,
      s.pad_w, s.dilation_h, s.dilation_w, s.groups);
}

int64_t x_count(const ConvShape& s) { return s.n * s.c * s.h * s.w; }
int64_t weight_count(const ConvShape& s) { return s.o * (s.c / s.groups) * s.kh * s.kw; }
int64_t y_count(const ConvShape& s) { return s.n * s.o * s.out_h() * s.out_w(); }

// One of the three operands: as the caller stores it, and as the primitive wants it.
struct Side {
  memory::desc plain, wanted;
  dnnl::reorder reorder;  // between the two; empty when they are equal
  memory::desc reorder_scratch;
};
struct Primitive {
  dnnl::primitive primitive;
  Side x, weight, y;
  memory::desc bias, scratch;
  bool usable = false;
};

void plan_reorder(Side& side, const memory::desc& wanted, bool is_output) {
  side.wanted = wanted;
  if (wanted == side.plain) return;
  const auto& engine = onednn_engine();
  const dnnl::reorder::primitive_desc desc(engine, is_output ? wanted : side.plain, engine,
                                           is_output ? side.plain : wanted, onednn_attributes());
  side.reorder_scratch = desc.scratchpad_desc();
  side.reorder = dnnl::reorder(desc);
}

// What oneDNN is asked for: a convolution of operands in this layout, or (any) in ones of its own choice.
struct Request {
  memory::desc x, weight, weight_grad, y, bias;
  memory::dims strides, dilations, before, after;  // before and after: padding
};

memory::dims weight_dims(const ConvShape& s) {
  return s.groups == 1 ? memory::dims{s.o, s.c, s.kh, s.kw}
                       : memory::dims{s.groups, s.o / s.groups, s.c / s.groups, s.kh, s.kw};
}

Request request_of(const ConvShape& s, DType dtype, memory::format_tag layout) {
  using tag = memory::format_tag;
  const auto type = onednn_dtype(dtype), wide = memory::data_type::f32;
  return {.x = {{s.n, s.c, s.h, s.w}, type, layout},
          .weight = {weight_dims(s), type, tag::any},
          .weight_grad = {weight_dims(s), wide, tag::any},
          .y = {{s.n, s.o, s.out_h(), s.out_w()}, type, layout},
          .bias = {{s.o}, wide, tag::x},
          .strides = {s.stride_h, s.stride_w},
          .dilations = {s.dilation_h - 1, s.dilation_w - 1},
          .before = {s.pad_h, s.pad_w},
          // What makes exactly out_h x out_w: a stride may leave a rest unread.
          .after = {(s.out_h() - 1) * s.stride_h + s.dilation_h * (s.kh - 1) + 1 - s.h - s.pad_h,
                    (s.out_w() - 1) * s.stride_w + s.dilation_w * (s.kw - 1) + 1 - s.w - s.pad_w}};
}

// Found is a description of the primitive P, which has x, weight and y in these layouts.
template <class P, class Found>
void adopt(Primitive& made, Pass pass, const Found& found, const memory::desc& x, const memory::desc& weight,
           const memory::desc& y) {
  if (!is_optimised(found.impl_info_str())) return;
  made.scratch = found.scratchpad_desc();
  plan_reorder(made.x, x, pass == Pass::data);
  plan_reorder(made.weight, weight, pass == Pass::weights);
  plan_reorder(made.y, y, pass == Pass::forward);
  made.primitive = P(found);
  made.usable = true;
}

void choose(Primitive& made, const Request& r, Pass pass, bool with_bias) {
  using Forward = dnnl::convolution_forward;
  using Data = dnnl::convolution_backward_data;
  using Weights = dnnl::convolution_backward_weights;
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto kind = dnnl::prop_kind::forward_training;
  const auto attributes = onednn_attributes();
  const auto forward = with_bias && pass == Pass::forward
                           ? primitive_of<Forward>(attributes, kind, direct, r.x, r.weight, r.bias, r.y,
                                                   r.strides, r.dilations, r.before, r.after)
                           : primitive_of<Forward>(attributes, kind, direct, r.x, r.weight, r.y, r.strides,
                                                   r.dilations, r.before, r.after);
  if (pass == Pass::forward) {
    adopt<Forward>(made, pass, forward, forward.src_desc(), forward.weights_desc(), forward.dst_desc());
  } else if (pass == Pass::data) {
    const auto found = gradient_of<Data>(forward, attributes, direct, r.x, r.weight, r.y, r.strides,
                                         r.dilations, r.before, r.after);
    adopt<Data>(made, pass, found, found.diff_src_desc(), found.weights_desc(), found.diff_dst_desc());
  } else {
    const auto found = with_bias
                           ? gradient_of<Weights>(forward, attributes, direct, r.x, r.weight_grad, r.bias,
                                                  r.y, r.strides, r.dilations, r.before, r.after)
                           : gradient_of<Weights>(forward, attributes, direct, r.x, r.weight_grad, r.y,
                                                  r.strides, r.dilations, r.before, r.after);
    adopt<Weights>(made, pass, found, found.src_desc(), found.diff_weights_desc(), found.diff_dst_desc());
  }
}

Primitive choose(const ConvShape& s, Pass pass, DType dtype, bool with_bias, memory::format_tag layout) {
  using tag = memory::format_tag;
  const Request request = request_of(s, dtype, layout);
  const auto type = onednn_dtype(dtype);
  Primitive made;
  made.x.plain = {{s.n, s.c, s.h, s.w}, type, tag::nchw};
  made.weight.plain = {weight_dims(s), pass == Pass::weights ? memory::data_type::f32 : type,
                       s.groups == 1 ? tag::oihw : tag::goihw};
  made.y.plain = {{s.n, s.o, s.out_h(), s.out_w()}, type, tag::nchw};
  if (with_bias) made.bias = request.bias;
  try {
    choose(made, request, pass, with_bias);
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented && error.status != dnnl_invalid_arguments) throw;
    made.usable = false;
  }
  return made;
}

// Blocks of 8 or 16 channels around one or a few are zeros for the most part: the plain layout is quicker.
Primitive make_primitive(const ConvShape& s, Pass pass, DType dtype, bool with_bias) {
  using tag = memory::format_tag;
  Primitive best = choose(s, pass, dtype, with_bias, tag::any);
  if (!best.usable || best.x.wanted.get_size() <= 2 * best.x.plain.get_size()) return best;
  Primitive plain = choose(s, pass, dtype, with_bias, tag::nchw);
  return plain.usable ? plain : best;
}

// The memory the primitive reads or writes for a side: the caller's own, or scratch in the wanted layout.
const void* stage(const Side& side, const void* data, Slot slot, bool is_output) {
  if (!side.reorder) return data;
  void* staged = scratch(slot, static_cast<int64_t>(side.wanted.get_size()));
  if (!is_output)
    execute(side.reorder, side.reorder_scratch,
            {{DNNL_ARG_FROM, &side.plain, data}, {DNNL_ARG_TO, &side.wanted, staged}});
  return staged;
}
void unstage(const Side& side, const void* staged, const void* data) {
  if (side.reorder)
    execute(side.reorder, side.reorder_scratch,
            {{DNNL_ARG_FROM, &side.wanted, staged}, {DNNL_ARG_TO, &side.plain, data}});
}

// False when oneDNN has nothing optimised for the problem.
bool run_library(const ConvShape& s, Pass pass, DType dtype, const void* x, const void* weight,
                 const void* bias, const void* y) {
  static PrimitiveCache<Primitive> cache(256);
  const int threads = onednn_threads(y_count(s) * (s.c / s.groups) * s.kh * s.kw);
  const int64_t flags = static_cast<int64_t>(pass) | static_cast<int64_t>(dtype) << 4 |
                        int64_t{bias != nullptr} << 8 | int64_t{threads} << 16;
  const PrimitiveKey key{s.n,        s.c,     s.h,     s.w,          s.o,          s.kh,     s.kw, s.stride_h,
                         s.stride_w, s.pad_h, s.pad_w, s.dilation_h, s.dilation_w, s.groups, flags};
  try {
    const ThreadLimit limit(threads);
    const auto made = cache.get(key, [&] { return make_primitive(s, pass, dtype, bias != nullptr); });
    if (!made->usable) return false;
    const void* staged_x = stage(made->x, x, Slot::reorder_a, pass == Pass::data);
    const void* staged_weight = stage(made->weight, weight, Slot::reorder_b, pass == Pass::weights);
    const void* staged_y = stage(made->y, y, Slot::reorder_c, pass == Pass::forward);
    const bool data = pass == Pass::data, weights = pass == Pass::weights, forward = pass == Pass::forward;
    execute(made->primitive, made->scratch,
            {{data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, &made->x.wanted, staged_x},
             {weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, &made->weight.wanted, staged_weight},
             {weights ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS, &made->bias, bias},
             {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &made->y.wanted, staged_y}});
    if (data) unstage(made->x, staged_x, x);
    if (weights) unstage(made->weight, staged_weight, weight);
    if (forward) unstage(made->y, staged_y, y);
    return true;
  } catch (const dnnl::error& error) {
    raise<DeviceError>("conv2d: oneDNN failed: {} (status {}): {} {}", error.what(),
                       static_cast<int>(error.status), name_of(dtype), describe(s));
  }
}

MatrixBatch line(const void* data, DType dtype, int64_t count) {
  return {data, dtype, 1, count, count, 1, count};
}

const float* in_f32(const void* data, DType dtype, int64_t count, Slot slot) {
  if (dtype == DType::f32) return static_cast<const float*>(data);
  float* wide = scratch_of<float>(slot, count);
  copy_matrices(line(data, dtype, count), line(wide, DType::f32, count), 1);
  return wide;
}

void check_dtype(DType dtype) {
  if (!is_floating(dtype))
    raise<DTypeError>("conv2d: expected a floating dtype (bf16, f32, f64), got {}", name_of(dtype));
}
// Empty products go to the loops, which fill the result.
bool has_work(const ConvShape& s) { return s.n > 0 && s.c > 0 && s.o > 0; }

// By our own loops. Of x, weight and y one is written, which `pass` says; with the weights the bias.
template <class T>
void run_loop(const ConvShape& s, Pass pass, const void* x, const void* weight, const void* bias,
              const void* y) {
  const auto in = [](const void* p) { return static_cast<const T*>(p); };
  const auto out = [](const void* p) { return static_cast<T*>(const_cast<void*>(p)); };
  if (pass == Pass::forward) return conv_loop_forward(s, in(x), in(weight), in(bias), out(y));
  if (pass == Pass::data) return conv_loop_backward_data(s, in(y), in(weight), out(x));
  conv_loop_backward_weights(s, in(x), in(y), out(weight), out(bias));
}

void convolve(const ConvShape& s, Pass pass, DType dtype, const void* x, const void* weight, const void* bias,
              const void* y) {
  check_conv_shape(s);
  check_dtype(dtype);
  if (dtype == DType::f64) return run_loop<double>(s, pass, x, weight, bias, y);
  if (has_work(s) && run_library(s, pass, dtype, x, weight, bias, y)) return;
  if (dtype == DType::f32) return run_loop<float>(s, pass, x, weight, bias, y);
  // In f32 scratch, and rounded once; the gradient of the weights is f32 in any case.
  const void* result = pass == Pass::data ? x : y;
  const int64_t count = pass == Pass::data ? x_count(s) : y_count(s);
  const auto wide = [&](const void* p, int64_t n, Slot slot) -> const void* {
    return p == result && pass != Pass::weights ? scratch_of<float>(slot, n) : in_f32(p, dtype, n, slot);
  };
  const void* wide_x = wide(x, x_count(s), Slot::convert_a);
  const void* wide_weight = pass == Pass::weights ? weight : wide(weight, weight_count(s), Slot::convert_b);
  const void* wide_y = wide(y, y_count(s), Slot::convert_c);
  convolve(s, pass, DType::f32, wide_x, wide_weight, bias, wide_y);
  if (pass == Pass::weights) return;
  const void* from = pass == Pass::data ? wide_x : wide_y;
  copy_matrices(line(from, DType::f32, count), line(result, dtype, count), 1);
}

}  // namespace

void check_conv_shape(const ConvShape& s) {
  if (std::min({s.n, s.c, s.o, s.pad_h, s.pad_w}) < 0 ||
      std::min({s.h, s.w, s.kh, s.kw, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w, s.groups}) < 1)
    raise<ShapeError>("conv2d: a size is too small: {}", describe(s));
  if (s.c % s.groups != 0 || s.o % s.groups != 0)
    raise<ShapeError>("conv2d: channels are not divisible by groups: {}", describe(s));
  if (s.h + 2 * s.pad_h < s.dilation_h * (s.kh - 1) + 1 || s.w + 2 * s.pad_w < s.dilation_w * (s.kw - 1) + 1)
    raise<ShapeError>("conv2d: the kernel is larger than the padded input: {}", describe(s));
}

void conv2d_forward(const ConvShape& s, DType dtype, const void* x, const void* weight, const void* bias,
                    void* y) {
  convolve(s, Pass::forward, dtype, x, weight, bias, y);
}
void conv2d_backward_data(const ConvShape& s, DType dtype, const void* dy, const void* weight, void* dx) {
  convolve(s, Pass::data, dtype, dx, weight, nullptr, dy);
}
void conv2d_backward_weights(const ConvShape& s, DType dtype, const void* x, const void* dy, void* dweight,
                             void* dbias) {
  convolve(s, Pass::weights, dtype, x, dweight, dbias, dy);
}

}  // namespace tandem::detail
