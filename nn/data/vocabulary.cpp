#include "nn/data/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "nn/data/tokenizers/sentencepiece.h"
#include "nn/data/tokenizers/tokenizer_files.h"
#include "nn/io/files.h"
#include "nn/io/text.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kMaxModelBytes = int64_t{1} << 28;
constexpr const char* kModel = "spiece.model";       // SentencePiece's name in a published folder
constexpr const char* kFiles = "tandem vocabulary";  // the key of what save() writes of several files

void add_beside(TokenizerFiles& files, const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const fs::path file = folder / name;
    if (fs::is_regular_file(file)) files[name] = read_file("vocabulary", file.string(), kMaxTokenizerBytes);
  }
}

// A file, and those beside it that belong to it.
TokenizerFiles files_of(const fs::path& file) {
  const std::string name = file.filename().string();
  std::string bytes = read_file("vocabulary", file.string(), kMaxModelBytes);
  TokenizerFiles files;
  if (bytes.starts_with('{')) {
    const Json json = Json::parse(bytes, nullptr, false);
    check<IoError>(!json.is_discarded(), "{}: it is damaged: not JSON", file.string());
    if (json.contains(kFiles)) {
      const Json& kept = json[kFiles];
      check<IoError>(kept.is_object(), "{}: expected files, got {}", file.string(), kept.type_name());
      for (const auto& [one, text] : kept.items()) {
        const auto known = std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), one);
        check<IoError>(known != std::end(kTokenizerFiles), "{}: expected {}, got '{}'", file.string(),
                       join({std::begin(kTokenizerFiles), std::end(kTokenizerFiles)}, ", "), one);
        check<IoError>(text.is_string(), "{}: {}: expected a text, got {}", file.string(), one,
                       text.type_name());
        files[one] = text.get<std::string>();
      }
      return files;
    }
    files[json.contains("model") ? "tokenizer.json" : "vocab.json"] = std::move(bytes);
  } else if (name.ends_with(".txt")) {
    files[name == "merges.txt" ? name : "vocab.txt"] = std::move(bytes);
  } else {
    return {{kModel, std::move(bytes)}};
  }
  std::vector<std::string> beside{"tokenizer_config.json", "special_tokens_map.json"};
  if (files.contains("vocab.json")) beside.push_back("merges.txt");
  if (files.contains("merges.txt")) beside.push_back("vocab.json");
  add_beside(files, file.parent_path(), beside);
  return files;
}

TokenizerFiles files_of_folder(const fs::path& folder) {
  TokenizerFiles files;
  add_beside(files, folder, {std::begin(kTokenizerFiles), std::end(kTokenizerFiles)});
  if (files.contains("tokenizer.json") || files.contains("vocab.txt") || files.contains("vocab.json"))
    return files;
  std::vector<fs::path> models;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".model") models.push_back(entry.path());
  check<IoError>(models.size() == 1,
                 "{}: expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or one *.model, got {} "
                 "of these",
                 folder.string(), models.size());
  return files_of(models[0]);
}

}  // namespace

Vocabulary::Vocabulary(std::map<std::string, std::string> files, const std::string& name)
    : files_(std::move(files)) {
  const auto model = files_.find(kModel);
  tokenizer_ = model == files_.end() ? read_tokenizer(files_, name) : read_sentencepiece(model->second, name);
}

Vocabulary Vocabulary::train(const std::vector<std::string>& lines, const VocabularyOptions& options) {
  return {{{kModel, train_sentencepiece(lines, options)}}, "vocabulary"};
}

Vocabulary Vocabulary::load(const std::string& path) {
  return {fs::is_directory(path) ? files_of_folder(path) : files_of(path), path};
}

std::string Vocabulary::bytes() const {
  const auto model = files_.find(kModel);
  return model == files_.end() ? Json{{kFiles, files_}}.dump() : model->second;
}

void Vocabulary::save(const std::string& file) const { write_file(file, bytes()); }

const SpecialIds& Vocabulary::special() const { return tokenizer_->special; }

Ids Vocabulary::encode(std::string_view text) const { return tokenizer_->encode(text); }

std::string Vocabulary::decode(std::span<const int64_t> ids) const {
  for (int64_t id : ids)
    check<ValueError>(id >= 0 && id < size(), "vocabulary: decode: expected ids below {}, got {}", size(),
                      id);
  return tokenizer_->decode(ids);
}

std::string Vocabulary::piece(int64_t id) const {
  check<ValueError>(id >= 0 && id < size(), "vocabulary: piece: expected an id below {}, got {}", size(), id);
  return tokenizer_->piece(id);
}

int64_t Vocabulary::size() const { return tokenizer_->size(); }

std::string Vocabulary::fingerprint() const { return fmt::format("{:016x}", site_hash(bytes())); }

}  // namespace tandem::data
