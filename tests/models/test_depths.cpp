// How deep parameters are, and what freezing by depth saves.
#include "models/depths.h"

#include "autograd/pass_context.h"
#include "models/models.h"
#include "nn/train/plan.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// "name level[ head]" of the first parameter of each place.
std::string places(const nn::Module& model) {
  const models::Depths depths = models::depths(model);
  const nn::NamedTensors parameters = model.named_parameters();
  REQUIRE(depths.of.size() == parameters.size());
  std::string text = fmt::format("{} blocks:", depths.blocks);
  std::string before;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = parameters[i].name;
    std::string part = name.substr(0, name.find('.'));
    if (const size_t dot = name.find('.'); dot != name.npos && std::isdigit(name[dot + 1]) != 0)
      part = name.substr(0, name.find('.', dot + 1));
    const std::string place =
        fmt::format(" {} {}{}", part, depths.of[i].level, depths.of[i].is_head ? " head" : "");
    if (place != before) text += place + ",";
    before = place;
  }
  return text;
}

const models::VitConfig kVit{.image_size = 8,
                             .classes = 3,
                             .patch_size = 4,
                             .dim = 16,
                             .depth = 3,
                             .heads = 2,
                             .mlp_dim = 32,
                             .attention_dropout = 0.1,
                             .drop_path = 0.1};
const models::TextEncoderConfig kText{.vocab = 12,
                                      .outputs = 3,
                                      .dim = 16,
                                      .heads = 2,
                                      .mlp_dim = 32,
                                      .layers = 3,
                                      .max_positions = 8,
                                      .attention_dropout = 0.1,
                                      .layer_drop = 0.1,
                                      .word_dropout = 0.1};

// What the levels of a model with `frozen` blocks below hold in a step of 3 passes: the passes, and whether
// there is a tape.
template <class Model> void check_shared(Model& model, const data::Batch& batch, int64_t frozen) {
  const models::Depths depths = models::depths(model);
  const Tensors parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].requires_grad_(depths.of[i].level > frozen);
  const nn::Hookable hooked = models::hookable(model);
  std::vector<int64_t> calls(hooked.levels);
  const PassContext passes({.count = 3, .batch = batch.size});
  const Tensor logits = hooked.logits(batch, [&](int64_t level, const Tensor& x) {
    INFO("level ", level);
    ++calls[level];
    CHECK(x.passes() == (level <= frozen ? 1 : 3));
    CHECK(x.requires_grad() == (level > frozen));
    return x;
  });
  CHECK(calls == std::vector<int64_t>(hooked.levels, 1));
  rdrop_cross_entropy(logits, batch.target).loss.backward();
  for (size_t i = 0; i < parameters.size(); ++i) {
    INFO(model.named_parameters()[i].name);
    CHECK(parameters[i].grad().defined() == (depths.of[i].level > frozen));
  }
}

}  // namespace

TEST_CASE("depths: embeddings, blocks from the bottom, what is above, the head") {
  CHECK(places(models::Vit(kVit)) ==
        "3 blocks: class_token 0, positions 0, patch_embed 0, blocks.0 1, blocks.1 2, blocks.2 3, norm 4, "
        "head 4 head,");
  CHECK(places(models::TextEncoder(kText)) ==
        "3 blocks: positions 0, words 0, segments 0, norm 0, layers.0 1, layers.1 2, layers.2 3, pooler 4, "
        "head 4 head,");
  CHECK(places(models::LanguageModel(
                   {.vocab = 9, .dim = 8, .heads = 2, .mlp_dim = 8, .layers = 11, .tie_output = false}))
            .ends_with("layers.9 10, layers.10 11, norm 12, output 12 head,"));
  CHECK(places(models::Transformer({.vocab = 9,
                                    .dim = 8,
                                    .heads = 2,
                                    .mlp_dim = 8,
                                    .encoder_layers = 2,
                                    .decoder_layers = 1,
                                    .norm_first = true,
                                    .tie_output = false})) ==
        "3 blocks: source_embedding 0, encoder.0 1, encoder.1 2, decoder.0 3, encoder_norm 2, decoder_norm "
        "4, output 4 head,");
  const models::Cnn cnn({});
  check_throws<ConfigError>("depths: expected a Vit, TextEncoder, LanguageModel or Transformer",
                            [&] { models::depths(cnn); });
}

TEST_CASE("frozen lower blocks are computed once for all passes, and have no tape") {
  for (const int64_t frozen : {1, 2}) {
    INFO(frozen, " frozen");
    models::VitConfig images = kVit;
    images.dropout_from = frozen;
    models::Vit vit(images);
    const Tensor labels = from_values(std::vector<int64_t>{0, 2}, {2});
    check_shared(vit, {{normal({2, 1, 8, 8}, 1)}, labels, {}, 2}, frozen);
    models::TextEncoderConfig texts = kText;
    texts.dropout_from = frozen;
    models::TextEncoder encoder(texts);
    const Tensor ids = from_values(std::vector<int64_t>{2, 5, 7, 3, 2, 9, 3, 0}, {2, 4});
    check_shared(encoder, {{ids, zeros_like(ids)}, labels, {}, 2}, frozen);
  }
  models::TextEncoderConfig wrong = kText;
  wrong.dropout_from = 4;
  check_throws<ConfigError>("dropout_from: expected 0 to the 3 layers, got 4",
                            [&] { models::TextEncoder{wrong}; });
}
