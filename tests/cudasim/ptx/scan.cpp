// The outer level of a PTX text: variables, and where the functions are.
#include "ptx/declaration.h"

namespace cudasim {
namespace {

uint32_t align_up(uint32_t value, uint32_t align) { return (value + align - 1) / align * align; }

void scan_function(Lexer& lexer, Module& module, bool entry) {
  auto function = std::make_unique<Function>();
  function->module = &module;
  function->entry = entry;
  uint32_t result_bytes = 0;
  std::vector<Parameter> result;
  if (lexer.peek() == '(') result = read_parameters(lexer, result_bytes);
  const std::string_view name = lexer.word();
  function->name = name;
  if (lexer.peek() == '(') function->parameters = read_parameters(lexer, function->parameter_bytes);
  if (!result.empty()) {
    function->result_name = result[0].name;
    function->result_size = result[0].size;
    function->result_offset = align_up(function->parameter_bytes, 16);
  }
  function->parameter_area =
      align_up(std::max(function->parameter_bytes, function->result_offset + result_bytes), 16);
  while (lexer.peek() == '.') {  // performance directives
    const std::string_view word = lexer.word();
    if (word == ".maxntid" || word == ".reqntid") {
      function->max_threads = 1;
      do {
        const int64_t threads = lexer.integer();
        if (threads < 1 || threads > 1024 / function->max_threads)
          lexer.fail(std::string(word) + ": expected 1 to 1024 threads");
        function->max_threads *= static_cast<int>(threads);
      } while (lexer.take(","));
    } else if (word == ".minnctapersm" || word == ".maxnreg") {
      lexer.integer();
    } else if (word != ".noreturn") {
      lexer.fail("unknown directive '" + std::string(word) + "' of a function");
    }
  }
  if (lexer.take(";")) {  // declared only; the definition follows
    return;
  }
  lexer.expect("{");
  function->body_line = lexer.line();
  function->body = lexer.until_balanced('{', '}');
  const auto [defined, is_new] = module.functions.try_emplace(name, std::move(function));
  if (!is_new) lexer.fail("a second function '" + std::string(name) + "'");
  module.in_order.push_back(defined->second.get());
}

void scan_variable(Lexer& lexer, Module& module, std::string_view space) {
  const Declaration declaration = read_declaration(lexer);
  const std::string name(declaration.name);
  if (space == ".shared") {
    module.shared[name] = std::make_unique<SharedVariable>(SharedVariable{
        name, static_cast<uint32_t>(declaration.size), declaration.align, declaration.unsized});
  } else {
    GlobalVariable variable;
    variable.name = name;
    variable.size = declaration.size;
    variable.align = declaration.align;
    variable.constant = space == ".const";
    variable.initial.resize(declaration.size);
    if (lexer.take("=")) read_initial_value(lexer, declaration, variable);
    module.globals[name] = std::move(variable);
  }
  lexer.expect(";");
}

}  // namespace

void scan(Module& module) {
  if (module.scanned) return;
  Lexer lexer(module.text, 1);
  while (!lexer.at_end()) {
    const std::string_view word = lexer.word();
    if (word == ".version" || word == ".target" || word == ".address_size") {
      lexer.rest_of_line();
    } else if (word == ".file") {
      const auto id = static_cast<int>(lexer.integer());
      const std::string_view name = lexer.word();
      if (name.size() < 2 || name[0] != '"')
        lexer.fail("expected a file's name, found '" + std::string(name) + "'");
      module.files[id] = std::string(name.substr(1, name.size() - 2));
      lexer.rest_of_line();
    } else if (word == ".section") {
      lexer.word();
      lexer.expect("{");
      lexer.until_balanced('{', '}');
    } else if (word == ".entry" || word == ".func") {
      scan_function(lexer, module, word == ".entry");
    } else if (word == ".global" || word == ".const" || word == ".shared") {
      scan_variable(lexer, module, word);
    } else if (word != ".visible" && word != ".extern" && word != ".weak" && word != ".common") {
      lexer.fail("unknown directive '" + std::string(word) + "'");
    }
  }
  module.scanned = true;
}

}  // namespace cudasim
