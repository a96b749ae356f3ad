#include "ptx/decoder.h"

#include <algorithm>

#include "ptx/declaration.h"

namespace cudasim {
namespace {

const DecodeTable& decode_table() {
  static const DecodeTable table = [] {
    DecodeTable result;
    add_integer(result);
    add_bits(result);
    add_move(result);
    add_float(result);
    add_compare(result);
    add_convert(result);
    add_memory(result);
    add_atomic(result);
    add_async(result);
    add_collective(result);
    add_matrix(result);
    add_control(result);
    return result;
  }();
  return table;
}

uint32_t align_up(uint64_t value, uint32_t align) {
  return static_cast<uint32_t>((value + align - 1) / align * align);
}

}  // namespace

Decoder::Decoder(Function& function) : function_(function), lexer_(function.body, function.body_line) {
  scopes_.emplace_back();
  for (const Parameter& p : function.parameters) parameters_[p.name] = {p.offset, p.size, function.entry};
  if (!function.result_name.empty()) {
    parameters_[function.result_name] = {function.result_offset, function.result_size, false};
  }
}

void Decoder::fail(const std::string& what) const {
  throw PtxError("PTX line " + std::to_string(statement_.line != 0 ? statement_.line : lexer_.line()) +
                 ": '" + std::string(statement_.opcode) + "': " + what + "; in " + demangled(function_.name));
}

void Decoder::run() {
  while (!lexer_.at_end()) {
    const char next = lexer_.peek();
    if (next == '{') {
      lexer_.word();
      open_scope();
    } else if (next == '}') {
      lexer_.word();
      close_scope();
    } else if (next == '.') {
      directive(lexer_.word());
    } else {
      instruction();
    }
  }
  resolve_labels();
  function_.frame_words = align_up(function_.frame_words, row_words);
  function_.parameter_word = function_.frame_words;
  function_.parameter_area = align_up(function_.parameter_area, 16);
  function_.frame_words += function_.parameter_area * warp_size / 4;
  function_.decoded = true;
}

void Decoder::directive(std::string_view word) {
  if (word == ".loc") {
    line_directive();
  } else if (word == ".reg") {
    declare_registers();
  } else if (word == ".param") {
    declare_parameter();
  } else if (word == ".shared" || word == ".local") {
    declare_memory(word);
  } else if (word == ".pragma") {
    while (!lexer_.take(";")) lexer_.word();
  } else {
    lexer_.fail("unknown directive '" + std::string(word) + "' in " + demangled(function_.name));
  }
}

// .loc file line column [, function_name label [+ offset], inlined_at file line column]
void Decoder::line_directive() {
  const auto file = lexer_.integer(), line = lexer_.integer();
  const std::string_view rest = lexer_.rest_of_line();
  if (line == 0) return;  // no line: keep the last
  file_ = static_cast<uint16_t>(file);
  source_line_ = static_cast<uint32_t>(line);
  caller_file_ = 0;
  caller_line_ = 0;
  constexpr std::string_view word = "inlined_at";
  if (const size_t at = rest.find(word); at != std::string_view::npos) {
    Lexer caller(rest.substr(at + word.size()), lexer_.line());
    caller_file_ = static_cast<uint16_t>(caller.integer());
    caller_line_ = static_cast<uint32_t>(caller.integer());
  }
}

void Decoder::declare_registers() {
  std::string_view word = lexer_.word();
  if (word == ".v2" || word == ".v4") lexer_.fail("vector registers");
  const Type type = parse_type(word.substr(1));
  if (type == Type::none) lexer_.fail("register of unknown type '" + std::string(word) + "'");
  do {
    const std::string_view name = lexer_.word();
    if (lexer_.take("<")) {
      ranges_[name] = {type, static_cast<uint64_t>(lexer_.integer())};
      lexer_.expect(">");
    } else {
      declare_register(name, type);
    }
  } while (lexer_.take(","));
  lexer_.expect(";");
}

void Decoder::declare_register(std::string_view name, Type type) {
  const auto known = registers_.find(name);
  scopes_.back().emplace_back(name, known == registers_.end() ? std::nullopt : std::optional(known->second));
  registers_[name] = {new_row(storage_of(type)), storage_of(type)};
}

void Decoder::close_scope() {
  if (scopes_.size() < 2) lexer_.fail("'}' without '{'");
  for (auto it = scopes_.back().rbegin(); it != scopes_.back().rend(); ++it) {
    if (it->second) {
      registers_[it->first] = *it->second;
    } else {
      registers_.erase(it->first);
    }
  }
  scopes_.pop_back();
}

void Decoder::declare_parameter() {
  const Declaration p = read_declaration(lexer_);
  lexer_.expect(";");
  // A call's parameters live from their writing to the call, so those of equal names share a place.
  const auto known = parameters_.find(p.name);
  if (known != parameters_.end() && known->second.size >= p.size) return;
  const uint32_t offset = align_up(function_.parameter_area, 16);
  parameters_[p.name] = {offset, static_cast<uint32_t>(p.size), false};
  function_.parameter_area = offset + static_cast<uint32_t>(p.size);
}

void Decoder::declare_memory(std::string_view space) {
  const Declaration v = read_declaration(lexer_);
  lexer_.expect(";");
  if (space == ".local") {
    const uint32_t offset = align_up(function_.local_bytes, std::max<uint32_t>(v.align, 16));
    depots_[v.name] = offset;
    function_.local_bytes = offset + static_cast<uint32_t>(v.size);
  } else {
    function_.shared.push_back(std::make_unique<SharedVariable>(
        SharedVariable{std::string(v.name), static_cast<uint32_t>(v.size), v.align, v.unsized}));
  }
}

void Decoder::instruction() {
  // A label, a table of labels, or a statement.
  if (lexer_.peek() != '@') {
    Lexer ahead = lexer_;
    const std::string_view name = ahead.word();
    if (ahead.take(":") && ahead.peek() != ':') {
      lexer_ = ahead;
      if (lexer_.take(".branchtargets")) {
        do tables_[name].push_back(lexer_.word());
        while (lexer_.take(","));
        lexer_.expect(";");
      } else {
        labels_[name] = static_cast<uint32_t>(function_.code.size());
      }
      return;
    }
  }
  statement_ = read_statement(lexer_);
  used_.assign(statement_.operands.size(), false);
  before_.clear();
  after_.clear();
  target_ = table_ = {};
  Instruction in;
  const auto decode = decode_table().find(statement_.mnemonic);
  if (decode == decode_table().end()) fail("unknown instruction");
  decode->second(*this, in);
  if (!statement_.modifiers.empty()) fail("unknown modifier '." + std::string(statement_.modifiers[0]) + "'");
  if (const auto unused = std::find(used_.begin(), used_.end(), false); unused != used_.end()) {
    fail("operand " + std::to_string(unused - used_.begin() + 1) + " is not understood");
  }
  if (in.run == nullptr &&
      (in.kind == Kind::plain || in.kind == Kind::memory || in.kind == Kind::collective)) {
    fail("nothing executes it");
  }
  const Row guard = statement_.guard.empty() ? no_row : [&] {
    RawOperand name;
    name.text = statement_.guard;
    return predicate(name);
  }();
  const auto emit = [&](Instruction& each, bool main) {
    each.guard = guard;
    each.guard_negated = statement_.guard_negated;
    each.line = statement_.line;
    each.file = file_;
    each.source_line = source_line_;
    each.caller_file = caller_file_;
    each.caller_line = caller_line_;
    if (!main) each.counted = false;
    function_.code.push_back(each);
  };
  for (Instruction& each : before_) emit(each, false);
  if (!target_.empty()) jumps_.emplace_back(target_, function_.code.size());
  if (!table_.empty()) table_jumps_.emplace_back(table_, function_.code.size());
  emit(in, true);
  for (Instruction& each : after_) emit(each, false);
}

void Decoder::resolve_labels() {
  const auto find = [&](std::string_view label) {
    const auto it = labels_.find(label);
    if (it == labels_.end())
      lexer_.fail("no label '" + std::string(label) + "' in " + demangled(function_.name));
    return it->second;
  };
  // A function may end in a label, or in a call that does not come back.
  Instruction end;
  end.kind = Kind::ret;
  end.counted = false;
  function_.code.push_back(end);
  for (const auto& [label, at] : jumps_) function_.code[at].target = find(label);
  for (const auto& [name, at] : table_jumps_) {
    const auto it = tables_.find(name);
    if (it == tables_.end()) lexer_.fail("no table of labels '" + std::string(name) + "'");
    function_.code[at].target = static_cast<uint32_t>(function_.branch_tables.size());
    std::vector<uint32_t>& targets = function_.branch_tables.emplace_back();
    for (const std::string_view label : it->second) targets.push_back(find(label));
  }
}

bool Decoder::take(std::string_view modifier) {
  const auto it = std::find(statement_.modifiers.begin(), statement_.modifiers.end(), modifier);
  if (it == statement_.modifiers.end()) return false;
  statement_.modifiers.erase(it);
  return true;
}

void Decoder::require(std::string_view modifier) {
  if (!take(modifier)) fail("expected '." + std::string(modifier) + "'");
}

bool Decoder::has_type() const {
  return std::any_of(statement_.modifiers.begin(), statement_.modifiers.end(),
                     [](std::string_view word) { return parse_type(word) != Type::none; });
}

Type Decoder::take_type() {
  for (size_t i = 0; i < statement_.modifiers.size(); ++i) {
    const Type type = parse_type(statement_.modifiers[i]);
    if (type == Type::none) continue;
    statement_.modifiers.erase(statement_.modifiers.begin() + static_cast<ptrdiff_t>(i));
    return type;
  }
  fail("without a type that is known here");
}

std::string_view Decoder::take_one_of(std::initializer_list<std::string_view> words) {
  for (const std::string_view word : words) {
    if (take(word)) return word;
  }
  return {};
}

const RawOperand& Decoder::operand(size_t index) {
  if (index >= statement_.operands.size())
    fail("has " + std::to_string(statement_.operands.size()) + " operands, needs more");
  used_[index] = true;
  return statement_.operands[index];
}

uint32_t Decoder::row_list(const std::vector<Row>& rows) {
  const auto at = static_cast<uint32_t>(function_.row_lists.size());
  function_.row_lists.insert(function_.row_lists.end(), rows.begin(), rows.end());
  return at;
}

void Decoder::target(const RawOperand& operand, Instruction&) { target_ = operand.text; }

void Decoder::branch_table(std::string_view name) { table_ = name; }

std::optional<Decoder::Place> Decoder::parameter(std::string_view name) const {
  const auto it = parameters_.find(name);
  return it == parameters_.end() ? std::nullopt : std::optional(it->second);
}

Function* Decoder::callee(std::string_view name) {
  const auto it = function_.module->functions.find(name);
  if (it == function_.module->functions.end())
    fail("calls '" + std::string(name) + "', which the module does not define");
  return it->second.get();
}

void decode(Function& function) {
  if (function.decoded) return;
  function.decoded = true;  // recursion
  try {
    Decoder(function).run();
    for (const Call& call : function.calls) decode(*call.callee);
  } catch (...) {
    const bool entry = function.entry;
    function.decoded = false;
    function.code.clear();
    (void)entry;
    throw;
  }
}

}  // namespace cudasim
