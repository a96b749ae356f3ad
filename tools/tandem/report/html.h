// Pieces of HTML. Whatever comes from files goes through escape() or script_json().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::report {

// Text as HTML, inside of elements and of quoted attributes: bytes that are not UTF-8, and control characters
// but for line breaks, become U+FFFD.
std::string escape(std::string_view text);
// Rounded, with a comma before every three digits: "12,345".
std::string whole(double number);
inline std::string count(int64_t number) { return whole(static_cast<double>(number)); }
// JSON as the contents of a <script>: no tag can end it.
std::string script_json(std::string_view json);

struct Table {
  std::string caption = {};                         // text
  std::vector<std::string> head = {};               // HTML of the columns' heads
  std::vector<std::vector<std::string>> rows = {};  // HTML; the first cell is the row's head
  std::string style = "numbers";                    // of the other cells: "numbers", to the right, or "words"
};
// In a box of its own that scrolls sideways, and can be reached by keys.
std::string html(const Table& table);

}  // namespace tandem::report
