#include "models/depths.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "autograd/error.h"
#include "models/models.h"

namespace tandem::models {
namespace {

using Names = std::vector<std::string_view>;

// The first parts of parameters' names.
struct Family {
  Names embeddings;
  Names stacks;  // of blocks, from the bottom: "blocks.3.norm1.weight"
  Names heads;
  std::string_view stack_end = {};  // above the first of two stacks
};

Family family_of(const nn::Module& model) {
  if (dynamic_cast<const Vit*>(&model) != nullptr)
    return {{"patch_embed", "class_token", "distillation_token", "registers", "positions", "pre_norm"},
            {"blocks"},
            {"head", "distillation_head"}};
  if (dynamic_cast<const TextEncoder*>(&model) != nullptr)
    return {{"words", "positions", "segments", "norm"}, {"layers"}, {"head"}};
  if (dynamic_cast<const LanguageModel*>(&model) != nullptr) return {{"embedding"}, {"layers"}, {"output"}};
  check<ConfigError>(dynamic_cast<const Transformer*>(&model) != nullptr,
                     "depths: expected a Vit, TextEncoder, LanguageModel or Transformer");
  return {{"source_embedding", "target_embedding"}, {"encoder", "decoder"}, {"output"}, "encoder_norm"};
}

bool has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// "3" of "blocks.3.norm1.weight".
int64_t block_number(std::string_view name) {
  int64_t number = 0;
  const std::string_view rest = name.substr(name.find('.') + 1);
  std::from_chars(rest.data(), rest.data() + rest.size(), number);
  return number;
}

}  // namespace

Depths depths(const nn::Module& model) {
  const Family family = family_of(model);
  const nn::NamedTensors parameters = model.named_parameters();
  const auto first_part = [](std::string_view name) { return name.substr(0, name.find('.')); };
  std::vector<int64_t> below(family.stacks.size() + 1);  // blocks of the stacks below each
  for (size_t k = 0; k < family.stacks.size(); ++k) {
    below[k + 1] = below[k];
    for (const auto& [name, parameter] : parameters)
      if (first_part(name) == family.stacks[k])
        below[k + 1] = std::max(below[k + 1], below[k] + block_number(name) + 1);
  }
  Depths result{below.back(), {}};
  for (const auto& [name, parameter] : parameters) {
    const std::string_view part = first_part(name);
    const auto stack = std::find(family.stacks.begin(), family.stacks.end(), part);
    Depth& depth = result.of.emplace_back();
    depth.is_head = has(family.heads, part);
    if (stack != family.stacks.end()) {
      depth.level = below[stack - family.stacks.begin()] + block_number(name) + 1;
    } else if (part == family.stack_end) {
      depth.level = below[1];
    } else if (!has(family.embeddings, part)) {
      depth.level = result.blocks + 1;
    }
  }
  return result;
}

}  // namespace tandem::models
