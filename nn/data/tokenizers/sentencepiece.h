// SentencePiece: its models with our special ids, that take text as it is, and its trainer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/data/tokenizers/tokenizer.h"
#include "nn/data/vocabulary.h"

namespace tandem::data {

// IoError naming the file for what is no such model.
std::shared_ptr<const Tokenizer> read_sentencepiece(const std::string& model, const std::string& name);

// The bytes of a model: Vocabulary::train() says of what, and the errors.
std::string train_sentencepiece(const std::vector<std::string>& lines, const VocabularyOptions& options);

}  // namespace tandem::data
