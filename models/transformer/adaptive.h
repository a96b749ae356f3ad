// Adaptive input and softmax: a vocabulary sorted by frequency, in clusters, those of rarer words with
// shorter vectors (Baevski and Auli 2019, arXiv 1809.10853; Grave et al. 2017, arXiv 1609.04309).
#pragma once

#include <string>
#include <vector>

#include "nn/layers.h"

namespace tandem::models {

// Ids below cutoffs[0] are the head, whose vectors have `dim` numbers; those from cutoffs[i] to the next one
// (or the end) are tail i, of dim / factor^(i + 1) numbers, which a matrix projects to dim. Without cutoffs
// it is a plain embedding. Unlike in the paper, the head has no matrix. Vectors start with the standard
// deviation 1 / sqrt(their numbers), which suits an output layer too; the row of pad_id, in the head, is 0
// and stays so (-1: there is none).
struct AdaptiveEmbedding : nn::Layer<AdaptiveEmbedding> {
  // A cluster of rarer words.
  struct Tail : nn::Layer<Tail> {
    Tail(Module& parent, std::string name, int64_t words, int64_t dim, int64_t numbers);
    nn::Parameter weight;   // [words, numbers]
    nn::Parameter project;  // [dim, numbers]
  };

  // ConfigError unless cutoffs ascend between pad_id and vocab, and every tail has at least one number.
  AdaptiveEmbedding(Module& parent, std::string name, int64_t vocab, int64_t dim, int64_t pad_id,
                    std::vector<int64_t> cutoffs = {}, int64_t factor = 4);
  Tensor forward(const Tensor& ids);  // i64 of any shape to [..., dim]

  const int64_t pad_id;
  const std::vector<int64_t> cutoffs;
  nn::Parameter weight;        // of the head
  nn::ModuleList<Tail> tails;  // one for each of cutoffs
};

// log P of every word: [..., dim] to [..., vocab]. The head's softmax is over its words and one class for
// each tail, whose own softmax divides that class's probability among its words:
//   log P(w) = head(w),   log P(w in tail i) = head(class of tail i) + log softmax(tail i)(w)
// The words' vectors and the tails' matrices are the embedding's; only the classes are its own. The results
// are exact log-probabilities, and as such logits for rdrop_cross_entropy.
struct AdaptiveSoftmax : nn::Layer<AdaptiveSoftmax> {
  AdaptiveSoftmax(Module& parent, std::string name, AdaptiveEmbedding& embedding);  // with tails
  Tensor forward(const Tensor& hidden);

  nn::Parameter classes;  // [tails, dim]

 private:
  AdaptiveEmbedding& embedding_;
};

}  // namespace tandem::models
