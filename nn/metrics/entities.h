// Scores of tagged words by the spans that their tags mark, as conlleval and seqeval's default mode have them
// (Tjong Kim Sang, De Meulder 2003, CoNLL): a span is right where its type, its begin and its end are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::metrics {

// The words [begin, end) of a sentence, of a type: "PER".
struct Entity {
  std::string type;
  int64_t begin = 0, end = 0;
  // By its members, in their order.
  auto operator<=>(const Entity&) const = default;
};

using Tags = std::vector<std::string>;  // of a sentence's words: "B-PER", "I-PER", "O"

// The spans that the tags mark: B, I, O, and E for the last and S for the only word of a span, with a type
// behind a hyphen ("_" where there is none). Tags out of order still mark spans: an I after O begins one, as
// does a tag of another type. ValueError for an empty tag.
std::vector<Entity> entities(const Tags& tags);

// Of all sentences together; 0 where nothing was found, or nothing is there.
struct EntityScores {
  double precision = 0, recall = 0, f1 = 0;  // 0 to 1, over the spans of all types
  double macro_f1 = 0;                       // the mean of the types' F1, of those that occur in either
  int64_t found = 0, expected = 0;           // spans of the predictions, and of the targets
};
// ValueError unless both have the same sentences, at least one, of the same lengths.
EntityScores entity_scores(const std::vector<Tags>& predicted, const std::vector<Tags>& target);

}  // namespace tandem::metrics
