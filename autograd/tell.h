// Lines on standard error, for people.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace tandem {

// Text from outside (a file's name, a line of it) as a terminal may be shown it: control characters, which it
// would obey, are written out ("\x1b").
std::string printable(std::string_view text);

// While it lives, this thread tells nothing: of several processes that do the same, one tells what they do.
class QuietScope {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] QuietScope();
  ~QuietScope();
  QuietScope(const QuietScope&) = delete;
  QuietScope& operator=(const QuietScope&) = delete;

 private:
  const bool before_;
};

// Writes a line. Where it cannot be written (standard error is closed, its disk is full) it is lost, and
// nothing is thrown: no training ends for its progress.
void tell_line(std::string_view line);
template <class... A> void tell(fmt::format_string<A...> format, A&&... arguments) {
  tell_line(fmt::format(format, std::forward<A>(arguments)...));
}

}  // namespace tandem
