#include "nn/data/tokenizers/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "autograd/error.h"

namespace tandem::data::unicode {
namespace {

bool in_category(char32_t c, uint32_t mask) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & mask) != 0; }

struct Range {
  char32_t first, last;
};
constexpr Range kChinese[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
                              {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};

}  // namespace

char32_t next(std::string_view text, size_t& at) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  if (bytes[at] < 0x80) return bytes[at++];
  UChar32 c = 0;
  U8_NEXT_OR_FFFD(bytes, at, text.size(), c);
  return static_cast<char32_t>(c);
}

void append(std::string& text, char32_t c) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
    return;
  }
  char bytes[U8_MAX_LENGTH];
  size_t size = 0;
  U8_APPEND_UNSAFE(bytes, size, c);
  text.append(bytes, size);
}

bool is_valid(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    if (bytes[at] < 0x80) {
      ++at;
      continue;
    }
    UChar32 c = 0;
    U8_NEXT(bytes, at, text.size(), c);
    if (c < 0) return false;
  }
  return true;
}

std::string repaired(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) append(out, next(text, at));
  return out;
}

bool is_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0; }
bool is_letter(char32_t c) { return in_category(c, U_GC_L_MASK); }
bool is_number(char32_t c) { return in_category(c, U_GC_N_MASK); }
bool is_control(char32_t c) { return in_category(c, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK); }
bool is_accent(char32_t c) { return in_category(c, U_GC_MN_MASK); }
bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > 0x20 && c < 0x7F && !in_category(c, U_GC_L_MASK | U_GC_N_MASK);
  return in_category(c, U_GC_P_MASK);
}
bool is_word(char32_t c) {
  return u_isUAlphabetic(static_cast<UChar32>(c)) != 0 || c == 0x200C || c == 0x200D ||
         in_category(c, U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK);
}
bool is_chinese(char32_t c) {
  if (c < kChinese[0].first) return false;
  for (const auto& [first, last] : kChinese)
    if (c >= first && c <= last) return true;
  return false;
}

std::string decomposed(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(status);
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  if (U_SUCCESS(status))
    nfd->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                       status);
  check<ValueError>(U_SUCCESS(status), "vocabulary: decomposition: {}", u_errorName(status));
  return out;
}

void append_lower(std::string& text, char32_t c) {
  if (c == 0x130) {  // the only one of two
    text += "i\u0307";
  } else {
    append(text, static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
  }
}

}  // namespace tandem::data::unicode
