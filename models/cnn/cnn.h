// A small convolutional network, for R-Drop without attention: two blocks of convolution, batch norm, ReLU
// and pooling, then dropout and a linear head. The convolutions have no bias: batch norm would cancel it, and
// Adam would scale up its gradient, which is rounding alone.
#pragma once

#include "nn/layers.h"

namespace tandem::models {

// The sizes of a Cnn.
struct CnnConfig {
  int64_t image_size = 28;  // pixels, square; divisible by 4
  int64_t channels = 1;     // of an image
  int64_t classes = 10;     // logits
  int64_t width = 32;       // channels of the first block; the second has twice as many
  double dropout = 0.3;     // before the head
};

class Cnn : public nn::Module {
 public:
  // ConfigError naming the option that does not fit.
  explicit Cnn(const CnnConfig& config);
  // [B, C, H, W] -> logits [B, classes]; ShapeError for images of another size.
  Tensor forward(const Tensor& images);
  const CnnConfig& config() const { return config_; }  // as it was made

 private:
  CnnConfig config_;
  nn::Conv2d conv1;
  nn::BatchNorm2d norm1;
  nn::Conv2d conv2;
  nn::BatchNorm2d norm2;
  nn::Dropout drop;
  nn::Linear head;
};

}  // namespace tandem::models
