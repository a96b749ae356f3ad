#include "ptx/mutation.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "ptx/mutation_kinds.h"
#include "runtime/options.h"

namespace cudasim {
namespace {

// The name in ".visible .entry name(" or ".func (...) name(".
std::string_view name_of_function(std::string_view line) {
  const size_t end = line.rfind('(');
  const size_t begin = line.find_last_of(" \t", end);
  return begin == std::string_view::npos ? line : line.substr(begin + 1, end - begin - 1);
}

// ".shared .align 4 .b8 name[64];" with fewer elements, which are as large as their alignment.
void shorten_array(std::string_view text, size_t at, std::string_view line, std::vector<Mutation>& found) {
  const size_t align_at = line.find(".align "), open = line.rfind('['), close = line.rfind(']');
  if (align_at == std::string_view::npos || open == std::string_view::npos || close == std::string_view::npos)
    return;
  const auto read = [](std::string_view digits) {
    uint32_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  };
  const uint32_t element = read(line.substr(align_at + 7)),
                 size = read(line.substr(open + 1, close - open - 1));
  if (element == 0 || size <= element) return;
  const size_t blank = line.find_last_of(" \t", open);
  const std::string_view name = line.substr(blank + 1, open - blank - 1);
  // The first function below that uses it.
  const size_t use = text.find(name, at + line.size());
  if (use == std::string_view::npos) return;
  size_t entry = text.rfind(".entry", use);
  if (entry == std::string_view::npos) entry = text.rfind(".func", use);
  if (entry == std::string_view::npos) return;
  const std::string_view kernel = name_of_function(text.substr(entry, text.find('\n', entry) - entry));
  const auto with_size = [&](uint32_t bytes) {
    return std::string(line.substr(0, open + 1)) + std::to_string(bytes) + std::string(line.substr(close));
  };
  found.push_back({"array one shorter", kernel, at, line.size(), with_size(size - element)});
  if (size / 2 >= element && size / 2 != size - element)
    found.push_back({"array halved", kernel, at, line.size(), with_size(size / 2 / element * element)});
}

}  // namespace

std::vector<Mutation> mutations_of(std::string_view text) {
  std::vector<Mutation> found;
  std::string_view kernel;
  Constants constants;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.find(".entry ") != std::string_view::npos || line.starts_with(".func ")) {
      kernel = name_of_function(line);
      constants.clear();
    } else if (line.starts_with(".shared ")) {
      shorten_array(text, at, line, found);
    } else if (const auto statement = kernel.empty() ? std::nullopt : read_line(line)) {
      if (statement->opcode.starts_with("mov.") && statement->operands.size() == 2)
        constants[statement->operands[0]] = statement->operands[1];
      for (const MutationKind& kind : mutation_kinds()) {
        if (auto mistaken = kind.mistake(*statement, constants))
          found.push_back({kind.name, kernel, at, line.size(), std::move(*mistaken)});
      }
    }
    at = end + 1;
  }
  return found;
}

std::string_view mutated(std::string_view text, size_t module) {
  const std::string& option = options().mutate;
  if (option.empty() || std::strtoull(option.c_str(), nullptr, 10) != module) return text;
  const std::vector<Mutation> mutations = mutations_of(text);
  const size_t dot = option.find('.');
  const size_t index =
      dot == std::string::npos ? mutations.size() : std::strtoull(option.c_str() + dot + 1, nullptr, 10);
  if (index >= mutations.size()) {
    std::fprintf(stderr, "CUDASIM: mutate=%s, but module %zu has %zu mutations\n", option.c_str(), module,
                 mutations.size());
    std::exit(2);
  }
  const Mutation& m = mutations[index];
  const bool stop = option.ends_with(".trap");
  static auto& changed = *new std::string;  // modules are views into it
  changed = std::string(text.substr(0, m.at)) + (stop ? "trap;" : m.replacement) +
            std::string(text.substr(m.at + m.size));
  return changed;
}

}  // namespace cudasim
