// Published vocabularies: ids and texts of another library (golden/make_words.py), and files that are none.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "nn/data/masked_texts.h"
#include "nn/data/text_datasets.h"
#include "nn/data/tokenizers/byte_pairs.h"
#include "nn/data/vocabulary.h"
#include "nn/io/text.h"
#include "tests/files.h"
#include "tests/golden.h"

namespace tandem::data {
using namespace testing;
namespace {

const Json& words() {
  static const Json json = golden("words.json");
  return json;
}

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t below(uint64_t n) {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (z ^ z >> 31) % n;
  }

 private:
  uint64_t state_;
};

void append(std::string& text, uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  text += static_cast<char>((0xF0 << (3 - more)) | c >> 6 * more);
  for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (c >> 6 * i & 0x3F));
}

using CodePoints = std::vector<uint32_t>;
std::map<std::string, CodePoints> scripts() {
  std::map<std::string, CodePoints> all;
  for (const auto& [name, ranges] : words()["scripts"].items())
    for (const Json& range : ranges)
      for (uint32_t c = range[0]; c <= range[1]; ++c) all[name].push_back(c);
  return all;
}

// As in make_words.py, to the last draw.
class Lines {
 public:
  Lines() {
    for (auto& [name, code_points] : scripts()) scripts_.push_back(code_points);
    for (const auto& [name, list] : words()["text"].items())
      if (list.is_array()) lists_[name] = list.get<std::vector<std::string>>();
    marks_ = words()["text"]["marks"];
  }
  std::string line(uint64_t i) const {
    Random random(i);
    const CodePoints& script = scripts_[i % scripts_.size()];
    std::string text;
    for (uint64_t count = 1 + random.below(12); count > 0; --count) {
      text += token(random, script);
      text += std::vector<std::string>{"", " ", " ", "\u0301"}[random.below(4)];
    }
    return text;
  }

 private:
  static std::string letters(Random& random, const CodePoints& script, uint64_t count) {
    std::string text;
    for (; count > 0; --count) append(text, script[random.below(script.size())]);
    return text;
  }
  const std::string& one_of(const char* list, Random& random) const {
    const std::vector<std::string>& all = lists_.at(list);
    return all[random.below(all.size())];
  }
  std::string token(Random& random, const CodePoints& script) const {
    const uint64_t kind = random.below(16);
    if (kind < 6) return letters(random, script, 1 + random.below(6));
    if (kind == 6) {
      const CodePoints& other = scripts_[random.below(scripts_.size())];
      return letters(random, other, 1 + random.below(3));
    }
    std::string text;
    if (kind == 7) {
      if (random.below(8) == 0) return letters(random, script, 90 + random.below(40));
      for (uint64_t count = random.below(60); count > 0; --count) text += "ab";
      return text;
    }
    if (kind == 8) return one_of("emoji", random);
    if (kind == 9) return one_of("controls", random);
    if (kind == 10) return one_of("blanks", random);
    if (kind == 11) {
      uint64_t most = 10;
      for (uint64_t digits = random.below(9); digits > 0; --digits) most *= 10;
      return std::to_string(random.below(most));
    }
    if (kind == 12) {
      for (uint64_t count = 1 + random.below(4); count > 0; --count)
        text += marks_[random.below(marks_.size())];
      return text;
    }
    return one_of(kind == 13 ? "pieces" : "words", random);
  }

  std::vector<CodePoints> scripts_;
  std::map<std::string, std::vector<std::string>> lists_;
  std::string marks_;
};

uint64_t fnv(std::string_view text) {
  uint64_t state = 0xCBF29CE484222325;
  for (char c : text) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return state;
}
std::string short_hash(const std::vector<std::string>& texts) {
  return fmt::format("{:08x}", fnv(join(texts, "\n")) & 0xFFFFFFFF);
}
std::string numbers(const Ids& ids) {
  std::string text;
  for (int64_t id : ids) text += fmt::format("{} ", id);
  return text;
}

// The pieces and merges of a vocabulary: RoBERTa's are GPT-2's with others around.
std::vector<std::string> pieces_of(const std::string& name) {
  std::vector<std::string> pieces = words()["vocabularies"][name]["pieces"];
  if (name != "roberta") return pieces;
  std::vector<std::string> inner = pieces_of("gpt2");
  inner.pop_back();
  pieces.insert(pieces.end() - 1, inner.begin(), inner.end());
  return pieces;
}
Json ids_by_piece(const std::vector<std::string>& pieces) {
  Json ids = Json::object();
  for (size_t i = 0; i < pieces.size(); ++i) ids[pieces[i]] = i;
  return ids;
}

// The files of a tokenizer of words.json.
std::map<std::string, std::string> files_of(const Json& tokenizer) {
  const std::string vocabulary = tokenizer["vocabulary"];
  const bool wordpiece = vocabulary == "wordpiece";
  const std::vector<std::string> pieces = pieces_of(vocabulary);
  const Json& merges = words()["vocabularies"]["gpt2"]["merges"];
  if (tokenizer.contains("tokenizer")) {
    Json json = tokenizer["tokenizer"];
    json["model"]["vocab"] = ids_by_piece(pieces);
    if (!wordpiece) json["model"]["merges"] = merges;
    return {{"tokenizer.json", json.dump()}};
  }
  const std::string config = tokenizer["config"].dump();
  if (wordpiece) return {{"vocab.txt", join(pieces, "\n") + "\n"}, {"tokenizer_config.json", config}};
  return {{"vocab.json", ids_by_piece(pieces).dump()},
          {"merges.txt", "#version: 0.2\n" + join(merges.get<std::vector<std::string>>(), "\n") + "\n"},
          {"tokenizer_config.json", config}};
}
const Json& tokenizer(const std::string& name) {
  for (const Json& one : words()["tokenizers"])
    if (one["name"] == name) return one;
  raise<ValueError>("no tokenizer {}", name);
}
std::string write(const Scratch& scratch, const std::map<std::string, std::string>& files,
                  const std::string& name = "v") {
  std::filesystem::remove_all(scratch.file(name));
  const std::string folder = scratch.folder(name);
  for (const auto& [file, bytes] : files) put(folder + "/" + file, bytes);
  return folder;
}
Vocabulary loaded(const std::string& name) {
  const Scratch scratch;
  return Vocabulary::load(write(scratch, files_of(tokenizer(name))));
}

}  // namespace

TEST_CASE("published vocabularies: ids and texts of 10,000 lines of every script are the library's") {
  const Lines maker;
  std::vector<std::string> lines;
  for (uint64_t i = 0; i < 10'000; ++i) lines.push_back(maker.line(i));
  REQUIRE(fmt::format("{:016x}", fnv(join(lines, "\n"))) == words()["lines"]);
  for (const Json& one : words()["tokenizers"]) {
    const std::string name = one["name"], ids_golden = one["ids"], texts_golden = one["texts"];
    const Vocabulary vocabulary = loaded(name);
    std::vector<std::string> ids, texts;
    for (const std::string& line : lines) {
      const Ids found = vocabulary.encode(line);
      ids.push_back(numbers(found)), texts.push_back(vocabulary.decode(found));
    }
    for (const auto& shown : one["shown"].items()) {
      const size_t i = std::stoul(shown.key());
      CHECK_MESSAGE(ids[i] == numbers(shown.value().get<Ids>()), name, ": ", lines[i]);
    }
    const auto check_all = [&](const std::vector<std::string>& all, const std::string& golden, size_t group) {
      for (size_t i = 0; i * 8 < golden.size(); ++i)
        CHECK_MESSAGE(
            short_hash({all.begin() + i * group, all.begin() + (i + 1) * group}) == golden.substr(8 * i, 8),
            name, ": lines ", i * group, " on");
    };
    check_all(ids, ids_golden, 10);
    check_all(texts, texts_golden, 100);
    // A pair as an encoder sees it.
    int64_t first = 0;
    const Ids a = vocabulary.encode("a b"), b = vocabulary.encode("c");
    if (vocabulary.special().pad < 0) continue;
    const Ids pair = vocabulary.special().row(a, b, first), segments = one["pair"][1];
    CHECK(pair == one["pair"][0].get<Ids>());
    CHECK(first == std::count(segments.begin(), segments.end(), 0));
  }
}

TEST_CASE("published vocabularies: every code point of every script is what it is to the library") {
  const auto all = scripts();
  CHECK(all.size() > 160);
  for (const auto& one : words()["every"].items()) {
    const Vocabulary vocabulary = loaded(one.key());
    for (const auto& script : all) {
      std::vector<std::string> ids;
      for (uint32_t c : script.second) {
        std::string x;
        append(x, c);
        ids.push_back(numbers(vocabulary.encode(fmt::format("a{0}b1{0}!{0} {0}c", x))));
      }
      CHECK_MESSAGE(short_hash(ids) == one.value()[script.first], one.key(), ": ", script.first);
    }
  }
}

TEST_CASE("published vocabularies: special ids, and rows for an encoder") {
  const Vocabulary bert = loaded("bert"), gpt2 = loaded("gpt2"), bart = loaded("bart");
  CHECK(bert.special().all == Ids{0, 1, 2, 3, 4});
  CHECK(bert.special().mask == 4);
  CHECK(bert.encode("x[MASK]") == Ids{bert.encode("x")[0], 4});
  const SpecialIds& none = gpt2.special();
  CHECK((none.pad == -1 && none.mask == -1 && none.eos == gpt2.size() - 1 && none.all == Ids{none.eos}));
  const SpecialIds& s = bart.special();
  CHECK((s.bos == 0 && s.pad == 1 && s.eos == 2 && s.unk == 3 && s.mask == bart.size() - 1));
  CHECK(bart.encode("a <mask>") == Ids{bart.encode("a")[0], s.mask});  // with the blank before it

  const TextDataset pairs({{10, 11}, {12}}, {{20}, {21, 22}}, std::vector<int64_t>{1, 0}, 32,
                          PairLayout::joined, s);
  const Batch batch = pairs.batch(Indices{0, 1}, {});
  CHECK(batch.inputs[0].to_vector<int64_t>() ==
        std::vector<int64_t>{0, 10, 11, 2, 2, 20, 2, 0, 12, 2, 2, 21, 22, 2});
  CHECK(batch.inputs[1].to_vector<int64_t>() == std::vector<int64_t>(14, 0));
  const TextDataset single({{10, 11}, {12}}, {}, std::vector<int64_t>{1, 0}, 32, PairLayout::joined, s);
  CHECK(single.batch(Indices{0, 1}, {}).inputs[0].to_vector<int64_t>() ==
        std::vector<int64_t>{0, 10, 11, 2, 0, 12, 2, 1});
  const PairDataset texts({{10, 11}, {12}}, {{20}, {21}}, 32, TooLong::cut, s);
  const Batch both = texts.batch(Indices{0, 1}, {});
  CHECK(both.inputs[0].to_vector<int64_t>() == std::vector<int64_t>{0, 10, 11, 2, 0, 12, 2, 1});
  CHECK(both.inputs[1].to_vector<int64_t>() == std::vector<int64_t>{2, 0, 20, 2, 0, 21});
  CHECK(both.target.to_vector<int64_t>() == std::vector<int64_t>{0, 20, 2, 0, 21, 2});
  const LanguageModelDataset blocks({10, 11, 12, 13}, 2, 1, none.pad);
  CHECK(blocks.batch(Indices{1}, {}).target.to_vector<int64_t>() == std::vector<int64_t>{-1, 13});

  const TextDataset many(std::vector<Ids>(200, Ids{10, 11, 0, 12, s.mask}), {}, std::vector<int64_t>(200), 32,
                         PairLayout::joined, s);
  const MaskedTexts masked(many, bart.size(), 0.5);
  Indices all(200);
  std::iota(all.begin(), all.end(), 0);
  const Batch hidden = masked.batch(all, {.training = true});
  const auto before = many.batch(all, {}).inputs[0].to_vector<int64_t>(),
             after = hidden.inputs[0].to_vector<int64_t>(), target = hidden.target.to_vector<int64_t>();
  int64_t count = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    if (s.contains(before[i])) CHECK((after[i] == before[i] && target[i] == s.pad));
    if (target[i] == s.pad) continue;
    ++count;
    CHECK((target[i] == before[i] && (after[i] == s.mask || !s.contains(after[i]))));
  }
  CHECK(count > 200);

  check_throws<ConfigError>("padding", [&] { TextDataset({{5}}, {}, std::vector<int64_t>{0}, 9, {}, none); });
  check_throws<ConfigError>("padding", [&] { PairDataset({{5}}, {{5}}, 9, TooLong::cut, none); });
  SpecialIds no_mask = s;
  no_mask.mask = -1;
  const TextDataset unmasked({{5}}, {}, std::vector<int64_t>{0}, 9, PairLayout::joined, no_mask);
  check_throws<ConfigError>("mask", [&] { MaskedTexts(unmasked, 20); });
}

TEST_CASE("published vocabularies: one file keeps them, with the bytes of all") {
  const Scratch scratch;
  std::set<std::string> fingerprints;
  for (const Json& one : words()["tokenizers"]) {
    const auto files = files_of(one);
    const Vocabulary first = Vocabulary::load(write(scratch, files));
    const std::string file = scratch.file("vocab.model");
    first.save(file);
    const Vocabulary again = Vocabulary::load(file);
    CHECK(again.files() == files);
    CHECK(again.fingerprint() == first.fingerprint());
    CHECK(again.encode("The naïve [MASK] <mask>") == first.encode("The naïve [MASK] <mask>"));
    fingerprints.insert(first.fingerprint());
    // The folder by one of its files, and by that of a run.
    for (const auto& [name, bytes] : files) {
      if (name == "tokenizer_config.json") continue;
      CHECK(Vocabulary::load(scratch.file("v/" + name)).fingerprint() == first.fingerprint());
    }
    std::filesystem::remove_all(scratch.file("run"));
    std::filesystem::copy(file, scratch.folder("run") + "/vocab.model");
    CHECK(Vocabulary::load(scratch.file("run")).fingerprint() == first.fingerprint());
  }
  CHECK(fingerprints.size() == words()["tokenizers"].size());
}

TEST_CASE("published vocabularies: words of GPT-2") {
  const auto words_of = [](std::string_view text) {
    std::vector<std::string> words;
    for (; !text.empty(); text.remove_prefix(words.back().size()))
      words.emplace_back(text.substr(0, first_word(text)));
    return words;
  };
  using Words = std::vector<std::string>;
  CHECK(words_of("I'd don't'x 'S") == Words{"I", "'d", " don", "'t", "'", "x", " '", "S"});
  CHECK(words_of("a  b   \n c\n\nd  ") == Words{"a", " ", " b", "   \n", " c", "\n", "\n", "d", "  "});
  CHECK(words_of(" 12ab!?\t") == Words{" 12", "ab", "!?", "\t"});
  CHECK(words_of("\u3000x \u3000 y") == Words{"\u3000", "x", " \u3000", " y"});
}

TEST_CASE("published vocabularies: a long word is no trouble, whatever is in the text") {
  const Vocabulary gpt2 = loaded("gpt2"), bert = loaded("bert");
  std::string word;
  for (int i = 0; i < 70'000; ++i) word += static_cast<char>('a' + i % 7 * i % 26);
  CHECK(gpt2.decode(gpt2.encode(word)) == word);
  CHECK(bert.encode(word) == Ids{bert.special().unk});
  // Bytes that are not UTF-8 count as U+FFFD, one for each part.
  CHECK(gpt2.encode("a\xff\xe2\x82z") == gpt2.encode("a\uFFFD\uFFFDz"));
  Ids part = gpt2.encode("\u20AC");
  part.pop_back();
  CHECK(gpt2.decode(part).ends_with("\uFFFD"));
  check_throws<ValueError>("ids below", [&] { gpt2.decode(Ids{gpt2.size()}); });
}

TEST_CASE("published vocabularies: what is not read is said") {
  const Scratch scratch;
  const auto error = [&]<class E>(E, const std::string& name, const std::string& change, const Json& to,
                                  const std::string& part) {
    Json json = Json::parse(files_of(tokenizer(name)).at("tokenizer.json"));
    json[Json::json_pointer(change)] = to;
    const std::string folder = write(scratch, {{"tokenizer.json", json.dump()}});
    check_throws<E>(part, [&] { Vocabulary::load(folder); });
  };
  const ConfigError unread("");
  const IoError damaged("");
  error(unread, "added", "/model/type", "Unigram",
        "tokenizer.json: model: a kind that is not read: expected "
        "WordPiece or BPE, got 'Unigram'");
  error(unread, "added", "/normalizer/type", "NFC",
        "normalizer: a kind that is not read: expected BertNormalizer, got 'NFC'");
  error(unread, "added", "/pre_tokenizer/type", "Metaspace", "expected BertPreTokenizer, got 'Metaspace'");
  error(unread, "roberta", "/pre_tokenizer", Json{{"type", "Split"}}, "expected ByteLevel, got 'Split'");
  error(unread, "roberta", "/pre_tokenizer/use_regex", false, "use_regex: expected true, got false");
  error(unread, "roberta", "/normalizer", Json{{"type", "NFC"}}, "expected none, got 'NFC'");
  error(unread, "roberta", "/model/byte_fallback", true, "byte_fallback: expected false");
  error(unread, "roberta", "/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  error(unread, "roberta", "/model/dropout", 0.1, "dropout: expected null, got 0.1");
  error(unread, "added", "/post_processor/single/0", Json{{"Sequence", {{"id", "B"}, {"type_id", 0}}}},
        "expected a template like [CLS] A [SEP] B [SEP]");
  error(damaged, "added", "/model/vocab/the", -1, "the id of 'the': expected 0 to");
  error(damaged, "added", "/model/vocab/the", 1'000'000'000, "the id of 'the': expected 0 to");
  error(damaged, "added", "/model/vocab/the", "x", "expected an integer");
  error(damaged, "added", "/model/vocab/the", 3, "two pieces of id 3");
  error(damaged, "added", "/model/unk_token", "none", "'none' is no piece");
  error(damaged, "roberta", "/model/merges/3", "a", "expected two pieces with a blank between, got 'a'");
  error(damaged, "roberta", "/model/merges/3", "a none", "there is no piece 'none'");
  error(damaged, "roberta", "/added_tokens/0/id", 5, "has the ids 0 and 5");
  error(damaged, "roberta", "/added_tokens", "x", "expected a list");

  const auto refused = [&](const std::map<std::string, std::string>& files, const std::string& part) {
    check_throws<IoError>(part, [&] { Vocabulary::load(write(scratch, files)); });
  };
  refused({{"config.json", "{}"}},
          "expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or one *.model");
  refused({{"tokenizer.json", "{\"a\": "}}, "not JSON at byte");
  refused({{"tokenizer.json", "[]"}}, "expected an object");
  refused({{"vocab.txt", "a\n[CLS]\n[SEP]\n"}}, "'[UNK]' is no piece");
  refused({{"vocab.txt", "[UNK]\n\xff\n"}}, "not UTF-8");
  refused({{"vocab.json", "{\"a\": 0}"}}, "vocab.json and merges.txt");
  refused({{"a.model", "x"}, {"b.model", "x"}}, "got 2");
  put(scratch.file("bundle"), R"({"tandem vocabulary": {"vocab.txt": 3}})");
  check_throws<IoError>("expected a text", [&] { Vocabulary::load(scratch.file("bundle")); });
  put(scratch.file("bundle"), R"({"tandem vocabulary": {"../vocab.txt": "a"}})");
  check_throws<IoError>("special_tokens_map.json, got '../vocab.txt'",
                        [&] { Vocabulary::load(scratch.file("bundle")); });
  put(scratch.file("bundle"), R"({"tandem vocabulary": {}})");
  check_throws<IoError>("expected tokenizer.json", [&] { Vocabulary::load(scratch.file("bundle")); });
}

}  // namespace tandem::data
