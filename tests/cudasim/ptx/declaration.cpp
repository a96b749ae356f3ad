#include "ptx/declaration.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace cudasim {
namespace {

struct TypeName {
  std::string_view name;
  Type type;
  int size;
};
constexpr std::array<TypeName, 17> types = {{{"u8", Type::u8, 1},
                                             {"u16", Type::u16, 2},
                                             {"u32", Type::u32, 4},
                                             {"u64", Type::u64, 8},
                                             {"s8", Type::s8, 1},
                                             {"s16", Type::s16, 2},
                                             {"s32", Type::s32, 4},
                                             {"s64", Type::s64, 8},
                                             {"b8", Type::b8, 1},
                                             {"b16", Type::b16, 2},
                                             {"b32", Type::b32, 4},
                                             {"b64", Type::b64, 8},
                                             {"f16", Type::f16, 2},
                                             {"f16x2", Type::f16x2, 4},
                                             {"f32", Type::f32, 4},
                                             {"f64", Type::f64, 8},
                                             {"pred", Type::pred, 0}}};

constexpr int64_t most_bytes = 1 << 26;  // of a variable, or of all parameters

uint32_t align_up(uint64_t value, uint32_t align) {
  return static_cast<uint32_t>((value + align - 1) / align * align);
}

uint32_t read_align(Lexer& lexer) {
  const int64_t align = lexer.integer();
  if (align < 1 || align > 1 << 16 || (align & (align - 1)) != 0)
    lexer.fail(".align " + std::to_string(align) + ", expected a power of two");
  return static_cast<uint32_t>(align);
}

}  // namespace

Type parse_type(std::string_view text) {
  for (const TypeName& type : types) {
    if (type.name == text) return type.type;
  }
  return Type::none;
}

int size_of(Type type) {
  for (const TypeName& entry : types) {
    if (entry.type == type) return entry.size;
  }
  return 0;
}

bool is_signed(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}

bool is_float(Type type) {
  return type == Type::f32 || type == Type::f64 || type == Type::f16 || type == Type::f16x2;
}

Declaration read_declaration(Lexer& lexer) {
  Declaration result;
  uint64_t count = 1;
  bool aligned = false;
  while (lexer.peek() == '.') {
    const std::string_view word = lexer.word().substr(1);
    if (word == "align") {
      result.align = read_align(lexer);
      aligned = true;
    } else if (word == "v2" || word == "v4") {
      count = word == "v2" ? 2 : 4;
    } else if (word == "attribute") {
      lexer.expect("(");
      lexer.until_balanced('(', ')');
    } else if (word == "ptr" || word == "global" || word == "const" || word == "shared" || word == "local") {
      continue;  // what a kernel's pointer parameter points to
    } else if ((result.type = parse_type(word)) == Type::none) {
      lexer.fail("unknown word '." + std::string(word) + "' in a declaration");
    }
  }
  if (result.type == Type::none) lexer.fail("declaration without a type");
  result.name = lexer.word();
  while (lexer.take("[")) {
    if (lexer.take("]")) {
      result.unsized = true;
      count = 0;
    } else {
      const int64_t size = lexer.integer();
      if (size < 0 || __builtin_mul_overflow(count, static_cast<uint64_t>(size), &count) ||
          count > most_bytes)
        lexer.fail(fmt::format("'{}' is larger than {} bytes", result.name, most_bytes));
      lexer.expect("]");
    }
  }
  const auto element = static_cast<uint32_t>(size_of(result.type));
  if (!aligned) result.align = std::max<uint32_t>(element, 1);
  result.size = count * element;
  return result;
}

std::vector<Parameter> read_parameters(Lexer& lexer, uint32_t& bytes) {
  std::vector<Parameter> result;
  lexer.expect("(");
  while (!lexer.take(")")) {
    if (!lexer.take(".param") && !lexer.take(".reg")) lexer.fail("expected a parameter");
    const Declaration parameter = read_declaration(lexer);
    const uint32_t offset = align_up(bytes, parameter.align);
    result.push_back({std::string(parameter.name), offset, static_cast<uint32_t>(parameter.size)});
    bytes = offset + static_cast<uint32_t>(parameter.size);
    if (bytes > most_bytes) lexer.fail("parameters are larger than " + std::to_string(most_bytes) + " bytes");
    lexer.take(",");
  }
  return result;
}

namespace {

void read_value(Lexer& lexer, size_t element, GlobalVariable& variable, size_t& at, int depth = 0) {
  if (depth > deepest) lexer.fail("an initial value of more than " + std::to_string(deepest) + " levels");
  if (lexer.take("{")) {
    while (!lexer.take("}")) {
      read_value(lexer, element, variable, at, depth + 1);
      lexer.take(",");
    }
    return;
  }
  const std::string_view word = lexer.peek_word();
  uint64_t bits = 0;
  if (is_float_word(word)) {
    bits = lexer.bits_of_float();
  } else if (word == "-" || (!word.empty() && word[0] >= '0' && word[0] <= '9')) {
    bits = static_cast<uint64_t>(lexer.integer());
  } else {
    const bool generic = lexer.take("generic");
    if (generic) lexer.expect("(");
    GlobalVariable::Pointer pointer{at, std::string(lexer.word()), 0};
    if (generic) lexer.expect(")");
    if (lexer.take("+")) pointer.offset = lexer.integer();
    if (element != 8)
      lexer.fail("address of '" + pointer.symbol + "' in a value of " + std::to_string(element) + " bytes");
    variable.pointers.push_back(pointer);
  }
  if (at + element > variable.initial.size())
    lexer.fail("more initial values than '" + variable.name + "' has room for");
  std::memcpy(variable.initial.data() + at, &bits, element);
  at += element;
}

}  // namespace

void read_initial_value(Lexer& lexer, const Declaration& declaration, GlobalVariable& variable) {
  size_t at = 0;
  read_value(lexer, static_cast<size_t>(size_of(declaration.type)), variable, at);
}

}  // namespace cudasim
