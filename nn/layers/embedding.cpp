#include "nn/layers/embedding.h"

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "nn/layers/options.h"

namespace tandem::nn {

Embedding::Embedding(Module& parent, std::string name, int64_t num, int64_t dim,
                     std::optional<int64_t> padding_idx)
    : Layer(parent, std::move(name)), padding_idx(padding_idx) {
  check_sizes(*this, "Embedding", {num, dim});
  const Scope scope(path());
  check<ConfigError>(!padding_idx || (*padding_idx >= 0 && *padding_idx < num),
                     "Embedding: padding_idx is {}, expected a row of {}", padding_idx.value_or(0), num);
  weight = register_parameter("weight", {num, dim}, init::normal());
  if (!padding_idx) return;
  const NoGradGuard no_grad;
  weight.select(0, *padding_idx).zero_();
}

}  // namespace tandem::nn
