// Decoding, token by token: greedy and beam search for an encoder-decoder, sampling for a language model.
// Both keep the keys and values of earlier positions and work on many texts at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/transformer/language_model.h"
#include "models/transformer/transformer.h"

namespace tandem::models {

// A text as numbers of a vocabulary.
using Ids = std::vector<int64_t>;

// How beam_search() decodes.
struct BeamOptions {
  int64_t beam = 4;  // hypotheses kept for each text; 1: greedy
  // A finished text of n tokens, its end included, has the score log P / ((5 + n) / 6)^length_penalty (Wu et
  // al. 2016, arXiv 1609.08144, Eq. 14): larger values favour longer texts.
  double length_penalty = 0.6;
  int64_t max_length = 0;    // tokens with the end, which is then forced; 0: twice the source's, plus 10
  int64_t bos = 2, eos = 3;  // as in data::SpecialIds
};

// A decoded text.
struct Hypothesis {
  Ids ids;           // without bos and eos
  double score = 0;  // nats, divided by the length penalty
};

// The best text of each source (ids without eos), as if it were decoded alone. A text is finished when no
// live hypothesis can still beat its best score. Ties go to the earlier row, then to the smaller id. Put the
// model in eval mode first. ConfigError for options out of range, ValueError for an empty source, ShapeError
// for one that is longer than the model's positions.
std::vector<Hypothesis> beam_search(Transformer& model, const std::vector<Ids>& sources,
                                    const BeamOptions& options = {});

// How sample() draws tokens.
struct SampleOptions {
  int64_t length = 100;    // tokens to add
  double temperature = 1;  // divides the logits; 0: always the likeliest
  int64_t top_k = 0;       // only the k likeliest; 0: all
  double top_p = 1;   // only the fewest likeliest that have this probability together (Holtzman et al. 2020)
  uint64_t seed = 0;  // of the draws
  int64_t eos = 3;    // as in data::SpecialIds
  bool stop_at_eos = false;  // whether a text may end before `length`
};

// `count` continuations of the prompt: pure functions of the seed, the number of the text and the position. A
// prompt that fits into the model's positions is read as a whole. A text that outgrows them, as a longer
// prompt does at once, goes on from as many of its last tokens as are half of them. ValueError for an empty
// prompt, ConfigError for options out of range.
std::vector<Ids> sample(LanguageModel& model, const Ids& prompt, int64_t count, const SampleOptions& options);

// The token at `u` in [0, 1) of the cumulative distribution that temperature, top_k and top_p make of logits.
int64_t choose(std::span<const float> logits, double u, const SampleOptions& options);

}  // namespace tandem::models
