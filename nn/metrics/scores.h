// Scores of predictions: of classes, of numbers, of a language model.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::metrics {

// Each takes as many predictions as targets, at least one (ValueError).
using Classes = std::vector<int64_t>;
using Numbers = std::vector<double>;

double accuracy(const Classes& predicted, const Classes& target);  // 0 to 1
// The mean of the classes' F1, over the classes that occur in either; 0 for one without a true positive.
double macro_f1(const Classes& predicted, const Classes& target);
// Matthews' correlation for any number of classes (Gorodkin 2004); 0 where either side is of one class.
double matthews_correlation(const Classes& predicted, const Classes& target);

// ValueError where a side is constant or not finite, or for fewer than two.
double pearson(const Numbers& a, const Numbers& b);
double spearman(const Numbers& a, const Numbers& b);  // Pearson's of the ranks; equal values share their mean

double perplexity(double nats_per_token);  // e^x
// Of a text that has so many tokens and characters.
double bits_per_character(double nats_per_token, int64_t tokens, int64_t characters);

}  // namespace tandem::metrics
