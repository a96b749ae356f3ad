#include "tools/corpora/unicode.h"

#include <fmt/format.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include "autograd/error.h"

namespace tandem::data {
namespace {

// Calls visit(code point, its bytes) along a text; what is not UTF-8 comes as -1.
template <class Visit> void each_character(std::string_view text, Visit visit) {
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t at = 0; at < size;) {
    const int32_t begin = at;
    UChar32 c = 0;
    U8_NEXT(text.data(), at, size, c);
    visit(c, text.substr(begin, at - begin));
  }
}

bool is_space(UChar32 c) { return c >= 0 && (u_isUWhiteSpace(c) || (c >= 0x1C && c <= 0x1F)); }
bool is_decimal(UChar32 c) { return c >= 0 && u_charType(c) == U_DECIMAL_DIGIT_NUMBER; }
bool is_letter_or_number(UChar32 c) {
  return c >= 0 && (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}
bool is_word(UChar32 c) { return c == '_' || is_letter_or_number(c); }

// The characters that `keep` wants; a blank for each run of others between them.
template <class Keep> std::string kept(std::string_view text, Keep keep) {
  std::string out;
  bool gap = false;
  each_character(text, [&](UChar32 c, std::string_view bytes) {
    if (!keep(c)) {
      gap = !out.empty();
      return;
    }
    if (gap) out += ' ';
    gap = false;
    out += bytes;
  });
  return out;
}

std::string lower(std::string_view text) {
  icu::UnicodeString wide =
      icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  std::string out;
  wide.toLower(icu::Locale::getRoot()).toUTF8String(out);
  return out;
}

}  // namespace

int64_t count_words(std::string_view text) {
  int64_t count = 0;
  bool inside = false;
  each_character(text, [&](UChar32 c, std::string_view) {
    const bool word = is_word(c);
    count += word ? !inside : !is_space(c);
    inside = word;
  });
  return count;
}

std::string letters_only(std::string_view text) {
  return kept(lower(text), [](UChar32 c) { return is_letter_or_number(c) && !is_decimal(c); });
}

std::string letters_and_digits(std::string_view text) { return kept(lower(text), is_letter_or_number); }

std::string collapse_spaces(std::string_view text) {
  return kept(text, [](UChar32 c) { return !is_space(c); });
}

std::string from_latin1(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return out;
}

}  // namespace tandem::data
