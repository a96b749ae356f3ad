#include <limits>

#include "ops/activations.h"
#include "ops/arithmetic.h"
#include "ops/attention.h"
#include "ops/comparison.h"
#include "ops/conv2d.h"
#include "ops/embedding.h"
#include "ops/extrema.h"
#include "ops/index.h"
#include "ops/indexing.h"
#include "ops/join.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/norms/norms.h"
#include "ops/pad.h"
#include "ops/pointwise.h"
#include "ops/pooling.h"
#include "ops/rdrop/rdrop.h"
#include "ops/reduce.h"
#include "ops/scan.h"
#include "ops/softmax.h"
#include "ops/sort.h"
#include "ops/views.h"
#include "tests/ops/golden_calls.h"

namespace tandem::testing {
namespace {

// One dimension, a list of them, or none: all.
Shape dims(const Json& args, const char* name = "dim") {
  if (!args.contains(name)) return {};
  if (args[name].is_number()) return {args[name].get<int64_t>()};
  return args[name].get<std::vector<int64_t>>();
}

bool keepdim(const Json& args) { return args.value("keepdim", false); }

// The i-th input, or undefined where PyTorch's call left it out.
Tensor optional(const Tensors& in, size_t i) { return i < in.size() ? in[i] : Tensor(); }

GoldenCall unary(Tensor (*f)(const Tensor&)) {
  return [f](const Json&, const Tensors& in) { return Tensors{f(in[0])}; };
}
GoldenCall binary(Tensor (*f)(const Tensor&, const Tensor&)) {
  return [f](const Json&, const Tensors& in) { return Tensors{f(in[0], in[1])}; };
}
GoldenCall over_dims(Tensor (*f)(const Tensor&, const Shape&, bool)) {
  return [f](const Json& a, const Tensors& in) { return Tensors{f(in[0], dims(a), keepdim(a))}; };
}
GoldenCall along_dim(Tensor (*f)(const Tensor&, int64_t)) {
  return [f](const Json& a, const Tensors& in) { return Tensors{f(in[0], a["dim"].get<int64_t>())}; };
}

// A value alone over all dimensions, or values and indices along one.
GoldenCall extreme(Tensor (*all)(const Tensor&), ValuesIndices (*along)(const Tensor&, int64_t, bool)) {
  return [=](const Json& a, const Tensors& in) {
    if (!a.contains("dim")) return Tensors{all(in[0])};
    const ValuesIndices result = along(in[0], a["dim"].get<int64_t>(), keepdim(a));
    return Tensors{result.values, result.indices};
  };
}

Tensors golden_pow(const Json& args, const Tensors& in) {
  return {args.contains("exponent") ? pow(in[0], golden_number(args["exponent"])) : pow(in[0], in[1])};
}

Tensors golden_clamp(const Json& args, const Tensors& in) {
  static constexpr double inf = std::numeric_limits<double>::infinity();
  return {clamp(in[0], args.value("min", -inf), args.value("max", inf))};
}

Tensors golden_argmax(const Json& args, const Tensors& in) {
  return {args.contains("dim") ? argmax(in[0], args["dim"].get<int64_t>(), keepdim(args)) : argmax(in[0])};
}

Tensors golden_topk(const Json& args, const Tensors& in) {
  const ValuesIndices result =
      topk(in[0], args["k"].get<int64_t>(), args["dim"].get<int64_t>(), args["largest"].get<bool>());
  return {result.values, result.indices};
}

Tensors golden_var(const Json& args, const Tensors& in) {
  return {var(in[0], dims(args), args["unbiased"].get<bool>() ? 1 : 0, keepdim(args))};
}

Tensors golden_split(const Json& args, const Tensors& in) {
  const Json& sizes = args["split_size_or_sections"];
  const int64_t dim = args["dim"].get<int64_t>();
  return sizes.is_number() ? split(in[0], sizes.get<int64_t>(), dim)
                           : split(in[0], sizes.get<std::vector<int64_t>>(), dim);
}

Tensors golden_slice(const Json& args, const Tensors& in) {
  return {slice(in[0], args["dim"].get<int64_t>(), args["start"].get<int64_t>(), args["end"].get<int64_t>(),
                args["step"].get<int64_t>())};
}

// What the script's brackets() makes; the tensors are the inputs from `next` on.
IndexList brackets(const Json& at, const Tensors& in, size_t next) {
  std::vector<Index> list;
  for (const Json& i : at) {
    if (i.is_number()) {
      list.push_back(i.get<int64_t>());
    } else if (i.is_array()) {
      const auto bound = [&](size_t k) { return i[k].is_null() ? Bound() : Bound(i[k].get<int64_t>()); };
      list.push_back({bound(0), bound(1), bound(2).value_or(1)});
    } else {
      list.push_back(i == "t" ? Index(in.at(next++)) : i == "new" ? Index(NewAxis{}) : Index(Ellipsis{}));
    }
  }
  return list;
}

Tensors golden_index_put(const Json& args, const Tensors& in) {
  return {index_put(in[0], brackets(args["at"], in, 2), in[1], args.value("accumulate", false))};
}

Tensors golden_attention(const Json& args, const Tensors& in) {
  return {attention(in[0], in[1], in[2], {.causal = args["causal"].get<bool>()}, optional(in, 3))};
}

Tensors golden_layer_norm(const Json& args, const Tensors& in) {
  return {layer_norm(in[0], dims(args, "normalized_shape"), optional(in, 1), optional(in, 2),
                     golden_number(args["eps"]))};
}

Tensors golden_group_norm(const Json& args, const Tensors& in) {
  return {group_norm(in[0], args["num_groups"].get<int64_t>(), optional(in, 1), optional(in, 2),
                     golden_number(args["eps"]))};
}

Tensors golden_batch_norm(const Json& args, const Tensors& in) {
  const bool training = args["training"].get<bool>();
  const BatchStatistics running{in[3].clone(), in[4].clone()};
  const double eps = golden_number(args["eps"]);
  if (!training) return {batch_norm(in[0], running, in[1], in[2], false, eps), running.mean, running.var};
  const auto [y, batch] = batch_norm_training(in[0], in[1], in[2], eps);
  update_running(running, batch, golden_number(args["momentum"]));
  return {y, running.mean, running.var};
}

// The argument `name` as a pair or any other list.
Shape sizes(const Json& args, const char* name) { return args[name].get<std::vector<int64_t>>(); }

Tensors golden_conv2d(const Json& args, const Tensors& in) {
  return {conv2d(in[0], in[1], in.size() > 2 ? in[2] : Tensor(),
                 {.stride = sizes(args, "stride"),
                  .padding = sizes(args, "padding"),
                  .dilation = sizes(args, "dilation"),
                  .groups = args["groups"].get<int64_t>()})};
}

Tensors golden_max_pool2d(const Json& args, const Tensors& in) {
  return {max_pool2d(in[0], sizes(args, "kernel_size"), sizes(args, "stride"), sizes(args, "padding"))};
}

Tensors golden_avg_pool2d(const Json& args, const Tensors& in) {
  return {avg_pool2d(in[0], sizes(args, "kernel_size"), sizes(args, "stride"), sizes(args, "padding"),
                     args.value("count_include_pad", true))};
}

Tensors golden_embedding(const Json& args, const Tensors& in) {
  return {embedding(in[1], in[0], args.value("padding_idx", int64_t{-1}))};
}

RDropOptions rdrop_options(const Json& args) {
  return {.alpha = golden_number(args["alpha"]),
          .label_smoothing = args.value("label_smoothing", 0.0),
          .ignore_index = args.value("ignore_index", int64_t{-100}),
          .divisor = args.value("divisor", 0.0)};
}

// The leading dimension of the first input is the passes.
Tensor passes_of(const Tensor& x) {
  Tensors passes;
  for (int64_t i = 0; i < x.size(0); ++i) passes.push_back(x[i]);
  return stack_passes(passes);
}

Tensors rdrop_parts(const LossParts& parts) {
  return {parts.loss, scalar(parts.ce, {DType::f64}), scalar(parts.kl, {DType::f64})};
}

}  // namespace

const std::map<std::string, GoldenCall>& golden_calls() {
  static const std::map<std::string, GoldenCall> calls{
      {"add", binary(add)},
      {"sub", binary(sub)},
      {"mul", binary(mul)},
      {"div", binary(div)},
      {"pow", golden_pow},
      {"maximum", binary(maximum)},
      {"minimum", binary(minimum)},
      {"neg", unary(neg)},
      {"abs", unary(abs)},
      {"exp", unary(exp)},
      {"expm1", unary(expm1)},
      {"sin", unary(sin)},
      {"cos", unary(cos)},
      {"tanh", unary(tanh)},
      {"sigmoid", unary(sigmoid)},
      {"erf", unary(erf)},
      {"reciprocal", unary(reciprocal)},
      {"square", unary(square)},
      {"log", unary(log)},
      {"log1p", unary(log1p)},
      {"sqrt", unary(sqrt)},
      {"rsqrt", unary(rsqrt)},
      {"relu", unary(relu)},
      {"silu", unary(silu)},
      {"softplus", unary(softplus)},
      {"gelu",
       [](const Json& a, const Tensors& in) {
         return Tensors{gelu(in[0], a["approximate"] == "tanh" ? Approximate::tanh : Approximate::none)};
       }},
      {"leaky_relu",
       [](const Json& a, const Tensors& in) {
         return Tensors{leaky_relu(in[0], golden_number(a["negative_slope"]))};
       }},
      {"elu",
       [](const Json& a, const Tensors& in) { return Tensors{elu(in[0], golden_number(a["alpha"]))}; }},
      {"clamp", golden_clamp},
      {"where", [](const Json&, const Tensors& in) { return Tensors{where(in[0], in[1], in[2])}; }},
      {"masked_fill",
       [](const Json& a, const Tensors& in) {
         return Tensors{masked_fill(in[0], in[1], golden_number(a["value"]))};
       }},
      {"eq", binary(eq)},
      {"ne", binary(ne)},
      {"lt", binary(lt)},
      {"le", binary(le)},
      {"gt", binary(gt)},
      {"ge", binary(ge)},
      {"matmul", binary(matmul)},
      {"linear",
       [](const Json&, const Tensors& in) {
         return Tensors{linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor())};
       }},
      {"conv2d", golden_conv2d},
      {"max_pool2d", golden_max_pool2d},
      {"avg_pool2d", golden_avg_pool2d},
      {"adaptive_avg_pool2d",
       [](const Json& a, const Tensors& in) {
         return Tensors{adaptive_avg_pool2d(in[0], sizes(a, "output_size"))};
       }},
      {"embedding", golden_embedding},
      {"sum", over_dims(sum)},
      {"mean", over_dims(mean)},
      {"max", extreme(max, max)},
      {"min", extreme(min, min)},
      {"amax", over_dims(amax)},
      {"amin", over_dims(amin)},
      {"argmax", golden_argmax},
      {"topk", golden_topk},
      {"logsumexp", over_dims(logsumexp)},
      {"var", golden_var},
      {"std",
       [](const Json& a, const Tensors& in) {
         return Tensors{stddev(in[0], dims(a), a["unbiased"].get<bool>() ? 1 : 0, keepdim(a))};
       }},
      {"prod", over_dims(prod)},
      {"cumsum", along_dim(cumsum)},
      {"softmax", along_dim(softmax)},
      {"log_softmax", along_dim(log_softmax)},
      {"layer_norm", golden_layer_norm},
      {"rms_norm",
       [](const Json& a, const Tensors& in) {
         return Tensors{rms_norm(in[0], optional(in, 1), golden_number(a["eps"]))};
       }},
      {"group_norm", golden_group_norm},
      {"batch_norm", golden_batch_norm},
      {"cat", [](const Json& a, const Tensors& in) { return Tensors{cat(in, a["dim"].get<int64_t>())}; }},
      {"stack", [](const Json& a, const Tensors& in) { return Tensors{stack(in, a["dim"].get<int64_t>())}; }},
      {"split", golden_split},
      {"slice", golden_slice},
      {"gather", [](const Json& a,
                    const Tensors& in) { return Tensors{gather(in[0], a["dim"].get<int64_t>(), in[1])}; }},
      {"scatter",
       [](const Json& a, const Tensors& in) {
         return Tensors{scatter(in[0], a["dim"].get<int64_t>(), in[1], in[2])};
       }},
      {"index",
       [](const Json& a, const Tensors& in) { return Tensors{in[0].index(brackets(a["at"], in, 1))}; }},
      {"index_put", golden_index_put},
      {"masked_select", binary(masked_select)},
      {"nonzero", unary(nonzero)},
      {"index_select",
       [](const Json& a, const Tensors& in) {
         return Tensors{index_select(in[0], a["dim"].get<int64_t>(), in[1])};
       }},
      {"pad",
       [](const Json& a, const Tensors& in) {
         return Tensors{pad(in[0], a["pad"].get<std::vector<int64_t>>(), golden_number(a["value"]))};
       }},
      {"permute", [](const Json& a, const Tensors& in) { return Tensors{permute(in[0], dims(a, "dims"))}; }},
      {"reshape", [](const Json& a, const Tensors& in) { return Tensors{reshape(in[0], dims(a, "shape"))}; }},
      {"transpose",
       [](const Json& a, const Tensors& in) {
         return Tensors{transpose(in[0], a["dim0"].get<int64_t>(), a["dim1"].get<int64_t>())};
       }},
      {"expand", [](const Json& a, const Tensors& in) { return Tensors{expand(in[0], dims(a, "size"))}; }},
      {"flip", [](const Json& a, const Tensors& in) { return Tensors{flip(in[0], dims(a, "dims"))}; }},
      {"scaled_dot_product_attention", golden_attention},
      {"rdrop_cross_entropy",
       [](const Json& a, const Tensors& in) {
         return rdrop_parts(rdrop_cross_entropy(passes_of(in[0]), in[1], rdrop_options(a), optional(in, 2)));
       }},
      {"rdrop_mse",
       [](const Json& a, const Tensors& in) {
         return rdrop_parts(rdrop_mse(passes_of(in[0]), in[1], rdrop_options(a), optional(in, 2)));
       }},
      {"weighted_rdrop_cross_entropy",
       [](const Json& a, const Tensors& in) {
         return rdrop_parts(weighted_rdrop_cross_entropy(passes_of(in[0]), in[1], in[2], rdrop_options(a)));
       }},
      {"rdrop_binary_cross_entropy",
       [](const Json& a, const Tensors& in) {
         return rdrop_parts(
             rdrop_binary_cross_entropy(passes_of(in[0]), in[1], rdrop_options(a), optional(in, 2)));
       }},
      {"cross_entropy", golden_cross_entropy},
      {"nll_loss", golden_nll_loss},
      {"mse_loss", golden_mse_loss},
      {"binary_cross_entropy_with_logits", golden_binary_cross_entropy},
      {"kl_div", golden_kl_div},
  };
  return calls;
}

const std::set<std::string>& golden_unwritten() {
  static const std::set<std::string> names{};
  return names;
}

}  // namespace tandem::testing
