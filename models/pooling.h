// What a model makes one vector of.
#pragma once

namespace tandem::models {

// The vector of a text or an image: that of its first token (BERT's "[CLS]", ViT's class token), or the mean
// over its words or patches.
enum class Pooling { cls, mean };

}  // namespace tandem::models
