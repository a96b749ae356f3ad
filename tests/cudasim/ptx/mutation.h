// Small mistakes made in kernels as they are loaded, each a class of what goes wrong in real ones: a dropped
// barrier, a guard off by one, a shortened array. Tests that stay silent about one are too weak.
//
// CUDASIM="mutate=MODULE.N" makes the N-th mutation of a module, modules by their order of registration.
// "MODULE.N.trap" stops there instead, which tells whether the place is ever reached. list_mutations prints
// all.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cudasim {

struct Mutation {
  std::string_view kind;    // "barrier dropped"
  std::string_view kernel;  // the mangled name of the function it is in
  size_t at = 0, size = 0;  // what it replaces in the module's text, without line ends
  std::string replacement;
};

// Every mutation of a module's PTX, in the order of the text.
std::vector<Mutation> mutations_of(std::string_view text);

// The text with the mutation of the option `mutate`, if that is about the module of this number.
std::string_view mutated(std::string_view text, size_t module);

// The PTX of all modules that are loaded.
std::vector<std::string_view> module_texts();

}  // namespace cudasim
