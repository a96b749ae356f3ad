#include "nn/data/tokenizers/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "nn/data/tokenizers/byte_pairs.h"
#include "nn/data/tokenizers/json_object.h"
#include "nn/data/tokenizers/unicode.h"
#include "nn/data/tokenizers/wordpiece.h"

namespace tandem::data {
namespace {

Json parsed(const TokenizerFiles& files, const std::string& name, const std::string& place) {
  const auto found = files.find(name);
  if (found == files.end()) return Json::object();
  try {
    return Json::parse(found->second);
  } catch (const Json::parse_error& error) {
    raise<IoError>("{}: {}: it is damaged: not JSON at byte {}", place, name, error.byte);
  }
}

AddedPiece added_piece(const JsonObject& from, int64_t id) {
  AddedPiece piece;
  piece.content = from.get<std::string>("content");
  piece.id = id;
  piece.special = from.get("special", false);
  piece.normalized = from.get("normalized", !piece.special);
  piece.lstrip = from.get("lstrip", false), piece.rstrip = from.get("rstrip", false);
  piece.single_word = from.get("single_word", false);
  return piece;
}

constexpr size_t kLongestPiece = 4096;  // bytes: a text is compared with it at every place

// Pieces by their ids, and back.
class Table {
 public:
  explicit Table(std::string place) : place_(std::move(place)) {}

  void add(const std::string& piece, int64_t id) {
    check<IoError>(!piece.empty() && piece.size() <= kLongestPiece,
                   "{}: a piece of {} bytes, of id {}: expected 1 to {}", place_, piece.size(), id,
                   kLongestPiece);
    by_piece_[piece] = id;
  }
  int64_t find(const std::string& piece) const {
    const auto found = by_piece_.find(piece);
    return found == by_piece_.end() ? -1 : found->second;
  }
  std::string name_of(int64_t id) const {
    for (const auto& [piece, known] : by_piece_)
      if (known == id) return piece;
    return "";
  }
  void add_from(const JsonObject& ids) {
    for (const auto& [piece, id] : ids.json().items()) {
      check<IoError>(id.is_number_integer(), "{}: the id of '{}': expected an integer, got {}", place_, piece,
                     short_text(id));
      add(piece, id.get<int64_t>());
    }
  }
  void add(const AddedPiece& piece) {
    const int64_t known = find(piece.content);
    check<IoError>(known < 0 || known == piece.id, "{}: '{}' has the ids {} and {}", place_, piece.content,
                   known, piece.id);
    if (known < 0) add(piece.content, piece.id);
    table_.added.push_back(piece);
  }

  // Of pieces, and what is looked for in the text; `special.all` is made from the others and those.
  PieceTable finish(SpecialIds special) {
    const auto most = 2 * std::ssize(by_piece_) + 1000;  // some leave ids out
    for (const auto& [piece, id] : by_piece_) {
      check<IoError>(id >= 0 && id < most, "{}: the id of '{}': expected 0 to {}, got {}", place_, piece,
                     most - 1, id);
      if (id >= std::ssize(table_.pieces)) table_.pieces.resize(id + 1);
      std::string& to = table_.pieces[id];
      check<IoError>(to.empty(), "{}: two pieces of id {}: '{}' and '{}'", place_, id, to, piece);
      to = piece;
    }
    check<IoError>(!table_.pieces.empty(), "{}: no pieces", place_);
    std::set<int64_t> all{special.pad, special.unk, special.bos, special.eos, special.mask};
    for (const AddedPiece& piece : table_.added)
      if (piece.special) all.insert(piece.id);
    all.erase(-1);
    special.all.assign(all.begin(), all.end());
    table_.special = std::move(special);
    return std::move(table_);
  }

 private:
  std::string place_;
  std::map<std::string, int64_t> by_piece_;
  PieceTable table_;
};

// What stands beside a vocabulary: which pieces are special.
struct Beside {
  const JsonObject &config, &map;

  // The piece of a role, "" where none is named.
  std::string named(const std::string& key) const {
    for (const JsonObject* from : {&config, &map}) {
      if ((*from)[key].is_object()) return from->object(key).get<std::string>("content");
      if (!(*from)[key].is_null()) return from->get<std::string>(key);
    }
    return "";
  }
};

// The piece of a role: as it is named beside, or the first of the usual names that is there.
int64_t role(const Table& table, const Beside& beside, const std::vector<std::string>& keys,
             const std::vector<std::string>& usual) {
  for (const std::string& key : keys)
    if (const int64_t id = table.find(beside.named(key)); id >= 0) return id;
  for (const std::string& name : usual)
    if (const int64_t id = table.find(name); id >= 0) return id;
  return -1;
}

SpecialIds roles(const Table& table, const Beside& beside) {
  SpecialIds ids;
  ids.pad = role(table, beside, {"pad_token"}, {"[PAD]", "<pad>"});
  ids.unk = role(table, beside, {"unk_token"}, {"[UNK]", "<unk>"});
  ids.bos = role(table, beside, {"cls_token", "bos_token"}, {"[CLS]", "<s>", "<|endoftext|>"});
  ids.eos = role(table, beside, {"sep_token", "eos_token"}, {"[SEP]", "</s>", "<|endoftext|>"});
  ids.mask = role(table, beside, {"mask_token"}, {"[MASK]", "<mask>"});
  return ids;
}

// "A", or the name of a special piece, and its segment.
std::pair<std::string, int64_t> template_part(const Json& json, const std::string& place) {
  const JsonObject part(json, place);
  const char* kind = part["Sequence"].is_null() ? "SpecialToken" : "Sequence";
  const JsonObject inner = part.object(kind);
  return {inner.get<std::string>("id"), inner.get("type_id", int64_t{0})};
}

// How texts are laid out, by a template such as [CLS] A [SEP] B [SEP].
void read_template(const JsonObject& from, const Table& table, SpecialIds& ids) {
  std::vector<std::pair<std::string, int64_t>> single, pair;
  for (const Json& part : from.array("single"))
    single.push_back(template_part(part, from.place_of("single")));
  for (const Json& part : from.array("pair")) pair.push_back(template_part(part, from.place_of("pair")));
  std::vector<std::string> names;
  for (const auto& [name, segment] : pair) names.push_back(name);
  const auto fits = [&] {
    if (single.size() == 1) return single[0].first == "A";  // no begin and no end
    if (single.size() != 3 || single[1].first != "A" || pair.size() < 5 || pair.size() > 6) return false;
    std::vector<std::string> expected{single[0].first, "A", single[2].first};
    if (pair.size() == 6) expected.push_back(single[2].first);
    expected.insert(expected.end(), {"B", single[2].first});
    return names == expected;
  };
  check<ConfigError>(fits(), "{}: expected a template like [CLS] A [SEP] B [SEP], got '{}'", from.place(),
                     join(names, " "));
  if (single.size() == 1) return;
  ids.bos = table.find(single[0].first), ids.eos = table.find(single[2].first);
  check<IoError>(ids.bos >= 0 && ids.eos >= 0, "{}: '{}' or '{}' is no piece", from.place(), single[0].first,
                 single[2].first);
  ids.between = pair.size() == 6 ? 2 : 1;
  ids.segments = pair[pair.size() - 2].second == 1;
}

// The first of a list of a piece and its id, which has to be a piece.
int64_t listed_piece(const JsonObject& from, const std::string& key, const Table& table) {
  const Json& list = from.array(key);
  check<IoError>(!list.empty() && list[0].is_string() && table.find(list[0].get<std::string>()) >= 0,
                 "{}: expected a piece", from.place_of(key));
  return table.find(list[0].get<std::string>());
}

// Of a file's "post_processor".
void read_rows(const JsonObject& file, const Table& table, SpecialIds& ids) {
  const std::string kind = file.kind(
      "post_processor", {"TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "none"});
  if (kind == "none" || kind == "ByteLevel") return;
  const JsonObject from = file.object("post_processor");
  if (kind == "TemplateProcessing") return read_template(from, table, ids);
  ids.bos = listed_piece(from, "cls", table), ids.eos = listed_piece(from, "sep", table);
  ids.segments = kind == "BertProcessing";
  ids.between = ids.segments ? 1 : 2;
}

void read_layout(const JsonObject& file, const Table& table, SpecialIds& ids) {
  read_rows(file, table, ids);
  ids.pairs_with_bos = ids.between == 2;  // BART's
  ids.start = ids.pairs_with_bos ? ids.eos : ids.bos;
}

// The id of what is unknown, which has to be a piece.
int64_t unknown_piece(const Table& table, const std::string& piece, const JsonObject& model) {
  check<IoError>(table.find(piece) >= 0, "{}: '{}' is no piece", model.place_of("unk_token"), piece);
  return table.find(piece);
}

std::shared_ptr<const Tokenizer> read_wordpiece(const JsonObject& file, const JsonObject& model, Table& table,
                                                SpecialIds ids) {
  file.kind("pre_tokenizer", {"BertPreTokenizer"});
  file.kind("normalizer", {"BertNormalizer"});
  const JsonObject text = file.object("normalizer");
  WordPieceOptions options;
  options.text.clean = text.get("clean_text", true);
  options.text.chinese_words = text.get("handle_chinese_chars", true);
  options.text.lower = text.get("lowercase", true);
  options.text.strip_accents = text.get("strip_accents", options.text.lower);
  options.prefix = model.get<std::string>("continuing_subword_prefix", "##");
  options.longest_word = model.get("max_input_chars_per_word", int64_t{100});
  if (file.kind("decoder", {"WordPiece", "none"}) != "none") {
    const JsonObject decoder = file.object("decoder");
    decoder.expect("prefix", options.prefix);
    options.cleanup = decoder.get("cleanup", true);
  }
  ids.unk = unknown_piece(table, model.get<std::string>("unk_token", "[UNK]"), model);
  return make_wordpiece(table.finish(std::move(ids)), options);
}

std::pair<std::string, std::string> merge_of(const Json& json, const std::string& place) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string())
    return {json[0].get<std::string>(), json[1].get<std::string>()};
  check<IoError>(json.is_string(), "{}: expected two pieces, got {}", place, short_text(json));
  const auto line = json.get<std::string>();
  const size_t blank = line.find(' ');
  check<IoError>(blank != std::string::npos && line.find(' ', blank + 1) == std::string::npos,
                 "{}: expected two pieces with a blank between, got '{}'", place, line.substr(0, 80));
  return {line.substr(0, blank), line.substr(blank + 1)};
}

std::shared_ptr<const Tokenizer> read_byte_pairs(const JsonObject& file, const JsonObject& model,
                                                 Table& table, SpecialIds ids) {
  file.kind("normalizer", {"none"});
  file.kind("pre_tokenizer", {"ByteLevel"});
  file.kind("decoder", {"ByteLevel", "none"});
  const JsonObject words = file.object("pre_tokenizer");
  words.expect("use_regex", true);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    model.expect<std::string>(key, "");
  model.expect("byte_fallback", false), model.expect("ignore_merges", false);
  check<ConfigError>(model["dropout"].is_null(), "{}: expected null, got {}", model.place_of("dropout"),
                     short_text(model["dropout"]));
  BytePairOptions options;
  options.add_prefix_space = words.get("add_prefix_space", true);
  options.fuse_unknown = model.get("fuse_unk", false);
  if (!model["unk_token"].is_null())
    options.unknown = ids.unk = unknown_piece(table, model.get<std::string>("unk_token"), model);
  for (const Json& merge : model.array("merges"))
    options.merges.push_back(merge_of(merge, model.place_of("merges")));
  return make_byte_pairs(table.finish(std::move(ids)), options, model.place());
}

// Special pieces of a vocabulary that lists no added ones: those listed beside, or of the roles.
void add_special(Table& table, const Beside& beside, const SpecialIds& ids) {
  constexpr const char* kListed = "added_tokens_decoder";
  if (!beside.config[kListed].is_null()) {
    const JsonObject listed = beside.config.object(kListed);
    for (const auto& [number, piece] : listed.json().items()) {
      const JsonObject from(piece, listed.place_of(number));
      const auto content = from.get<std::string>("content");
      check<IoError>(std::to_string(table.find(content)) == number,
                     "{}: expected a piece of the vocabulary with its id, which is {} for '{}'", from.place(),
                     table.find(content), content);
      table.add(added_piece(from, table.find(content)));
    }
    return;
  }
  for (const int64_t id : std::set<int64_t>{ids.pad, ids.unk, ids.bos, ids.eos, ids.mask}) {
    if (id < 0) continue;
    AddedPiece piece;
    piece.content = table.name_of(id), piece.id = id;
    piece.lstrip = piece.content == "<mask>";  // RoBERTa's and BART's
    table.add(piece);
  }
}

std::vector<std::string> lines_of_file(const std::string& bytes) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    lines.push_back(bytes.substr(at, end - at));
    if (lines.back().ends_with('\r')) lines.back().pop_back();
    at = end + 1;
  }
  return lines;
}

// What tokenizer.json would say of a vocab.txt.
Json json_of_wordpiece(const std::string& vocab, const Beside& beside) {
  Json pieces = Json::object();
  int64_t id = 0;
  for (std::string& line : lines_of_file(vocab)) {
    while (!line.empty()) {  // blanks at the end are none of the piece
      size_t last = line.size() - 1;
      while (last > 0 && (line[last] & 0xC0) == 0x80) --last;
      size_t at = last;
      if (!unicode::is_space(unicode::next(line, at))) break;
      line.resize(last);
    }
    if (!line.empty()) pieces[line] = id;
    ++id;
  }
  const auto named = [&](const char* key, const char* usual) {
    const std::string name = beside.named(key);
    return name.empty() ? usual : name;
  };
  const bool lower = beside.config.get("do_lower_case", true);
  Json json{{"normalizer",
             {{"type", "BertNormalizer"},
              {"lowercase", lower},
              {"strip_accents", beside.config.get("strip_accents", lower)},
              {"handle_chinese_chars", beside.config.get("tokenize_chinese_chars", true)}}},
            {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
            {"post_processor",
             {{"type", "BertProcessing"},
              {"cls", Json::array({named("cls_token", "[CLS]")})},
              {"sep", Json::array({named("sep_token", "[SEP]")})}}}};
  json["model"] = {{"type", "WordPiece"}, {"unk_token", named("unk_token", "[UNK]")}};
  json["model"]["vocab"] = std::move(pieces);
  return json;
}

// What it would say of a vocab.json and its merges.txt: RoBERTa's and BART's if it has <s> and </s>, or
// GPT-2's.
Json json_of_byte_pairs(Json vocab, const std::string& merges, const Beside& beside) {
  Json json;
  json["pre_tokenizer"] = {{"type", "ByteLevel"},
                           {"add_prefix_space", beside.config.get("add_prefix_space", false)}};
  if (vocab.is_object() && vocab.contains("<s>") && vocab.contains("</s>"))
    json["post_processor"] = {
        {"type", "RobertaProcessing"}, {"cls", Json::array({"<s>"})}, {"sep", Json::array({"</s>"})}};
  json["model"] = {{"type", "BPE"}, {"merges", Json::array()}};
  for (const std::string& line : lines_of_file(merges))
    if (!line.starts_with("#version")) json["model"]["merges"].push_back(line);
  json["model"]["vocab"] = std::move(vocab);
  return json;
}

// tokenizer.json, or what it would say; `source` becomes the name of the file.
Json json_of(const TokenizerFiles& files, const Beside& beside, const std::string& place,
             std::string& source) {
  for (const char* name : {"tokenizer.json", "vocab.txt", "vocab.json"}) {
    if (!files.contains(name)) continue;
    source = name;
    if (source == "tokenizer.json") return parsed(files, name, place);
    if (source == "vocab.txt") return json_of_wordpiece(files.at(name), beside);
    if (files.contains("merges.txt"))
      return json_of_byte_pairs(parsed(files, name, place), files.at("merges.txt"), beside);
  }
  raise<IoError>("{}: expected tokenizer.json, or vocab.txt, or vocab.json and merges.txt", place);
}

}  // namespace

std::shared_ptr<const Tokenizer> read_tokenizer(const TokenizerFiles& files, const std::string& place) {
  for (const auto& [name, bytes] : files)
    check<IoError>(unicode::is_valid(bytes), "{}: {}: it is not UTF-8", place, name);
  const auto place_of = [&](const std::string& name) { return fmt::format("{}: {}", place, name); };
  const std::string config_name = "tokenizer_config.json", map_name = "special_tokens_map.json";
  const Json config = parsed(files, config_name, place), map = parsed(files, map_name, place);
  const JsonObject config_object(config, place_of(config_name)), map_object(map, place_of(map_name));
  const Beside beside{config_object, map_object};
  std::string source;
  const Json json = json_of(files, beside, place, source);
  const JsonObject file(json, place_of(source)), model = file.object("model");
  const auto kind = model.get<std::string>("type", model["merges"].is_null() ? "WordPiece" : "BPE");
  check<ConfigError>(kind == "WordPiece" || kind == "BPE",
                     "{}: a kind that is not read: expected WordPiece or BPE, got '{}'", model.place(), kind);
  Table table(model.place());
  table.add_from(model.object("vocab"));
  if (!file["added_tokens"].is_null()) {
    for (const Json& added : file.array("added_tokens")) {
      const JsonObject piece(added, file.place_of("added_tokens"));
      table.add(added_piece(piece, piece.get<int64_t>("id")));
    }
  }
  SpecialIds ids = roles(table, beside);
  read_layout(file, table, ids);
  if (file["added_tokens"].is_null()) add_special(table, beside, ids);
  return kind == "BPE" ? read_byte_pairs(file, model, table, ids) : read_wordpiece(file, model, table, ids);
}

}  // namespace tandem::data
