#include "tools/tandem/tagger.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "ops/extrema.h"

namespace tandem::command {

std::vector<metrics::Tags> tags_of(models::TextEncoder& model, const data::TaggedDataset& dataset,
                                   const data::TaggedTexts& texts, const std::vector<std::string>& names) {
  const NoGradGuard no_grad;
  const bool has_none = std::find(names.begin(), names.end(), "O") != names.end();
  const std::string& none = has_none ? *std::find(names.begin(), names.end(), "O") : names.front();
  std::vector<metrics::Tags> tags(dataset.size());
  for (const data::Indices& indices : dataset.ordered_batches(64)) {
    const data::Batch batch = dataset.batch(indices, {}).to(model.device());
    const Tensor best = argmax(model.head(model.hidden(batch.inputs[0], batch.inputs[1])), -1);
    const auto found = best.to_vector<int64_t>();
    for (size_t i = 0; i < indices.size(); ++i) {
      const int64_t sentence = indices[i], row = static_cast<int64_t>(i) * best.size(1);
      metrics::Tags& of_words = tags[sentence];
      for (const int64_t place : dataset.places(sentence)) of_words.push_back(names[found[row + place]]);
      of_words.resize(texts.words[sentence].size(), none);
    }
  }
  return tags;
}

bool mark_spans(const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name == "O" ||
           (!name.empty() && std::string_view("BIES").find(name[0]) != std::string_view::npos &&
            (name.size() == 1 || (name.size() > 2 && name[1] == '-')));
  });
}

}  // namespace tandem::command
