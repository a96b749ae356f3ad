// The tables of names: theirs, ours.
#include <iterator>

#include "autograd/error.h"
#include "models/pretrained/names.h"
#include "nn/io/text.h"

namespace tandem::models {
namespace {

constexpr NameRow kVit[] = {
    {"embeddings.cls_token", "class_token"},
    {"embeddings.distillation_token", "distillation_token"},
    {"embeddings.position_embeddings", "positions"},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.*"},
    {"encoder.layer.{}.layernorm_before.*", "blocks.{}.norm1.*"},
    {"encoder.layer.{}.attention.attention.query.*", "blocks.{}.attn.q_proj.*"},
    {"encoder.layer.{}.attention.attention.key.*", "blocks.{}.attn.k_proj.*"},
    {"encoder.layer.{}.attention.attention.value.*", "blocks.{}.attn.v_proj.*"},
    {"encoder.layer.{}.attention.output.dense.*", "blocks.{}.attn.out_proj.*"},
    {"encoder.layer.{}.layernorm_after.*", "blocks.{}.norm2.*"},
    {"encoder.layer.{}.intermediate.dense.*", "blocks.{}.mlp.fc1.*"},
    {"encoder.layer.{}.output.dense.*", "blocks.{}.mlp.fc2.*"},
    {"layernorm.*", "norm.*"},
};
constexpr NameRow kClassifier[] = {{"classifier.*", "head.*"}};
constexpr NameRow kDeitHeads[] = {{"cls_classifier.*", "head.*"},
                                  {"distillation_classifier.*", "distillation_head.*"}};
constexpr NameRow kDinov2[] = {
    {"embeddings.cls_token", "class_token"},
    {"embeddings.register_tokens", "registers"},
    {"embeddings.position_embeddings", "positions"},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.*"},
    {"encoder.layer.{}.norm1.*", "blocks.{}.norm1.*"},
    {"encoder.layer.{}.attention.attention.query.*", "blocks.{}.attn.q_proj.*"},
    {"encoder.layer.{}.attention.attention.key.*", "blocks.{}.attn.k_proj.*"},
    {"encoder.layer.{}.attention.attention.value.*", "blocks.{}.attn.v_proj.*"},
    {"encoder.layer.{}.attention.output.dense.*", "blocks.{}.attn.out_proj.*"},
    {"encoder.layer.{}.layer_scale1.lambda1", "blocks.{}.scale1.scale"},
    {"encoder.layer.{}.norm2.*", "blocks.{}.norm2.*"},
    {"encoder.layer.{}.mlp.fc1.*", "blocks.{}.mlp.fc1.*"},
    {"encoder.layer.{}.mlp.fc2.*", "blocks.{}.mlp.fc2.*"},
    {"encoder.layer.{}.layer_scale2.lambda1", "blocks.{}.scale2.scale"},
    {"layernorm.*", "norm.*"},
};
constexpr NameRow kTimm[] = {
    {"cls_token", "class_token"},
    {"dist_token", "distillation_token"},
    {"reg_token", "registers"},
    {"pos_embed", "positions"},
    {"patch_embed.proj.*", "patch_embed.*"},
    {"norm_pre.*", "pre_norm.*"},
    {"blocks.{}.norm1.*", "blocks.{}.norm1.*"},
    {"blocks.{}.attn.qkv.*", "blocks.{}.attn.(q_proj k_proj v_proj).*"},
    {"blocks.{}.attn.proj.*", "blocks.{}.attn.out_proj.*"},
    {"blocks.{}.ls1.gamma", "blocks.{}.scale1.scale"},
    {"blocks.{}.norm2.*", "blocks.{}.norm2.*"},
    {"blocks.{}.mlp.fc1.*", "blocks.{}.mlp.fc1.*"},
    {"blocks.{}.mlp.fc2.*", "blocks.{}.mlp.fc2.*"},
    {"blocks.{}.ls2.gamma", "blocks.{}.scale2.scale"},
};
constexpr NameRow kTimmHeads[] = {
    {"norm.*", "norm.*"}, {"head.*", "head.*"}, {"head_dist.*", "distillation_head.*"}};
constexpr NameRow kTimmMeanHeads[] = {{"fc_norm.*", "norm.*"}, {"head.*", "head.*"}};
constexpr NameRow kBert[] = {
    {"embeddings.word_embeddings.weight", "words.weight"},
    {"embeddings.position_embeddings.weight", "positions"},
    {"embeddings.token_type_embeddings.weight", "segments.weight"},
    {"embeddings.LayerNorm.*", "norm.*"},
    {"encoder.layer.{}.attention.self.query.*", "layers.{}.attn.q_proj.*"},
    {"encoder.layer.{}.attention.self.key.*", "layers.{}.attn.k_proj.*"},
    {"encoder.layer.{}.attention.self.value.*", "layers.{}.attn.v_proj.*"},
    {"encoder.layer.{}.attention.output.dense.*", "layers.{}.attn.out_proj.*"},
    {"encoder.layer.{}.attention.output.LayerNorm.*", "layers.{}.norm1.*"},
    {"encoder.layer.{}.intermediate.dense.*", "layers.{}.mlp.fc1.*"},
    {"encoder.layer.{}.output.dense.*", "layers.{}.mlp.fc2.*"},
    {"encoder.layer.{}.output.LayerNorm.*", "layers.{}.norm2.*"},
    {"pooler.dense.*", "pooler.*"},
};
constexpr NameRow kBertHeads[] = {
    {"classifier.*", "head.*"},
    {"cls.predictions.transform.dense.*", "word_dense.*"},
    {"cls.predictions.transform.LayerNorm.*", "word_norm.*"},
    {"cls.predictions.bias", "word_bias"},
};
constexpr std::span<const NameRow> kRoberta =
    std::span(kBert).first(std::size(kBert) - 1);  // its pooler is the head's
constexpr NameRow kRobertaHeads[] = {
    {"classifier.dense.*", "pooler.*"},  {"classifier.out_proj.*", "head.*"},
    {"lm_head.dense.*", "word_dense.*"}, {"lm_head.layer_norm.*", "word_norm.*"},
    {"lm_head.bias", "word_bias"},
};
constexpr NameRow kGpt2[] = {
    {"wte.weight", "embedding.tokens.weight"},
    {"wpe.weight", "embedding.positions"},
    {"h.{}.ln_1.*", "layers.{}.norm1.*"},
    {"h.{}.attn.c_attn.*", "layers.{}.attn.(q_proj k_proj v_proj).*", Stored::transposed},
    {"h.{}.attn.c_proj.*", "layers.{}.attn.out_proj.*", Stored::transposed},
    {"h.{}.ln_2.*", "layers.{}.norm2.*"},
    {"h.{}.mlp.c_fc.*", "layers.{}.mlp.fc1.*", Stored::transposed},
    {"h.{}.mlp.c_proj.*", "layers.{}.mlp.fc2.*", Stored::transposed},
    {"ln_f.*", "norm.*"},
};
constexpr NameRow kGpt2Heads[] = {{"lm_head.weight", "output.weight"}};
constexpr NameRow kBart[] = {
    {"shared.weight", "source_embedding.tokens.weight"},
    {"shared.weight", "target_embedding.tokens.weight", Stored::once},
    {"encoder.embed_positions.weight", "source_embedding.positions"},
    {"encoder.layernorm_embedding.*", "source_embedding.norm.*"},
    {"encoder.layers.{}.self_attn.q_proj.*", "encoder.{}.attn.q_proj.*"},
    {"encoder.layers.{}.self_attn.k_proj.*", "encoder.{}.attn.k_proj.*"},
    {"encoder.layers.{}.self_attn.v_proj.*", "encoder.{}.attn.v_proj.*"},
    {"encoder.layers.{}.self_attn.out_proj.*", "encoder.{}.attn.out_proj.*"},
    {"encoder.layers.{}.self_attn_layer_norm.*", "encoder.{}.norm1.*"},
    {"encoder.layers.{}.fc1.*", "encoder.{}.mlp.fc1.*"},
    {"encoder.layers.{}.fc2.*", "encoder.{}.mlp.fc2.*"},
    {"encoder.layers.{}.final_layer_norm.*", "encoder.{}.norm2.*"},
    {"decoder.embed_positions.weight", "target_embedding.positions"},
    {"decoder.layernorm_embedding.*", "target_embedding.norm.*"},
    {"decoder.layers.{}.self_attn.q_proj.*", "decoder.{}.self_attn.q_proj.*"},
    {"decoder.layers.{}.self_attn.k_proj.*", "decoder.{}.self_attn.k_proj.*"},
    {"decoder.layers.{}.self_attn.v_proj.*", "decoder.{}.self_attn.v_proj.*"},
    {"decoder.layers.{}.self_attn.out_proj.*", "decoder.{}.self_attn.out_proj.*"},
    {"decoder.layers.{}.self_attn_layer_norm.*", "decoder.{}.norm1.*"},
    {"decoder.layers.{}.encoder_attn.q_proj.*", "decoder.{}.cross_attn.q_proj.*"},
    {"decoder.layers.{}.encoder_attn.k_proj.*", "decoder.{}.cross_attn.k_proj.*"},
    {"decoder.layers.{}.encoder_attn.v_proj.*", "decoder.{}.cross_attn.v_proj.*"},
    {"decoder.layers.{}.encoder_attn.out_proj.*", "decoder.{}.cross_attn.out_proj.*"},
    {"decoder.layers.{}.encoder_attn_layer_norm.*", "decoder.{}.norm2.*"},
    {"decoder.layers.{}.fc1.*", "decoder.{}.mlp.fc1.*"},
    {"decoder.layers.{}.fc2.*", "decoder.{}.mlp.fc2.*"},
    {"decoder.layers.{}.final_layer_norm.*", "decoder.{}.norm3.*"},
};
constexpr NameRow kBartHeads[] = {{"final_logits_bias", "logits_bias", Stored::leading_one}};

const std::vector<Family>& families() {
  static const std::vector<const char*> image_heads{"head.*", "distillation_head.*"},
      text_heads{"head.*", "pooler.*", "word_dense.*", "word_norm.*", "word_bias"};
  static const std::vector<Family> all{
      {"vit",
       "vit.",
       kVit,
       kClassifier,
       {"*pooler.dense.*", "classifier.*", "decoder.*", "*mask_token"},
       image_heads},
      {"deit",
       "deit.",
       kVit,
       kDeitHeads,
       {"*pooler.dense.*", "*classifier.*", "decoder.*", "*mask_token"},
       image_heads},
      {"dinov2", "dinov2.", kDinov2, {}, {"*mask_token", "classifier.*"}, image_heads},
      {"dinov2_with_registers",
       "dinov2_with_registers.",
       kDinov2,
       {},
       {"*mask_token", "classifier.*"},
       image_heads},
      {"timm", "", kTimm, kTimmHeads, {"head.*", "head_dist.*", "norm.*"}, image_heads},
      {"timm_mean", "", kTimm, kTimmMeanHeads, {"head.*", "norm.*"}, image_heads},
      {"bert",
       "bert.",
       kBert,
       kBertHeads,
       {"*position_ids", "cls.*", "classifier.*", "*pooler.dense.*", "qa_outputs.*"},
       text_heads},
      {"roberta",
       "roberta.",
       kRoberta,
       kRobertaHeads,
       {"*position_ids", "lm_head.*", "classifier.*", "*pooler.dense.*", "qa_outputs.*"},
       text_heads},
      {"roberta_tokens", "roberta.", kRoberta, kClassifier, {}, text_heads},
      {"gpt2",
       "transformer.",
       kGpt2,
       kGpt2Heads,
       {"*.attn.bias", "*.attn.masked_bias", "lm_head.weight", "score.weight"},
       {}},
      {"bart",
       "model.",
       kBart,
       kBartHeads,
       {"*coder.embed_tokens.weight", "lm_head.weight", "classification_head.*"},
       {"logits_bias"}},
  };
  return all;
}

}  // namespace

const Family& find_family(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const Family& family : families()) {
    if (name == family.name) return family;
    if (std::string_view(family.name).find("_mean") == std::string_view::npos &&
        std::string_view(family.name).find("_tokens") == std::string_view::npos)
      names.emplace_back(family.name);
  }
  raise<ConfigError>("{}: model_type: expected one of {}, got '{}'", where, data::join(names, ", "), name);
}

}  // namespace tandem::models
