#include "models/cnn/cnn.h"

#include "models/presets.h"
#include "ops/ops.h"

namespace tandem::models {
namespace {

const CnnConfig& checked(const CnnConfig& c) {
  const ConfigCheck config{"cnn"};
  config.at_least_1(
      {{"image_size", c.image_size}, {"channels", c.channels}, {"classes", c.classes}, {"width", c.width}});
  check<ConfigError>(c.image_size % 4 == 0, "cnn: image_size: expected a multiple of 4, got {}",
                     c.image_size);
  config.rates({{"dropout", c.dropout}});
  return c;
}

}  // namespace

Cnn::Cnn(const CnnConfig& c)
    : config_(checked(c)),
      conv1(*this, "conv1", c.channels, c.width, 3, {.padding = {1, 1}, .bias = false}),
      norm1(*this, "norm1", c.width, {.relu = true}),
      conv2(*this, "conv2", c.width, 2 * c.width, 3, {.padding = {1, 1}, .bias = false}),
      norm2(*this, "norm2", 2 * c.width, {.relu = true}),
      drop(*this, "drop", c.dropout),
      head(*this, "head", 2 * c.width * (c.image_size / 4) * (c.image_size / 4), c.classes) {}

Tensor Cnn::forward(const Tensor& images) {
  check_images("cnn", images, config_.channels, config_.image_size, config_.image_size);
  const Tensor half = max_pool2d(norm1(conv1(images)), {2, 2});
  const Tensor quarter = max_pool2d(norm2(conv2(half)), {2, 2});
  return head(drop(quarter.flatten(1)));
}

}  // namespace tandem::models
