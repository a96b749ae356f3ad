// Words, operands and statements of PTX text.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cudasim {

struct PtxError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Lexer {
 public:
  Lexer(std::string_view text, uint32_t line) : text_(text), line_(line) {}

  bool at_end();
  uint32_t line() const { return line_; }
  size_t position() const { return position_; }
  char peek();                           // next character that is neither blank nor comment; 0 at the end
  std::string_view peek_word();          // a word, or one character of punctuation
  std::string_view word();               // takes it; there must be one
  bool take(std::string_view expected);  // takes it if it is next
  void expect(std::string_view expected);
  std::string_view rest_of_line();
  std::string_view until_balanced(
      char open, char close);  // `open` was taken; the text up to its `close`, which is taken
  int64_t integer();
  uint64_t bits_of_float();  // of a word as below
  [[noreturn]] void fail(const std::string& what) const;

 private:
  void skip_blanks();

  std::string_view text_;
  size_t position_ = 0;
  uint32_t line_;
};

bool is_float_word(std::string_view word);  // 0f3f800000, 0d3ff0000000000000
constexpr int deepest = 64;                 // levels of braces in operands and initial values

struct RawOperand {
  enum Form { name, number, vector, memory, list } form = name;
  std::string_view text;                      // of a name: register, label or symbol; of memory: its base
  uint64_t bits = 0;                          // of a number, also memory's base without a name
  bool is_double = false, is_single = false;  // a number written as 0d... or 0f...
  int64_t offset = 0;
  bool negated = false;
  std::vector<RawOperand> elements;  // of a vector or list, and the second of a pair d|p
};

struct RawStatement {
  std::string_view guard;
  bool guard_negated = false;
  std::string_view opcode;                  // the whole
  std::string_view mnemonic;                // up to the first dot
  std::vector<std::string_view> modifiers;  // the rest, without dots
  std::vector<RawOperand> operands;
  uint32_t line = 0;
};

// Reads an instruction up to its semicolon.
RawStatement read_statement(Lexer& lexer);

}  // namespace cudasim
