// Overlap of test sources with the training data: shows whether a score is one of new texts or of near
// copies.
#pragma once

#include <string>
#include <vector>

namespace tandem::metrics {

// Of each source, the highest overlap with any training source: |A and B| / |A or B| of the sets of words
// (runs of letters and digits; A-Z as a-z), 0 to 1; 0 for a source without a word.
std::vector<double> nearest_overlap(const std::vector<std::string>& sources,
                                    const std::vector<std::string>& training_sources);

}  // namespace tandem::metrics
