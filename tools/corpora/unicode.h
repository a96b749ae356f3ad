// What the rules of the corpora need of Unicode, by ICU. Texts are UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::data {

// Words (runs of letters, digits and _) and other characters that are not white space, counted.
int64_t count_words(std::string_view text);
// In lower case, everything but letters (and numbers that are no decimal digits) as one blank, none at the
// ends.
std::string letters_only(std::string_view text);
std::string letters_and_digits(std::string_view text);  // decimal digits stay, too
std::string collapse_spaces(std::string_view text);     // white space as one blank, none at the ends
std::string from_latin1(std::string_view text);

}  // namespace tandem::data
