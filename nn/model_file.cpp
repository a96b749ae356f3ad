#include "nn/model_file.h"

#include <fnmatch.h>

#include <algorithm>

#include "autograd/error.h"
#include "autograd/grad_mode.h"

namespace tandem::nn {
namespace {

constexpr const char *kLoaded = "loaded", *kNew = "new", *kUnused = "unused", *kMismatched = "mismatched";

bool fits(const Tensor& own, const Tensor& given) {
  return own.shape() == given.shape() &&
         (own.dtype() == given.dtype() || (is_floating(own.dtype()) && is_floating(given.dtype())));
}

}  // namespace

void save(const Module& module, const std::string& file, const Metadata& metadata) {
  save_safetensors(file, module.state_dict(), metadata);
}

std::string to_string(const Loaded& loaded) {
  size_t name = 0, state = 0, model = 0;
  for (const Loaded::Line& line : loaded.lines) {
    name = std::max(name, line.name.size());
    state = std::max(state, line.state.size());
    model = std::max(model, line.in_model.size());
  }
  std::string text;
  for (const Loaded::Line& line : loaded.lines) {
    std::string row = fmt::format("{:{}}  {:{}}  {:{}}  {}", line.name, name, line.state, state,
                                  line.in_model, model, line.in_file);
    row.erase(row.find_last_not_of(' ') + 1);
    text += (text.empty() ? "" : "\n") + row;
  }
  return text;
}

Loaded load(Module& module, const std::string& file, const LoadOptions& options) {
  return load_tensors(
      module, load_safetensors(file, Alignment::any).tensors, file,
      [&](const Loaded::Line& line) { return fnmatch(options.allow.c_str(), line.name.c_str(), 0) == 0; });
}

Loaded load_tensors(Module& module, const NamedTensors& given, const std::string& where,
                    const std::function<bool(const Loaded::Line&)>& allowed) {
  const StateDict own = module.state_dict();
  Loaded loaded, refused;
  const auto add = [&](const std::string& name, const char* state, const std::string& in_model,
                       const std::string& in_file) {
    loaded.lines.push_back({name, state, in_model, in_file});
    if (state != kLoaded && !allowed(loaded.lines.back())) refused.lines.push_back(loaded.lines.back());
  };
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const auto& [name, tensor] : own) {
    const Tensor* found = find(given, name);
    if (!found) {
      add(name, kNew, describe(tensor), "");
    } else {
      add(name, fits(tensor, *found) ? kLoaded : kMismatched, describe(tensor), describe(*found));
      if (fits(tensor, *found)) copies.emplace_back(tensor, *found);
    }
  }
  for (const auto& [name, tensor] : given)
    if (!find(own, name)) add(name, kUnused, "", describe(tensor));
  if (!refused.lines.empty()) {
    Loaded trouble;
    for (const Loaded::Line& line : loaded.lines)
      if (line.state != kLoaded) trouble.lines.push_back(line);
    raise<ConfigError>("load: {}: {} of {} names do not fit the model:\n{}", where, refused.lines.size(),
                       loaded.lines.size(), to_string(trouble));
  }
  const NoGradGuard no_grad;
  for (const auto& [tensor, value] : copies) tensor.copy_(value);
  return loaded;
}

}  // namespace tandem::nn
