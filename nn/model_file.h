// A model's weights in one file, in and out. Example:
//
//   nn::save(model, "model.safetensors");
//   nn::load(model, "model.safetensors");
//   fmt::print("{}\n", nn::load(model, "model.safetensors", {.allow = "head.*"}));  // what fitted
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

#include "nn/io/safetensors.h"

namespace tandem::nn {

// Parameters and persistent buffers, as safetensors. IoError when the file cannot be written.
void save(const Module& module, const std::string& file, const Metadata& metadata = {});

// The options of load().
struct LoadOptions {
  std::string allow = {};  // names that may be missing, unused or of another shape: a pattern as "head.*"
};
// What load() did with each tensor.
struct Loaded {
  // Of one tensor: its name; its state, which is loaded, new, unused or mismatched; its dtype and shape
  // in_model and in_file.
  struct Line {
    std::string name, state, in_model, in_file;
  };
  std::vector<Line> lines;  // of the model, then what is unused
};
// A table: what was loaded, is new (not in the file, and left as it was), unused or mismatched.
std::string to_string(const Loaded& loaded);

// Fills the model from a file of save(), best.safetensors of a run, or any other with its names. IoError as
// of load_safetensors; ConfigError with the table for names that do not fit and are not allowed to: the model
// is then as it was.
Loaded load(Module& module, const std::string& file, const LoadOptions& options = {});

// The same from tensors, of `where`: whether a line that is not "loaded" may be is for `allowed` to say.
Loaded load_tensors(Module& module, const NamedTensors& given, const std::string& where,
                    const std::function<bool(const Loaded::Line&)>& allowed);

}  // namespace tandem::nn

template <> struct fmt::formatter<tandem::nn::Loaded> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const tandem::nn::Loaded& loaded, format_context& context) const {
    return fmt::format_to(context.out(), "{}", tandem::nn::to_string(loaded));
  }
};
