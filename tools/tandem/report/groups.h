// Runs that differ by their seed alone are one setting, of which there are several measurements.
#pragma once

#include <string>
#include <vector>

#include "tools/tandem/report/run_record.h"

namespace tandem::report {

struct Group {
  std::string name;
  std::vector<const RunRecord*> runs;

  const RunRecord& first() const { return *runs.front(); }
  // One run of each seed that came to its end: the same training twice is one measurement.
  std::vector<const RunRecord*> seeds() const;
  // Theirs, of those that have it: a score on test data, by name.
  std::vector<double> scores(const std::string& name) const;
};

struct Groups {
  std::vector<Group> all;              // in the order of their first runs
  std::vector<std::string> differing;  // the options in which they differ

  // The names of all scores, in the order in which they come.
  std::vector<std::string> scores() const;
};

// Names the runs by what tells their folders apart, and groups them. `runs` must outlive it.
Groups group(std::vector<RunRecord>& runs);

}  // namespace tandem::report
