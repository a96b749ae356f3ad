// The page of a report.
#pragma once

#include <string>
#include <vector>

#include "tools/tandem/report/groups.h"

namespace tandem::report {

// What a run's test examples come to: a section of the page.
struct ExamplesSection {
  std::string id, title, body;  // an anchor, text, and HTML
};

// One HTML file without any other. `runs` as of group(), which has named them; `maker`: "tandem 0.1.0".
std::string make_page(const std::vector<RunRecord>& runs, const Groups& groups,
                      const std::vector<ExamplesSection>& examples, const std::string& maker);

}  // namespace tandem::report
