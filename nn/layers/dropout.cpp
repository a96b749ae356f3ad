#include "nn/layers/dropout.h"

#include "nn/layers/options.h"
#include "ops/drop_path.h"
#include "ops/dropout.h"

namespace tandem::nn {

Dropout::Dropout(Module& parent, std::string name, double p) : Layer(parent, std::move(name)), p(p) {
  check_rate(*this, "Dropout", p);
}
Tensor Dropout::forward(const Tensor& x) { return is_training() && p > 0 ? dropout(x, p) : x; }

DropPath::DropPath(Module& parent, std::string name, double p) : Layer(parent, std::move(name)), p(p) {
  check_rate(*this, "DropPath", p);
}
Tensor DropPath::forward(const Tensor& x) { return is_training() && p > 0 ? drop_path(x, p) : x; }

}  // namespace tandem::nn
