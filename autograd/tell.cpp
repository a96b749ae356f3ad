#include "autograd/tell.h"

#include <cstdio>
#include <utility>

namespace tandem {
namespace {
thread_local bool quiet = false;
}

QuietScope::QuietScope() : before_(std::exchange(quiet, true)) {}
QuietScope::~QuietScope() { quiet = before_; }

std::string printable(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, in UTF-8 C2 80 to C2 9F, are control characters, too.
    const bool wide =
        c == 0xC2 && i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xE0) == 0x80;
    if (wide) {
      shown += fmt::format("\\u{:04x}", static_cast<unsigned char>(text[++i]));
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      shown += fmt::format("\\x{:02x}", c);
    } else {
      shown += text[i];
    }
  }
  return shown;
}

void tell_line(std::string_view line) {
  if (quiet) return;
  const std::string text = printable(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace tandem
