// Declarations of variables and parameters in PTX: ".global .align 4 .b8 name[24]".
#pragma once
#include "ptx/lexer.h"
#include "ptx/module.h"

namespace cudasim {

struct Declaration {
  std::string_view name;
  Type type = Type::none;
  uint64_t size = 0;  // bytes
  uint32_t align = 1;
  bool unsized = false;  // "[]"
};

// Reads what follows the state space, up to the name and its dimensions.
Declaration read_declaration(Lexer& lexer);
// Reads "(.param .u32 a, .param .align 8 .b8 b[16])", the parenthesis included, and lays the parameters out.
std::vector<Parameter> read_parameters(Lexer& lexer, uint32_t& bytes);
// Reads the initial value after '='.
void read_initial_value(Lexer& lexer, const Declaration& declaration, GlobalVariable& variable);

}  // namespace cudasim
