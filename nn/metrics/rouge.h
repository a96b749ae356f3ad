// ROUGE (Lin 2004) as the package rouge-score computes it, without stemming.
#pragma once

#include <string>
#include <vector>

namespace tandem::metrics {

struct Rouge {
  // F-measures, 0 to 100, of words, pairs of them, and the longest common subsequence.
  double rouge1 = 0, rouge2 = 0, rougeL = 0;
};

// Of each pair, and the mean over them. Tokens are runs of a-z and 0-9 of the lower-case text. Where most
// letters of the references are of scripts beyond Latin, of which rouge-score sees nothing, those count as
// well, and each Chinese or Japanese character is a token. ValueError for lists of different lengths, or
// empty ones.
std::vector<Rouge> rouge_of_pairs(const std::vector<std::string>& hypotheses,
                                  const std::vector<std::string>& references);
Rouge rouge(const std::vector<std::string>& hypotheses, const std::vector<std::string>& references);

}  // namespace tandem::metrics
