// attention() of the three parts of one tensor, which the op reads, and whose gradients it writes, in place.
#include "ops/self_attention.h"

#include "autograd/registry.h"
#include "ops/attention_op.h"

namespace tandem {
namespace {

// [B, H, T, D] to [B, T, H D]: a view of what the op gives.
Tensor joined_heads(const Tensor& x) { return x.transpose(1, 2).flatten(2); }

}  // namespace

Tensor self_attention(const Tensor& qkv, int64_t heads, const AttentionOptions& options,
                      const Tensor& key_padding_mask, const PackedRows& rows) {
  const char* name = "self_attention";
  check<ShapeError>(qkv.dim() == (rows.defined() ? 2 : 3), "{}: expected qkv {}, got {}", name,
                    rows.defined() ? "[rows, 3 dim]" : "[batch, length, 3 dim]", describe(qkv));
  check<ShapeError>(heads > 0 && qkv.size(-1) % (3 * heads) == 0,
                    "{}: expected 3 times a multiple of {} heads, got {}", name, heads, describe(qkv));
  if (!rows.defined())
    return joined_heads(detail::checked_attention({qkv}, options, key_padding_mask, detail::noise_of(options),
                                                  {}, {}, heads));
  check<ShapeError>(qkv.size(0) == rows.rows() && rows.positions() <= int64_t{1} << 20,
                    "{}: expected {} rows and at most 2^20 positions, got {} and {}", name, rows.rows(),
                    describe(qkv), rows.positions());
  detail::check_packed_mask(name, key_padding_mask, rows);
  const Noise noise = detail::noise_of(options);
  if (qkv.device() != kCpu) {
    const Tensor mask = detail::padded_mask(key_padding_mask, rows, qkv.device());
    return pack_padded(
        joined_heads(detail::checked_attention({pad_packed(qkv, rows)}, options, mask, noise, {}, {}, heads)),
        rows);
  }
  const Tensor mask = key_padding_mask.defined() ? key_padding_mask.unsqueeze(0) : Tensor();
  return joined_heads(detail::checked_attention({qkv.unsqueeze(0)}, options, mask, noise, rows, rows, heads))
      .squeeze(0);
}

namespace {

Tensor ignored(const std::vector<uint8_t>& values, const Shape& shape, Device device) {
  return from_values(values, shape).to(DType::boolean).to(device);
}

void self_attention_cases(OpCases& c) {
  const auto f = [](int64_t heads, AttentionOptions options, PassOptions passes = {}, PackedRows rows = {}) {
    return [=](const Tensors& in) {
      const PassContext context(passes);
      return self_attention(in[0], heads, options, in.size() > 1 ? in[1] : Tensor(), rows);
    };
  };
  const Tensor x = c.normal({2, 3, 12}), mask = ignored({0, 1, 0, 0, 0, 1}, {2, 3}, c.device());
  const PassOptions two{.seed = 5, .count = 2};
  c.sample("plain", {x}, f(2, {}));
  c.sample("causal", {x}, f(4, {.scale = 1.3, .causal = true}));
  c.sample("masked", {x, mask}, f(1, {}));
  c.sample("makes 2 passes", {x, mask}, f(2, {.dropout = 0.4}, two));
  c.sample("nothing", {c.normal({2, 0, 6})}, f(2, {}));
  const PackedRows rows({{1, 3}, {0, 1}, {0, 3}}, 4);
  c.sample("packed", {c.normal({6, 6})}, f(2, {}, {}, rows));
  c.sample("packed, masked, causal, dropout",
           {c.normal({6, 6}), ignored({0, 1, 0, 0, 0, 1}, {6}, c.device())},
           f(1, {.causal = true, .dropout = 0.4}, two, rows));

  c.fails<ShapeError>("rank", "self_attention: expected qkv [batch, length, 3 dim], got f32[6,6]",
                      {zeros({6, 6})}, f(2, {}));
  c.fails<ShapeError>("heads", "self_attention: expected 3 times a multiple of 4 heads, got f32[2,3,6]",
                      {zeros({2, 3, 6})}, f(4, {}));
  c.fails<ShapeError>("rows", "self_attention: expected 6 rows and at most 2^20 positions", {zeros({5, 6})},
                      f(2, {}, {}, rows));
  c.fails<ShapeError>("mask", "self_attention: key_padding_mask is bool[5], expected [6]",
                      {zeros({6, 6}), zeros({5}, {DType::boolean})}, f(2, {}, {}, rows));
}
const RegisterOp self_attention_op("self_attention", self_attention_cases,
                                   {.second_order = false, .draws_noise = true});

}  // namespace
}  // namespace tandem
