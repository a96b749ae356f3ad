// UTF-8 and the properties of code points, by ICU.
#pragma once

#include <string>
#include <string_view>

namespace tandem::data::unicode {

// The code point at `at`, which moves behind it: U+FFFD where the bytes are none.
char32_t next(std::string_view text, size_t& at);
void append(std::string& text, char32_t c);

// The text, with U+FFFD for what is not UTF-8 (as Unicode recommends: one for each maximal part).
std::string repaired(std::string_view text);
bool is_valid(std::string_view text);

bool is_space(char32_t c);        // White_Space
bool is_letter(char32_t c);       // a category L
bool is_number(char32_t c);       // a category N
bool is_control(char32_t c);      // Cc, Cf and Co
bool is_accent(char32_t c);       // Mn
bool is_punctuation(char32_t c);  // a category P, and all of ASCII but letters, digits, blanks and controls
bool is_word(char32_t c);         // \w of regular expressions
bool is_chinese(char32_t c);      // of those that BERT takes for words

// In canonical decomposition.
std::string decomposed(std::string_view text);
// Appends the lower case of one code point, without regard of those beside it.
void append_lower(std::string& text, char32_t c);

}  // namespace tandem::data::unicode
