// The Vision Transformer of "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2021, arXiv 2010.11929):
// convolutional patch embedding, class token, learned positions, pre-norm encoder blocks, final norm, head.
#pragma once

#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/methods/hidden_hook.h"

namespace tandem::models {

// The sizes and rates of a Vit.
struct VitConfig {
  int64_t image_size = 28;       // pixels, square
  int64_t channels = 1;          // of an image
  int64_t classes = 10;          // logits
  int64_t patch_size = 7;        // divides image_size
  int64_t dim = 64;              // of a patch's vector
  int64_t depth = 4;             // blocks
  int64_t heads = 4;             // divides dim
  int64_t mlp_dim = 128;         // of the hidden layer of each MLP
  double dropout = 0.1;          // after the embedding, the attention's output and both layers of the MLP
  double attention_dropout = 0;  // on the attention probabilities
  double drop_path = 0;          // stochastic depth: rises linearly from 0 to this over the blocks
  int64_t dropout_from = 0;  // first block with noise, at most depth: those below are shared by all passes
  bool zero_head = false;    // the head starts at 0, as when fine-tuning
  double head_dropout = 0;   // before the head; what multi-sample dropout draws several times
};

// "tiny" (28x28 grey images, 139k parameters), "small", or the paper's "s16", "b32", "b16": sizes only.
// ConfigError for another name.
VitConfig vit_preset(const std::string& name);
std::vector<std::string> vit_preset_names();

class Vit : public nn::Module {
 public:
  // ConfigError naming the option that does not fit.
  explicit Vit(const VitConfig& config);
  // [B, C, H, W] -> logits [B, classes]; ShapeError for images of another size.
  Tensor forward(const Tensor& images, const nn::HiddenHook& hook = {}) {
    return classify(features(images, hook));
  }
  // Its two halves: the class token after the last block and its norm, [B, dim], and the head.
  Tensor features(const Tensor& images, const nn::HiddenHook& hook = {});
  Tensor classify(const Tensor& features);

  const VitConfig& config() const { return config_; }  // as it was made

 private:
  VitConfig config_;
  nn::Conv2d patch_embed;
  nn::Parameter class_token, positions;  // [1, 1, D], [1, T, D]
  nn::Dropout drop;
  nn::ModuleList<nn::TransformerEncoderLayer> blocks;
  nn::LayerNorm norm;
  nn::Dropout head_drop;
  nn::Linear head;
};

// Batches of images; the model must outlive it.
nn::Hookable hookable(Vit& model);

}  // namespace tandem::models
