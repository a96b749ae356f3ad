#include "ops/dropout.h"

#include "autograd/registry.h"
#include "ops/dropout_op.h"

namespace tandem {
Tensor dropout(const Tensor& x, const Noise& noise) { return detail::drop<detail::DropElements>(x, noise); }
Tensor dropout(const Tensor& x, double p) {
  return dropout(x, PassContext::require("dropout").noise(Purpose::dropout, p));
}

namespace {

void dropout_cases(OpCases& c) {
  const auto f = [](PassOptions options) {
    return [options](const Tensors& in) {
      const PassContext context(options);
      return dropout(in[0], 0.4);
    };
  };
  c.sample("one pass", {c.normal({3, 50})}, f({.seed = 5}));
  c.sample("makes 3 passes", {c.normal({3, 50})}, f({.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("inactive", {c.normal({3, 5})}, f({.seed = 5, .count = 2, .rates = {0, 0}}));
  const PackedRows rows({{0, 3}, {2, 4}, {1, 1}}, 4);
  const auto packed = [=](const Tensors& in) {
    const PackedScope scope(rows);
    return f({.seed = 5, .count = 2})(in);
  };
  c.sample("packed rows", {c.normal({5, 10})}, packed);
  c.sample("no packed row", {c.normal({0, 10})}, [=](const Tensors& in) {
    const PackedScope scope(PackedRows({{1, 1}}, 4));
    return f({.seed = 5})(in);
  });
  c.fails<ShapeError>("rows", "dropout: [4,10] within a PackedScope, expected 5 rows", {zeros({4, 10})},
                      packed);
  c.fails<AutogradError>("no context", "dropout: noise outside of a PassContext",
                         [] { dropout(zeros({2}), 0.1); });
  c.fails<ConfigError>("rate 1", "dropout: expected a rate in [0, 1), got 1", [] {
    const PassContext context({});
    dropout(zeros({2}), 1.0);
  });
  c.fails<ShapeError>("batch", "dropout: 5 elements are not divisible among the 2 samples",
                      [=] { f({.batch = 2})({zeros({5})}); });
}
const RegisterOp dropout_op("dropout", dropout_cases, {.draws_noise = true});

}  // namespace
}  // namespace tandem
