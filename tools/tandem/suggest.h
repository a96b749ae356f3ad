// The known name that a mistyped one is meant to be.
#pragma once

#include <string>
#include <vector>

namespace tandem::command {

// The nearest of `names` that differs from `word` in a third of its letters at most; "" where none does.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

// "; did you mean --epochs?", or "" where no name is near.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& names);

}  // namespace tandem::command
