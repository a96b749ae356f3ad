// chrF (Popovic 2015) and chrF++ (Popovic 2017) of a corpus as sacreBLEU computes them: the F-score, with
// recall weighing twice as much as precision, of n-grams of characters without white space (and of words).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::metrics {

// The longest n-grams that count.
struct ChrfOptions {
  int character_order = 6;  // of characters
  int word_order = 0;       // of words; 2: chrF++
};

struct Chrf {
  double score = 0;               // 0 to 100
  int64_t references = 1;         // for each hypothesis
  ChrfOptions options;            // it was computed with
  std::string signature() const;  // in sacreBLEU's form
};

// One or several lists of references, each as long as `hypotheses`; ValueError otherwise, and for empty ones.
Chrf corpus_chrf(const std::vector<std::string>& hypotheses,
                 const std::vector<std::vector<std::string>>& references, const ChrfOptions& options = {});
Chrf corpus_chrf(const std::vector<std::string>& hypotheses, const std::vector<std::string>& reference,
                 const ChrfOptions& options = {});

}  // namespace tandem::metrics
