#include "ptx/declaration.h"
#include "tests/fuzz/fuzz.h"

using namespace cudasim;

namespace {

// The words of a function's body as the decoder takes them, without the instructions' meaning.
void read_body(const Function& function) {
  Lexer lexer(function.body, function.body_line);
  while (!lexer.at_end()) {
    const char next = lexer.peek();
    if (next == '{' || next == '}') {
      lexer.word();
    } else if (next == '.') {
      const std::string_view word = lexer.word();
      if (word == ".loc") {
        lexer.integer();
        lexer.rest_of_line();
      } else {
        read_declaration(lexer);
        lexer.expect(";");
      }
    } else {
      read_statement(lexer);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(tandem::fuzz::text_of(data, size));
  Module module;
  module.text = text;
  tandem::fuzz::read_or_refuse<PtxError>([&] { scan(module); });
  for (const Function* function : module.in_order)
    tandem::fuzz::read_or_refuse<PtxError>([&] { read_body(*function); });
  return 0;
}
