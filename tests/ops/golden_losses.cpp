#include "ops/arithmetic.h"
#include "ops/losses.h"
#include "tests/ops/golden_calls.h"

namespace tandem::testing {
namespace {

Reduction reduction(const Json& args) {
  const std::string name = args["reduction"];
  return name == "none" ? Reduction::none : name == "mean" ? Reduction::mean : Reduction::sum;
}

}  // namespace

Tensors golden_cross_entropy(const Json& a, const Tensors& in) {
  return {cross_entropy(in[0], in[1],
                        {.ignore_index = a["ignore_index"],
                         .label_smoothing = a["label_smoothing"],
                         .reduction = reduction(a)})};
}
Tensors golden_nll_loss(const Json& a, const Tensors& in) {
  return {nll_loss(in[0], in[1], reduction(a), a["ignore_index"])};
}
Tensors golden_mse_loss(const Json& a, const Tensors& in) { return {mse_loss(in[0], in[1], reduction(a))}; }
Tensors golden_binary_cross_entropy(const Json& a, const Tensors& in) {
  return {binary_cross_entropy_with_logits(in[0], in[1], reduction(a))};
}
Tensors golden_kl_div(const Json& a, const Tensors& in) {
  const Tensor loss = kl_div(in[0], in[1], reduction(a), a["log_target"]);
  return {a["reduction"] == "batchmean" ? loss / static_cast<double>(in[0].size(0)) : loss};
}

}  // namespace tandem::testing
