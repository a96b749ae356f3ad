// Prints every mutation of the kernels in a shared library, one a line, separated by tabs: its name for the
// option `mutate`, its kind, the source file, the kernel, what it replaces and by what.
#include <dlfcn.h>

#include <cstdio>
#include <map>

#include "ptx/module.h"
#include "ptx/mutation.h"

namespace {

// The name of the file that the module was made of, "softmax.cu".
std::string_view source_of(std::string_view text) {
  const size_t end = text.find(".cu\"");
  if (end == std::string_view::npos) return {};
  const size_t begin = text.find_last_of("/\"", end);
  return text.substr(begin + 1, end + 3 - begin - 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
    return 2;
  }
  if (dlopen(argv[1], RTLD_NOW) == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  size_t number = 0;
  for (const std::string_view text : cudasim::module_texts()) {
    const std::string_view source = source_of(text);
    std::string_view last;
    std::string kernel;
    size_t index = 0;
    for (const cudasim::Mutation& m : cudasim::mutations_of(text)) {
      if (m.kernel != last) kernel = cudasim::demangled(std::string(last = m.kernel));
      const std::string_view line = text.substr(m.at, m.size);
      const auto print = [](std::string_view field, char end) {
        std::fwrite(field.data(), 1, field.size(), stdout);
        std::putchar(end);
      };
      print(std::to_string(number) + "." + std::to_string(index++), '\t');
      print(m.kind, '\t');
      print(source, '\t');
      print(kernel, '\t');
      print(line, '\t');
      print(m.replacement, '\n');
    }
    ++number;
  }
}
