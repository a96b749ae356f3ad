#include "ptx/mutation_kinds.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace cudasim {
namespace {

using Text = std::string;
using View = std::string_view;
using Result = std::optional<std::string>;

constexpr View blanks = " \t\r";

View trimmed(View text) {
  const size_t first = text.find_first_not_of(blanks);
  if (first == View::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) + 1 - first);
}

bool starts_with_any(View text, std::initializer_list<View> beginnings) {
  for (const View beginning : beginnings)
    if (text.starts_with(beginning)) return true;
  return false;
}

std::optional<int64_t> number(View text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

View type_of(const Statement& s) {
  const size_t dot = s.opcode.rfind('.');
  return dot == View::npos ? View() : s.opcode.substr(dot + 1);
}
int type_bytes(const Statement& s) {
  const View type = type_of(s);
  return type.size() < 2 ? 0 : static_cast<int>(number(type.substr(1)).value_or(0) / 8);
}
bool of_integers(const Statement& s) { return starts_with_any(type_of(s), {"s", "u", "b"}); }

Text write(View guard, View opcode, const std::vector<Text>& operands) {
  Text result(guard);
  if (!guard.empty()) result += ' ';
  result += opcode;
  for (size_t i = 0; i < operands.size(); ++i) (result += i == 0 ? " " : ", ") += operands[i];
  return result + ";";
}
std::vector<Text> texts(const Statement& s) { return {s.operands.begin(), s.operands.end()}; }

Text with_opcode(const Statement& s, View opcode) { return write(s.guard, opcode, texts(s)); }
Text with_operand(const Statement& s, size_t index, const Text& operand) {
  std::vector<Text> operands = texts(s);
  operands[index] = operand;
  return write(s.guard, s.opcode, operands);
}
Text with_swapped(const Statement& s, size_t i, size_t j) {
  std::vector<Text> operands = texts(s);
  std::swap(operands[i], operands[j]);
  return write(s.guard, s.opcode, operands);
}
// The destination gets `value` instead.
Text moved(const Statement& s, View value) {
  const View first = s.operands[0];
  return write(s.guard, "mov." + Text(type_of(s)), {Text(first.substr(0, first.find('|'))), Text(value)});
}
// The first of the words that the opcode has becomes another.
Result with_word(const Statement& s, std::initializer_list<std::pair<View, View>> words) {
  for (const auto& [from, to] : words) {
    const size_t at = s.opcode.find(from);
    if (at == View::npos) continue;
    Text opcode(s.opcode);
    return with_opcode(s, opcode.replace(at, from.size(), to));
  }
  return {};
}

bool accesses(const Statement& s, View mnemonic) {
  return s.opcode.starts_with(mnemonic) && !s.opcode.starts_with(Text(mnemonic) + "param");
}
bool is_vector(const Statement& s) {
  return s.opcode.find(".v2.") != View::npos || s.opcode.find(".v4.") != View::npos;
}
Result one_element_on(const Statement& s, size_t address) {
  if (address >= s.operands.size() || !s.operands[address].ends_with("]") || type_bytes(s) == 0) return {};
  const View inside = s.operands[address].substr(0, s.operands[address].size() - 1);
  return with_operand(s, address, Text(inside) + "+" + std::to_string(type_bytes(s)) + "]");
}

Result barrier_dropped(const Statement& s, const Constants&) {
  if (!starts_with_any(s.opcode, {"bar.sync", "barrier.sync"})) return {};
  return Text();
}

Result warp_barrier_dropped(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("bar.warp.sync")) return {};
  return Text();
}

bool is_shuffle(const Statement& s) { return s.opcode.starts_with("shfl.sync") && s.operands.size() == 5; }

View value_of(View operand, const Constants& constants) {
  const auto it = constants.find(operand);
  return it == constants.end() ? operand : it->second;
}

Result shuffle_dropped(const Statement& s, const Constants&) {
  if (!is_shuffle(s)) return {};
  return moved(s, s.operands[1]);
}

Result shuffle_distance(const Statement& s, const Constants& constants) {
  if (!is_shuffle(s)) return {};
  const auto distance = number(value_of(s.operands[2], constants));
  if (!distance || *distance < 1) return {};
  return with_operand(s, 2, std::to_string(*distance == 1 ? 2 : *distance / 2));
}

Result lanes_left_out(const Statement& s, const Constants& constants) {
  const bool other = starts_with_any(s.opcode, {"vote.sync", "bar.warp.sync", "match."});
  if (!is_shuffle(s) && !other) return {};
  const size_t mask = s.operands.size() - 1;
  if (value_of(s.operands[mask], constants) != "-1") return {};
  return with_operand(s, mask, "65535");
}

Result guard_off_by_one(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("setp.") || !of_integers(s)) return {};
  return with_word(s, {{".lt.", ".le."}, {".le.", ".lt."}, {".gt.", ".ge."}, {".ge.", ".gt."}});
}

Result comparison_reversed(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("setp.") || of_integers(s)) return {};
  return with_word(s, {{".lt.", ".gt."}, {".le.", ".ge."}, {".gt.", ".lt."}, {".ge.", ".le."}});
}

// "+= for an atomic".
Result atomic_split(const Statement& s, const Constants&) {
  const bool reduction = s.opcode.starts_with("red.");
  if (!reduction && !s.opcode.starts_with("atom.")) return {};
  const size_t address = reduction ? 0 : 1;
  if (s.operands.size() < address + 2) return {};
  for (const View operation : {".add.", ".min.", ".max.", ".and.", ".or."}) {
    if (s.opcode.find(operation) == View::npos) continue;
    const Text space = s.opcode.find(".shared.") != View::npos ? ".shared." : ".global.", type(type_of(s));
    const Text at(s.operands[address]), value(s.operands[address + 1]);
    const Text was = reduction ? "%mutant" : Text(s.operands[0]);
    const Text guard(s.guard);
    return "{ .reg ." + type + " %mutant; " + guard + " ld" + space + type + " " + was + ", " + at + "; " +
           guard + " " + Text(operation.substr(1)) + type + " %mutant, " + was + ", " + value + "; " + guard +
           " st" + space + type + " " + at + ", %mutant; }";
  }
  return {};
}

Result neighbour_loaded(const Statement& s, const Constants&) {
  if (!accesses(s, "ld.") || is_vector(s)) return {};
  return one_element_on(s, 1);
}

Result neighbour_stored(const Statement& s, const Constants&) {
  if (!accesses(s, "st.") || is_vector(s)) return {};
  return one_element_on(s, 0);
}

Result vector_misaligned(const Statement& s, const Constants&) {
  if (!is_vector(s)) return {};
  return accesses(s, "ld.") ? one_element_on(s, 1) : accesses(s, "st.") ? one_element_on(s, 0) : Result();
}

Result store_dropped(const Statement& s, const Constants&) {
  if (!accesses(s, "st.")) return {};
  return Text();
}

Text scaled_number(View text) {
  uint64_t bits = 0;
  std::from_chars(text.data() + 2, text.data() + text.size(), bits, 16);
  const bool single = text[1] == 'f' || text[1] == 'F';
  const double value = single ? static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)))
                              : std::bit_cast<double>(bits);
  if (value == 0 || !std::isfinite(value)) return {};
  char result[24];
  if (single) {
    std::snprintf(result, sizeof result, "0f%08X", std::bit_cast<uint32_t>(static_cast<float>(value * 1.01)));
  } else {
    std::snprintf(result, sizeof result, "0d%016llX",
                  static_cast<unsigned long long>(std::bit_cast<uint64_t>(value * 1.01)));
  }
  return result;
}

Result constant_wrong(const Statement& s, const Constants&) {
  if (!starts_with_any(s.opcode, {"fma.", "mul.", "add.", "sub.", "div."})) return {};
  for (size_t i = 1; i < s.operands.size(); ++i) {
    if (!starts_with_any(s.operands[i], {"0f", "0F", "0d", "0D"})) continue;
    const Text changed = scaled_number(s.operands[i]);
    if (!changed.empty()) return with_operand(s, i, changed);
  }
  return {};
}

Result difference_swapped(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("sub.") || s.operands.size() != 3 || s.operands[1] == s.operands[2]) return {};
  return with_swapped(s, 1, 2);
}

Result sign_dropped(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("neg.") || s.operands.size() != 2) return {};
  return moved(s, s.operands[1]);
}

Result term_dropped(const Statement& s, const Constants&) {
  if (of_integers(s)) return {};
  if (s.operands.size() > 2 && starts_with_any(s.operands.back(), {"0f00000000", "0d0000000000000000"}))
    return {};
  if (s.opcode.starts_with("fma.rn.f") && s.operands.size() == 4)
    return write(s.guard, "mul.rn." + Text(type_of(s)),
                 {Text(s.operands[0]), Text(s.operands[1]), Text(s.operands[2])});
  if (s.opcode.starts_with("add.") && s.operands.size() == 3) return moved(s, s.operands[1]);
  return {};
}

Result condition_negated(const Statement& s, const Constants&) {
  if (s.guard.empty()) return {};
  const bool negated = s.guard.starts_with("@!");
  const Text guard = Text(negated ? "@" : "@!").append(s.guard.substr(negated ? 2 : 1));
  return write(guard, s.opcode, texts(s));
}

// Only loops change a register by itself.
Result loop_step(const Statement& s, const Constants&) {
  if (!starts_with_any(s.opcode, {"add.s32", "add.s64", "add.u32", "add.u64"}) || s.operands.size() != 3 ||
      s.operands[0] != s.operands[1]) {
    return {};
  }
  if (const auto step = number(s.operands[2])) return with_operand(s, 2, std::to_string(2 * *step));
  const Text once = with_opcode(s, s.opcode);
  return once + " " + once;
}

Result philox_constant(const Statement& s, const Constants&) {
  if (!starts_with_any(s.opcode, {"mul.", "add.", "xor."})) return {};
  for (size_t i = 1; i < s.operands.size(); ++i) {
    const auto value = number(s.operands[i]);
    if (!value) continue;
    for (const uint32_t constant : {0xD2511F53u, 0xCD9E8D57u, 0x9E3779B9u, 0xBB67AE85u}) {
      if (static_cast<uint32_t>(*value) == constant) return with_operand(s, i, std::to_string(*value ^ 16));
    }
  }
  return {};
}

Result rounding_dropped(const Statement& s, const Constants&) {
  if (s.opcode.starts_with("cvt.rn")) return with_word(s, {{".rni.", ".rzi."}, {".rn.", ".rz."}});
  // to bf16: half of what is cut off
  if (s.opcode == "add.s32" && s.operands.size() == 3 && s.operands[2] == "32767")
    return with_operand(s, 2, "0");
  return {};
}

Result extreme_swapped(const Statement& s, const Constants&) {
  if (s.opcode.starts_with("min.")) return with_word(s, {{"min.", "max."}});
  if (s.opcode.starts_with("max.")) return with_word(s, {{"max.", "min."}});
  return {};
}

Result and_or_swapped(const Statement& s, const Constants&) {
  if (s.opcode.starts_with("and.")) return with_word(s, {{"and.", "or."}});
  if (s.opcode.starts_with("or.")) return with_word(s, {{"or.", "and."}});
  return {};
}

Result choice_swapped(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("selp.") || s.operands.size() != 4) return {};
  return with_swapped(s, 1, 2);
}

// A group of copies more is on its way, or all.
Result wait_dropped(const Statement& s, const Constants&) {
  if (s.opcode == "cp.async.wait_all") return Text();
  if (s.opcode != "cp.async.wait_group") return {};
  const auto groups = number(s.operands[0]);
  return groups ? Result(with_operand(s, 0, std::to_string(*groups + 1))) : Result();
}

Result commit_dropped(const Statement& s, const Constants&) {
  if (s.opcode != "cp.async.commit_group") return {};
  return Text();
}

// Also of what should be zeroes.
Result zeroes_copied(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("cp.async.c") || s.operands.size() != 4) return {};
  return write(s.guard, s.opcode, {Text(s.operands[0]), Text(s.operands[1]), Text(s.operands[2])});
}

Result matrix_turned(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("ldmatrix.")) return {};
  return with_word(
      s, {{".trans.", "."}, {".x1.", ".x1.trans."}, {".x2.", ".x2.trans."}, {".x4.", ".x4.trans."}});
}

// Rows 8-15 for columns 8-15 of the left factor.
Result quarters_swapped(const Statement& s, const Constants&) {
  if (!s.opcode.starts_with("mma.sync") || s.operands.size() != 4) return {};
  const View left = s.operands[1];
  const size_t first = left.find(','), second = left.find(',', first + 1), third = left.find(',', second + 1);
  if (third == View::npos) return {};
  const Text swapped = Text(left.substr(0, first + 1)) + Text(left.substr(second + 1, third - second)) +
                       Text(left.substr(first + 1, second - first - 1)) + Text(left.substr(third));
  return with_operand(s, 1, swapped);
}

constexpr MutationKind kinds[] = {
    {"barrier dropped", barrier_dropped},
    {"warp barrier dropped", warp_barrier_dropped},
    {"shuffle dropped", shuffle_dropped},
    {"shuffle distance", shuffle_distance},
    {"lanes left out", lanes_left_out},
    {"guard off by one", guard_off_by_one},
    {"comparison reversed", comparison_reversed},
    {"atomic split", atomic_split},
    {"wait dropped", wait_dropped},
    {"commit dropped", commit_dropped},
    {"zeroes copied", zeroes_copied},
    {"matrix turned", matrix_turned},
    {"quarters swapped", quarters_swapped},
    {"neighbour loaded", neighbour_loaded},
    {"neighbour stored", neighbour_stored},
    {"vector misaligned", vector_misaligned},
    {"store dropped", store_dropped},
    {"constant wrong", constant_wrong},
    {"difference swapped", difference_swapped},
    {"sign dropped", sign_dropped},
    {"term dropped", term_dropped},
    {"condition negated", condition_negated},
    {"loop step doubled", loop_step},
    {"Philox constant", philox_constant},
    {"rounding dropped", rounding_dropped},
    {"min for max", extreme_swapped},
    {"and for or", and_or_swapped},
    {"choice swapped", choice_swapped},
};

}  // namespace

std::span<const MutationKind> mutation_kinds() { return kinds; }

std::optional<Statement> read_line(std::string_view line) {
  View text = trimmed(line);
  if (text.empty() || text.back() != ';' || text.find(';') + 1 != text.size()) return {};
  text.remove_suffix(1);
  if (text[0] == '.' || text[0] == '{' || text[0] == '$' || text[0] == '/') return {};
  Statement result;
  if (text[0] == '@') {
    const size_t end = text.find_first_of(blanks);
    if (end == View::npos) return {};
    result.guard = text.substr(0, end);
    text = trimmed(text.substr(end));
  }
  const size_t end = std::min(text.find_first_of(blanks), text.size());
  result.opcode = text.substr(0, end);
  text = trimmed(text.substr(end));
  for (size_t begin = 0, at = 0, depth = 0; at <= text.size() && !text.empty(); ++at) {
    const char c = at < text.size() ? text[at] : ',';
    if (c == '{' || c == '[' || c == '(') ++depth;
    if (c == '}' || c == ']' || c == ')') --depth;
    if (c != ',' || depth != 0) continue;
    result.operands.push_back(trimmed(text.substr(begin, at - begin)));
    begin = at + 1;
  }
  return result;
}

}  // namespace cudasim
