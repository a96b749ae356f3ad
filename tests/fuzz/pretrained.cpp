#include "models/pretrained/pretrained.h"

#include "autograd/makers.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// config.json of a published model, beside a few weights; the first byte says of which family.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  models::Pretrained from;
  from.folder = "folder";
  from.config = fuzz::text_of(data + 1, size - 1);
  const auto read = [&](const char* family, nn::NamedTensors weights, auto config_of) {
    from.family = family, from.tensors = std::move(weights);
    fuzz::read_or_refuse<Error>([&] { config_of(from); });
  };
  switch (data[0]) {
    case 'v':
      read("vit", {{"embeddings.patch_embeddings.projection.weight", zeros({8, 3, 4, 4})}},
           models::vit_config);
      break;
    case 'd':
      read("dinov2", {{"embeddings.position_embeddings", zeros({1, 5, 8})}}, models::vit_config);
      break;
    case 't':
      read("timm",
           {{"patch_embed.proj.weight", zeros({8, 3, 4, 4})},
            {"blocks.0.mlp.fc1.weight", zeros({12, 8})},
            {"blocks.0.mlp.fc2.weight", zeros({8, 12})},
            {"blocks.0.norm1.weight", zeros({8})},
            {"pos_embed", zeros({1, 5, 8})}},
           models::vit_config);
      break;
    case 'b':
      read("bert", {{"embeddings.word_embeddings.weight", zeros({20, 8})}}, models::text_encoder_config);
      break;
    case 'g':
      read("gpt2", {{"wte.weight", zeros({20, 8})}}, models::language_model_config);
      break;
    case 'a':
      read("bart", {{"shared.weight", zeros({20, 8})}}, models::transformer_config);
      break;
  }
  return 0;
}
