// BLEU (Papineni et al. 2002) as sacreBLEU defines it (Post 2018, "A call for clarity in reporting BLEU
// scores"): 13a tokens, mixed case, exponential smoothing, of a whole corpus.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace tandem::metrics {

using Texts = std::vector<std::string>;  // one for each sentence

// BLEU, and what it was computed from.
struct Bleu {
  double score = 0;                                     // 0 to 100
  std::array<double, 4> precisions = {};                // of 1- to 4-grams, in percent
  double brevity_penalty = 0;                           // 1 where hypotheses are as long as the references
  int64_t hypothesis_length = 0, reference_length = 0;  // in tokens
  std::string signature() const;                        // what makes scores comparable, in sacreBLEU's form
  int64_t references = 1;                               // for each hypothesis
};

// What BLEU is made of, of one pair or the sum over several: the score of any part of a corpus follows.
struct BleuCounts {
  std::array<int64_t, 4> correct = {}, total = {};      // n-grams
  int64_t hypothesis_length = 0, reference_length = 0;  // in tokens
  BleuCounts& operator+=(const BleuCounts& other);      // of both together
};
// Of each hypothesis with its references, and the score that a sum of them has.
std::vector<BleuCounts> bleu_counts(const Texts& hypotheses, const std::vector<Texts>& references);
Bleu bleu_of(const BleuCounts& sum);

// One or several lists of references, each as long as `hypotheses`; ValueError otherwise, and for empty ones.
Bleu corpus_bleu(const Texts& hypotheses, const std::vector<Texts>& references);
Bleu corpus_bleu(const Texts& hypotheses, const Texts& reference);

// mteval-v13a's tokens, with the entities &quot; &amp; &lt; &gt; as the characters they stand for.
std::vector<std::string> tokenize_13a(const std::string& text);

}  // namespace tandem::metrics
