// The curves of a report as JSON that page.js draws.
#pragma once

#include <string>

#include "tools/tandem/report/groups.h"

namespace tandem::report {

inline constexpr int64_t kMostPoints = 400;  // of a curve: those of longer ones are means of steps

// {"charts": [{"key", "title", "unit", "percent"}],
//  "groups": [{"name", "seeds", "curves": {key: {"train" or "valid": {"x", "y"[, "low", "high"]}}}}]}: y is
//  the
// mean over the runs of a group, low and high are the least and the most of several. Charts that have no
// curve are left out.
std::string curves_to_json(const Groups& groups);

}  // namespace tandem::report
