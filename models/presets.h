// What the bundled models share: tables of named sizes, checks of options, and of images.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "autograd/error.h"
#include "autograd/tensor.h"
#include "nn/io/text.h"

namespace tandem::models {

template <class Config> using Presets = std::map<std::string, Config>;

template <class Config> std::vector<std::string> preset_names(const Presets<Config>& table) {
  std::vector<std::string> names;
  for (const auto& [name, config] : table) names.push_back(name);
  return names;
}

template <class Config> const Config& find_preset(const Presets<Config>& table, const std::string& name) {
  const auto found = table.find(name);
  if (found != table.end()) return found->second;
  raise<ConfigError>("preset: expected one of {}, got '{}'", data::join(preset_names(table), ", "), name);
}

// "4, 8 or 16": the divisors of `whole` nearest to `value`, two at most on each side. Both at least 1.
inline std::string divisors_near(int64_t value, int64_t whole) {
  std::vector<std::string> near;
  for (int64_t d = std::min(value - 1, whole); d >= 1 && near.size() < 2; --d)
    if (whole % d == 0) near.insert(near.begin(), std::to_string(d));
  const size_t below = near.size();
  for (int64_t d = value + 1; d <= std::min(whole, value + (1 << 20)) && near.size() < below + 2; ++d)
    if (whole % d == 0) near.push_back(std::to_string(d));
  const std::string last = near.back();
  near.pop_back();
  return near.empty() ? last : data::join(near, ", ") + " or " + last;
}

// ConfigErrors that name the model and the option, and what fits.
struct ConfigCheck {
  const char* model;

  void at_least_1(std::initializer_list<std::pair<const char*, int64_t>> sizes) const {
    for (const auto& [name, value] : sizes)
      check<ConfigError>(value >= 1, "{}: {}: expected at least 1, got {}", model, name, value);
  }
  void divides(const char* part, int64_t a, const char* whole, int64_t b) const {
    if (b % a != 0)
      raise<ConfigError>("{}: {} {} does not divide {} {}, expected {}", model, part, a, whole, b,
                         divisors_near(a, b));
  }
  void pad_id(int64_t id, int64_t vocab, int64_t least = 0) const {
    check<ConfigError>(id >= least && id < vocab, "{}: pad_id: expected an id below {}, got {}", model, vocab,
                       id);
  }
  void rates(std::initializer_list<std::pair<const char*, double>> list) const {
    for (const auto& [name, p] : list)
      check<ConfigError>(p >= 0 && p < 1, "{}: {}: expected a rate in [0, 1), got {}", model, name, p);
  }
  // What all models of texts have.
  template <class Config> void of_text(const Config& c) const {
    at_least_1({{"vocab", c.vocab}, {"max_positions", c.max_positions}, {"mlp_dim", c.mlp_dim}});
    at_least_1({{"dim", c.dim}, {"heads", c.heads}});
    divides("heads", c.heads, "dim", c.dim);
    rates({{"dropout", c.dropout}, {"attention_dropout", c.attention_dropout}});
    rates({{"layer_drop", c.layer_drop}, {"word_dropout", c.word_dropout}});
    if constexpr (requires { c.position_offset; })
      check<ConfigError>(c.position_offset >= 0, "{}: position_offset: expected at least 0, got {}", model,
                         c.position_offset);
  }
};

// ShapeError naming the model unless images are [B, channels, height, width].
inline void check_images(const char* model, const Tensor& images, int64_t channels, int64_t height,
                         int64_t width) {
  check<ShapeError>(
      images.dim() == 4 && images.size(1) == channels && images.size(2) == height && images.size(3) == width,
      "{}: expected images [B,{},{},{}], got {}", model, channels, height, width, describe(images));
}

}  // namespace tandem::models
