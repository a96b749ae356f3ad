// The table of a model.
#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <ostream>
#include <regex>
#include <typeinfo>

#include "nn/module.h"

namespace tandem::nn {
namespace {

// "Linear" of tandem::nn::Linear; of a template's arguments, too.
std::string kind_of(const Module& module) {
  const std::unique_ptr<char, decltype(&std::free)> full(
      abi::__cxa_demangle(typeid(module).name(), nullptr, nullptr, nullptr), &std::free);
  static const std::regex qualifier(R"((\(anonymous namespace\)|\w+(\([^()]*\))?)::)");
  return std::regex_replace(full ? full.get() : "", qualifier, "");
}

std::string grouped(int64_t count) {
  std::string digits = std::to_string(count);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, 1, ',');
  return digits;
}

using Line = std::array<std::string, 5>;  // name, kind, shape, parameters, remark

}  // namespace

std::string to_string(const Module& module) {
  std::vector<Line> lines{{"name", "kind", "shape", "parameters", ""}};
  std::map<const TensorImpl*, std::string> seen;
  int64_t total = 0, frozen = 0;
  const auto add_module = [&](const auto& self, const Module& m, const std::string& prefix,
                              int depth) -> void {
    const std::string indent(2 * static_cast<size_t>(depth), ' ');
    lines.push_back({indent + m.name(), kind_of(m), "", "", ""});
    const size_t own = lines.size() - 1;
    const int64_t before = total;
    const std::string inside = &m == &module ? indent : indent + "  ";
    for (const Module::Entry& entry : m.parameters_) {
      const auto [first, is_new] = seen.emplace(entry.tensor.impl().get(), prefix + entry.name);
      const bool learns = entry.tensor.requires_grad();
      if (is_new) {
        total += entry.tensor.numel();
        frozen += learns ? 0 : entry.tensor.numel();
      }
      lines.push_back({inside + entry.name, "", to_string(entry.tensor.shape()),
                       is_new ? grouped(entry.tensor.numel()) : "",
                       is_new ? (learns ? "" : "frozen") : "is " + first->second});
    }
    for (const Module* child : m.children())
      self(self, *child, prefix + child->name() + ".", &m == &module ? depth : depth + 1);
    if (total > before) lines[own][3] = grouped(total - before);
  };
  add_module(add_module, module, "", 0);
  std::array<size_t, 5> widths{};
  for (const Line& line : lines)
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (const auto& [name, kind, shape, parameters, remark] : lines) {
    std::string line = fmt::format("{:{}}  {:{}}  {:{}}  {:>{}}  {}", name, widths[0], kind, widths[1], shape,
                                   widths[2], parameters, widths[3], remark);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  text += fmt::format("{} parameters", grouped(total));
  return frozen ? fmt::format("{}, {} of them frozen", text, grouped(frozen)) : text;
}

std::ostream& operator<<(std::ostream& out, const Module& module) { return out << to_string(module); }

}  // namespace tandem::nn
