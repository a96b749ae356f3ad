// The Vision Transformer of "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2021, arXiv 2010.11929):
// convolutional patch embedding, class token, learned positions, pre-norm encoder blocks, final norm, head.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/pooling.h"
#include "nn/layers.h"
#include "nn/methods/hidden_hook.h"

namespace tandem::models {

// The sizes and rates of a Vit.
struct VitConfig {
  int64_t image_size = 28;       // pixels: the height, and the width where image_width is 0
  int64_t channels = 1;          // of an image
  int64_t classes = 10;          // logits
  int64_t patch_size = 7;        // divides both
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

  // What published models differ in.
  int64_t image_width = 0;                   // pixels; 0: square images
  double norm_eps = 1e-6;                    // eps of every LayerNorm
  Activation activation = Activation::gelu;  // of the MLPs
  bool qkv_bias = true;                      // of the attention's query, key and value projections
  bool patch_bias = true;                    // of the patches' embedding
  bool pre_norm = false;                     // a norm before the first block, too
  double layer_scale = 0;                    // where the LayerScale of each branch starts; 0: there is none
  Pooling pooling = Pooling::cls;            // what the head reads: the class token, or the patches' mean
  bool class_token = true;                   // false: there is none, so the pooling is the mean
  int64_t registers = 0;       // further tokens without position (Darcet et al. 2024, arXiv 2309.16588)
  bool distillation = false;   // a second class token with a head of its own (DeiT: arXiv 2012.12877)
  bool class_position = true;  // the class tokens have positions, too

  // Of the images, in pixels.
  int64_t height() const { return image_size; }
  // Likewise.
  int64_t width() const { return image_width > 0 ? image_width : image_size; }
  // Tokens before the patches, and those of them that have a position.
  int64_t prefix() const { return class_tokens() + registers; }
  int64_t class_tokens() const { return int64_t{class_token} + int64_t{distillation}; }
  // Rows of the table of positions: those of class tokens, then the patches by rows.
  int64_t positions() const {
    return (class_position ? class_tokens() : 0) + (height() / patch_size) * (width() / patch_size);
  }
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
  // Its two halves: what the head reads, [B, dim] (with distillation [B, 2 dim]: both class tokens), and the
  // head (of two heads the mean).
  Tensor features(const Tensor& images, const nn::HiddenHook& hook = {});
  Tensor classify(const Tensor& features);

  // The probabilities of each block's attention, [B, heads, T, T], where T counts VitConfig::prefix() tokens
  // and then the patches by rows: of the model in eval mode.
  Tensors attention(const Tensor& images);

  const VitConfig& config() const { return config_; }  // as it was made

 private:
  VitConfig config_;
  nn::Conv2d patch_embed;
  // [1, 1, D] each, [1, registers, D], [1, T, D]; undefined where there are none.
  nn::Parameter class_token, distillation_token, registers, positions;
  nn::Dropout drop;
  std::optional<nn::LayerNorm> pre_norm;
  nn::ModuleList<nn::TransformerEncoderLayer> blocks;
  nn::LayerNorm norm;
  nn::Dropout head_drop;
  nn::Linear head;
  std::optional<nn::Linear> distillation_head;
};

// How much each patch of an image contributes to what the head reads, by attention rollout (Abnar and Zuidema
// 2020, arXiv 2005.00928): the heads' mean of each block's attention with the identity added for the residual
// branch, rows normalised, multiplied over the blocks; of that the class token's row, or of a mean over the
// patches the mean of their rows. Images [B, C, H, W] give [B, H / patch_size, W / patch_size] >= 0. The
// model is run in eval mode, without a tape.
Tensor attention_rollout(Vit& model, const Tensor& images);

// Batches of images; the model must outlive it.
nn::Hookable hookable(Vit& model);

}  // namespace tandem::models
