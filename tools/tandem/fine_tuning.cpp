#include "tools/tandem/fine_tuning.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "autograd/error.h"

namespace tandem::command {
namespace {

std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Of nothing but digits.
std::optional<int64_t> number_in(const std::string& text) {
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

void FineTuning::declare(Command& to) {
  to.group("Fine-tuning");
  to.option("--layer-decay", layer_decay, command::number_in(0, 1),
            "learning rate of each block in proportion to that of the block above it");
  to.option("--head-lr", head_lr, positive(), "learning rate of the head in proportion to --lr");
  to.flag("--decay-all", decay_all, "weight decay of norms, biases and positions, too");
  to.option("--freeze", freeze, anything(),
            "what does not learn, commas between: names of parameters ('words.*,*.bias'), or a number N: the "
            "embedding and the N lowest blocks, which also have no dropout, so that all passes share them");
  to.option("--unfreeze-every", unfreeze_every, integer(0),
            "gradual unfreezing: at first the head alone learns, every N epochs one block more from the top; "
            "0: all at once");
}

int64_t FineTuning::level() const {
  int64_t most = -1;
  for (const std::string& part : parts_of(freeze)) most = std::max(most, number_in(part).value_or(-1));
  return most;
}

std::vector<std::string> FineTuning::patterns() const {
  std::vector<std::string> patterns = parts_of(freeze);
  std::erase_if(patterns, [](const std::string& part) { return number_in(part).has_value(); });
  return patterns;
}

FineTuned::FineTuned(const FineTuning& options, nn::Module& module,
                     const std::function<models::Depths(const nn::Module&)>& depths)
    : options_(options), module_(module) {
  if (options.layer_decay != 1 || options.head_lr != 1 || options.level() >= 0 || options.unfreeze_every > 0)
    depths_ = depths(module);
  check<ConfigError>(options.layer_decay > 0, "--layer-decay: expected a number in (0, 1], got {}",
                     options.layer_decay);
  check<ConfigError>(options.level() <= depths_.blocks, "--freeze: expected at most the {} blocks, got {}",
                     depths_.blocks, options.level());
  begin_epoch(0);
}

void FineTuned::begin_epoch(int64_t epoch) const {
  const Tensors parameters = module_.parameters();
  if (!depths_.of.empty()) {
    const int64_t frozen = options_.level(), every = options_.unfreeze_every,
                  lowest = every > 0 ? depths_.blocks + 1 - epoch / every : 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const int64_t level = depths_.of[i].level;
      parameters[i].requires_grad_(level > frozen && level >= lowest);
    }
  }
  for (const std::string& pattern : options_.patterns()) {
    const nn::NamedTensors named = module_.named_parameters();
    check<ConfigError>(
        std::any_of(named.begin(), named.end(),
                    [&](const auto& p) { return fnmatch(pattern.c_str(), p.name.c_str(), 0) == 0; }),
        "--freeze: no parameter has a name like \"{}\"", pattern);
    module_.requires_grad_(false, pattern);
  }
}

double FineTuned::lr_scale(size_t parameter) const {
  if (depths_.of.empty()) return 1;
  const auto [level, is_head] = depths_.of[parameter];
  const double decay = std::pow(options_.layer_decay, static_cast<double>(depths_.blocks + 1 - level));
  return is_head ? decay * options_.head_lr : decay;
}

}  // namespace tandem::command
