#include "ptx/lexer.h"

#include <cctype>
#include <charconv>

namespace cudasim {
namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}

bool is_number(std::string_view word) {
  return !word.empty() && std::isdigit(static_cast<unsigned char>(word[0]));
}

}  // namespace

bool is_float_word(std::string_view word) {
  return word.size() > 2 && word[0] == '0' &&
         std::string_view("fFdD").find(word[1]) != std::string_view::npos;
}

void Lexer::skip_blanks() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c == '\n') {
      ++line_;
      ++position_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++position_;
    } else if (text_.compare(position_, 2, "//") == 0) {
      while (position_ < text_.size() && text_[position_] != '\n') ++position_;
    } else if (text_.compare(position_, 2, "/*") == 0) {
      const size_t end = text_.find("*/", position_ + 2);
      if (end == std::string_view::npos) fail("comment without end");
      for (; position_ < end + 2; ++position_) line_ += text_[position_] == '\n';
    } else {
      return;
    }
  }
}

bool Lexer::at_end() { return peek() == 0; }

char Lexer::peek() {
  skip_blanks();
  return position_ < text_.size() ? text_[position_] : 0;
}

std::string_view Lexer::peek_word() {
  skip_blanks();
  size_t end = position_;
  while (end < text_.size() && is_word(text_[end])) ++end;
  if (end == position_ && end < text_.size()) {
    if (text_[end] == '"') {
      end = text_.find('"', end + 1);
      if (end == std::string_view::npos) fail("string without end");
    }
    ++end;
  }
  return text_.substr(position_, end - position_);
}

std::string_view Lexer::word() {
  const std::string_view result = peek_word();
  if (result.empty()) fail("the text ends where a word is expected");
  // Names of operators' overloads hold "::", as in ".visible" modifiers like "acquire::cta".
  position_ += result.size();
  return result;
}

bool Lexer::take(std::string_view expected) {
  if (peek_word() != expected) return false;
  position_ += expected.size();
  return true;
}

void Lexer::expect(std::string_view expected) {
  if (!take(expected))
    fail("expected '" + std::string(expected) + "', found '" + std::string(peek_word()) + "'");
}

std::string_view Lexer::rest_of_line() {
  const size_t begin = position_;
  while (position_ < text_.size() && text_[position_] != '\n') ++position_;
  return text_.substr(begin, position_ - begin);
}

std::string_view Lexer::until_balanced(char open, char close) {
  const size_t begin = position_;
  for (int depth = 1; position_ < text_.size(); ++position_) {
    const char c = text_[position_];
    line_ += c == '\n';
    if (c == '/' && text_.compare(position_, 2, "//") == 0) {
      while (position_ + 1 < text_.size() && text_[position_ + 1] != '\n') ++position_;
    } else if (c == '"') {
      position_ = text_.find('"', position_ + 1);
      if (position_ == std::string_view::npos) fail("string without end");
    } else if (c == open) {
      ++depth;
    } else if (c == close && --depth == 0) {
      return text_.substr(begin, position_++ - begin);
    }
  }
  fail(std::string("no '") + close + "' to the end of the text");
}

int64_t Lexer::integer() {
  const bool negative = take("-");
  std::string_view text = word();
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    text.remove_prefix(2);
    base = 16;
  }
  if (!text.empty() && (text.back() == 'U' || text.back() == 'u') && base == 10) text.remove_suffix(1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size())
    fail("expected a number, found '" + std::string(text) + "'");
  return static_cast<int64_t>(negative ? 0 - value : value);
}

uint64_t Lexer::bits_of_float() {
  const std::string_view text = word();
  uint64_t bits = 0;
  const auto [end, error] = std::from_chars(text.data() + 2, text.data() + text.size(), bits, 16);
  if (error != std::errc() || end != text.data() + text.size())
    fail("not a number: '" + std::string(text) + "'");
  return bits;
}

void Lexer::fail(const std::string& what) const {
  throw PtxError("PTX line " + std::to_string(line_) + ": " + what);
}

namespace {

RawOperand read_number(Lexer& lexer) {
  RawOperand result;
  result.form = RawOperand::number;
  const std::string_view text = lexer.peek_word();
  if (is_float_word(text)) {
    result.bits = lexer.bits_of_float();
    result.is_single = text[1] == 'f' || text[1] == 'F';
    result.is_double = !result.is_single;
  } else {
    result.bits = static_cast<uint64_t>(lexer.integer());
  }
  return result;
}

RawOperand read_operand(Lexer& lexer, int depth = 0) {
  RawOperand result;
  if (depth > deepest) lexer.fail("an operand of more than " + std::to_string(deepest) + " levels");
  if (lexer.take("!")) {
    result = read_operand(lexer, depth + 1);
    result.negated = !result.negated;
    return result;
  }
  const char next = lexer.peek();
  if (next == '{' || next == '(') {
    const std::string_view close = next == '{' ? "}" : ")";
    result.form = next == '{' ? RawOperand::vector : RawOperand::list;
    lexer.word();
    while (!lexer.take(close)) {
      result.elements.push_back(read_operand(lexer, depth + 1));
      lexer.take(",");
    }
    return result;
  }
  if (next == '[') {
    lexer.word();
    result.form = RawOperand::memory;
    if (is_number(lexer.peek_word())) {
      result.bits = read_number(lexer).bits;
    } else {
      result.text = lexer.word();
    }
    while (!lexer.take("]")) {
      const bool plus = lexer.take("+");
      if (!plus && lexer.peek() != '-')
        lexer.fail("unknown form of address at '" + std::string(lexer.peek_word()) + "'");
      if (__builtin_add_overflow(result.offset, lexer.integer(), &result.offset))
        lexer.fail("an offset of more than 64 bits");
    }
    return result;
  }
  if (next == '-' || is_number(lexer.peek_word())) {
    result = read_number(lexer);
  } else {
    result.text = lexer.word();
    if (lexer.take("+")) result.offset = lexer.integer();
  }
  if (lexer.take("|")) result.elements.push_back(read_operand(lexer, depth + 1));
  return result;
}

}  // namespace

RawStatement read_statement(Lexer& lexer) {
  RawStatement result;
  if (lexer.take("@")) {
    result.guard_negated = lexer.take("!");
    result.guard = lexer.word();
  }
  lexer.peek();
  result.line = lexer.line();
  const std::string_view first = lexer.word();
  const char* begin = first.data();
  std::string_view last = first;
  while (lexer.take(":")) {  // "ld.acquire::cta"
    lexer.expect(":");
    last = lexer.word();
  }
  result.opcode = std::string_view(begin, static_cast<size_t>(last.data() + last.size() - begin));
  for (size_t at = 0; at <= result.opcode.size();) {
    const size_t dot = std::min(result.opcode.find('.', at), result.opcode.size());
    const std::string_view part = result.opcode.substr(at, dot - at);
    if (at == 0) {
      result.mnemonic = part;
    } else {
      result.modifiers.push_back(part);
    }
    at = dot + 1;
  }
  while (!lexer.take(";")) {
    if (lexer.at_end()) lexer.fail("statement without ';'");
    result.operands.push_back(read_operand(lexer));
    lexer.take(",");
  }
  return result;
}

}  // namespace cudasim
