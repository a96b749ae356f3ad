// What can go wrong in one statement of PTX.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cudasim {

// One statement of one line: "@%p1 st.global.f32 [%rd1+4], %f1;".
struct Statement {
  std::string_view guard;   // "@%p1", or ""
  std::string_view opcode;  // "st.global.f32"
  std::vector<std::string_view> operands;
};
// None if the line holds no statement, or more than one.
std::optional<Statement> read_line(std::string_view line);

// Registers that were set to a number, with its text.
using Constants = std::unordered_map<std::string_view, std::string_view>;

struct MutationKind {
  std::string_view name;
  // The mistaken statement; none if this kind does not apply.
  std::optional<std::string> (*mistake)(const Statement&, const Constants&);
};
std::span<const MutationKind> mutation_kinds();

}  // namespace cudasim
