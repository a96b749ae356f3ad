// Vocabularies as other libraries lay them out: tokenizer.json, or vocab.txt (WordPiece), or vocab.json and
// merges.txt (byte pairs), and beside them what their special pieces are.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "nn/data/tokenizers/tokenizer.h"

namespace tandem::data {

using TokenizerFiles = std::map<std::string, std::string>;  // contents by name

// The names that are known; tokenizer.json counts before vocab.txt, that before vocab.json.
inline constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json",         "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json",
    "special_tokens_map.json"};
inline constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 25;  // of each

// `place` opens messages. IoError for files that are damaged, ConfigError for kinds of tokenizers that are
// not read: both say what was found and what is expected.
std::shared_ptr<const Tokenizer> read_tokenizer(const TokenizerFiles& files, const std::string& place);

}  // namespace tandem::data
