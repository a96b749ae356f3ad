// The section of a report on one run's test examples.
#pragma once

#include <string>

#include "tools/tandem/recipe.h"
#include "tools/tandem/report/page.h"

namespace tandem::report {

// Opens the run's best weights and its test data, and predicts `most` of these. A body of "" where the task
// has nothing to show. Errors are those of `tandem eval`.
ExamplesSection examples_of(const RunRecord& run, int64_t most, const std::string& id);

}  // namespace tandem::report
