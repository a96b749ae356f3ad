#include "models/cnn/cnn.h"

#include "ops/ops.h"

namespace tandem::models {

namespace {

const CnnConfig& checked(const CnnConfig& c) {
  auto positive = [](const char* name, int64_t value) {
    check<ConfigError>(value >= 1, "cnn: {}: expected at least 1, got {}", name, value);
  };
  positive("image_size", c.image_size), positive("channels", c.channels), positive("classes", c.classes);
  positive("width", c.width);
  check<ConfigError>(c.image_size % 4 == 0, "cnn: image_size: expected a multiple of 4, got {}",
                     c.image_size);
  check<ConfigError>(c.dropout >= 0 && c.dropout < 1, "cnn: dropout: expected a rate in [0, 1), got {}",
                     c.dropout);
  return c;
}

}  // namespace

Cnn::Cnn(const CnnConfig& c)
    : config_(checked(c)),
      conv1(*this, "conv1", c.channels, c.width, 3, {.padding = {1, 1}, .bias = false}),
      norm1(*this, "norm1", c.width),
      conv2(*this, "conv2", c.width, 2 * c.width, 3, {.padding = {1, 1}, .bias = false}),
      norm2(*this, "norm2", 2 * c.width),
      drop(*this, "drop", c.dropout),
      head(*this, "head", 2 * c.width * (c.image_size / 4) * (c.image_size / 4), c.classes) {}

Tensor Cnn::forward(const Tensor& images) {
  const CnnConfig& c = config_;
  check<ShapeError>(images.dim() == 4 && images.size(1) == c.channels && images.size(2) == c.image_size &&
                        images.size(3) == c.image_size,
                    "cnn: expected images [B,{},{},{}], got {}", c.channels, c.image_size, c.image_size,
                    describe(images));
  const Tensor half = max_pool2d(relu(norm1(conv1(images))), {2, 2});
  const Tensor quarter = max_pool2d(relu(norm2(conv2(half))), {2, 2});
  return head(drop(quarter.flatten(1)));
}

}  // namespace tandem::models
