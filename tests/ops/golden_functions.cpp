#include "ops/ops.h"
#include "tests/ops/golden_calls.h"

namespace tandem::testing {
namespace {

// The argument `name`, or PyTorch's default, which is ours.
template <class T> T argument(const Json& args, const char* name, T value) {
  return args.contains(name) ? args[name].get<T>() : value;
}
using List = std::vector<int64_t>;

Tensors golden_norm(const Json& args, const Tensors& in) {
  return {
      norm(in[0], golden_number(args["p"]), argument(args, "dim", List()), argument(args, "keepdim", false))};
}

Tensors golden_normalize(const Json& args, const Tensors& in) {
  if (args.empty()) return {normalize(in[0])};
  return {
      normalize(in[0], args["p"].get<double>(), args["dim"].get<int64_t>(), argument(args, "eps", 1e-12))};
}

Tensors golden_cosine(const Json& args, const Tensors& in) {
  if (args.empty()) return {cosine_similarity(in[0], in[1])};
  return {cosine_similarity(in[0], in[1], args["dim"].get<int64_t>())};
}

Tensors golden_interpolate(const Json& args, const Tensors& in) {
  const std::string mode = args["mode"];
  return {interpolate(in[0], {.size = argument(args, "size", List()),
                              .scale_factor = argument(args, "scale_factor", std::vector<double>()),
                              .mode = mode == "nearest"    ? Interpolation::nearest
                                      : mode == "bilinear" ? Interpolation::bilinear
                                                           : Interpolation::bicubic,
                              .align_corners = argument(args, "align_corners", false),
                              .antialias = argument(args, "antialias", false)})};
}

Tensors golden_repeat_interleave(const Json& args, const Tensors& in) {
  const int64_t repeats = args["repeats"];
  return {args.contains("dim") ? repeat_interleave(in[0], repeats, args["dim"].get<int64_t>())
                               : repeat_interleave(in[0], repeats)};
}

Tensors golden_one_hot(const Json& args, const Tensors& in) {
  return {args.empty() ? one_hot(in[0]) : one_hot(in[0], args["num_classes"].get<int64_t>())};
}

}  // namespace

const std::map<std::string, GoldenCall>& golden_functions() {
  static const std::map<std::string, GoldenCall> calls{
      {"einsum", [](const Json& a,
                    const Tensors& in) { return Tensors{einsum(a["equation"].get<std::string>(), in)}; }},
      {"norm", golden_norm},
      {"normalize", golden_normalize},
      {"cosine_similarity", golden_cosine},
      {"interpolate", golden_interpolate},
      {"flip", [](const Json& a, const Tensors& in) { return Tensors{flip(in[0], a["dims"].get<List>())}; }},
      {"roll",
       [](const Json& a, const Tensors& in) {
         return Tensors{roll(in[0], a["shifts"].get<List>(), argument(a, "dims", List()))};
       }},
      {"tril",
       [](const Json& a, const Tensors& in) { return Tensors{tril(in[0], a["diagonal"].get<int64_t>())}; }},
      {"triu",
       [](const Json& a, const Tensors& in) { return Tensors{triu(in[0], a["diagonal"].get<int64_t>())}; }},
      {"diagonal",
       [](const Json& a, const Tensors& in) {
         return Tensors{
             diagonal(in[0], a["offset"].get<int64_t>(), a["dim1"].get<int64_t>(), a["dim2"].get<int64_t>())};
       }},
      {"diag",
       [](const Json& a, const Tensors& in) { return Tensors{diag(in[0], a["diagonal"].get<int64_t>())}; }},
      {"tile", [](const Json& a, const Tensors& in) { return Tensors{tile(in[0], a["dims"].get<List>())}; }},
      {"repeat_interleave", golden_repeat_interleave},
      {"dot", [](const Json&, const Tensors& in) { return Tensors{dot(in[0], in[1])}; }},
      {"outer", [](const Json&, const Tensors& in) { return Tensors{outer(in[0], in[1])}; }},
      {"meshgrid",
       [](const Json& a, const Tensors& in) {
         return meshgrid(in, a["indexing"] == "xy" ? Indexing::xy : Indexing::ij);
       }},
      {"one_hot", golden_one_hot},
  };
  return calls;
}

}  // namespace tandem::testing
