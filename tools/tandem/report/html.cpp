#include "tools/tandem/report/html.h"

#include <fmt/format.h>

#include <cmath>

#include "nn/data/text_files.h"

namespace tandem::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void escape_valid(std::string_view text, std::string& out) {
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
          out += kReplacement;
        } else {
          out += c;
        }
    }
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t bad = data::invalid_utf8(text);
    escape_valid(text.substr(0, bad), out);
    if (bad == std::string_view::npos) break;
    out += kReplacement;
    text.remove_prefix(bad + 1);
  }
  return out;
}

std::string whole(double number) {
  std::string grouped;
  const std::string digits = fmt::format("{:.0f}", std::abs(number));
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) grouped += ',';
    grouped += digits[i];
  }
  return number <= -0.5 ? '-' + grouped : grouped;
}

std::string script_json(std::string_view json) {
  std::string out;
  for (const char c : json) c == '<' ? out += "\\u003c" : out += c;
  return out;
}

std::string html(const Table& table) {
  const std::string caption = escape(table.caption);
  std::string out = fmt::format(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table class=\"{1}\">"
      "<caption>{0}</caption>\n<thead><tr>",
      caption, table.style);
  for (const std::string& cell : table.head) out += "<th scope=\"col\">" + cell + "</th>";
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr><th scope=\"row\">" + row.front() + "</th>";
    for (size_t i = 1; i < row.size(); ++i) out += "<td>" + row[i] + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace tandem::report
