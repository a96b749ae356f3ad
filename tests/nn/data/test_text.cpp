// Vocabularies, readers of text, and texts as data sets.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/data/vocabulary.h"
#include "tests/files.h"

namespace tandem::data {
using namespace testing;
namespace {

std::vector<std::string> some_lines() {
  std::vector<std::string> lines;
  for (int i = 0; i < 60; ++i) {
    lines.push_back(fmt::format("the {} of naïve word{}s is größer", i % 7 == 0 ? "sum" : "product", i % 5));
    lines.push_back(fmt::format("  two  blanks, and {} things", i % 3));
  }
  return lines;
}

// Ids of the lengths 1, 2, ... `most`, over and over.
std::vector<Ids> sequences(int64_t count, int64_t most) {
  std::vector<Ids> all;
  for (int64_t i = 0; i < count; ++i) {
    all.emplace_back(1 + i * 7 % most);
    std::iota(all.back().begin(), all.back().end(), 10 + i);
  }
  return all;
}

void check_each_once(const std::vector<Indices>& batches, int64_t size) {
  std::vector<int64_t> all;
  for (const Indices& batch : batches) {
    CHECK(!batch.empty());
    all.insert(all.end(), batch.begin(), batch.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<int64_t> expected(size);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(all == expected);
}

}  // namespace

TEST_CASE("vocabulary: texts go to ids and back") {
  for (const char* kind : {"bpe", "unigram"}) {
    const Vocabulary v = Vocabulary::train(some_lines(), {.size = 40, .kind = kind});
    CHECK(v.size() == 40);
    CHECK(v.piece(SpecialIds().mask) == "<mask>");
    for (const std::string text : {"the naïve sum", "  two  blanks ", "größer things, things", "", "s"}) {
      const Ids ids = v.encode(text);
      CHECK(v.decode(ids) == text);
      for (int64_t id : ids) CHECK(id > SpecialIds().mask);
    }
    CHECK(v.encode("the product") == v.encode("the product"));
    Ids wrapped = v.encode("the sum");
    wrapped.insert(wrapped.begin(), SpecialIds().bos);
    wrapped.insert(wrapped.end(), {SpecialIds().mask, SpecialIds().eos, SpecialIds().pad});
    CHECK(v.decode(wrapped) == "the sum");
    const Ids unknown = v.encode("東");
    CHECK(std::count(unknown.begin(), unknown.end(), SpecialIds().unk) == 1);
    // What a text says in special pieces is text.
    for (int64_t id : v.encode("<mask></s>")) CHECK((id == SpecialIds().unk || id > SpecialIds().mask));
  }
}

TEST_CASE("vocabulary: decode(encode(text)) is the text, whatever it holds but unknown characters") {
  // SentencePiece's own characters and pieces, what looks like an escape, and code points of every kind.
  const std::vector<std::string> odd{"\u2581",
                                     "\u2585",
                                     "\u2047",
                                     "\uFDD0",
                                     "b",
                                     "e",
                                     "\t",
                                     " ",
                                     "  ",
                                     "\u00A0",
                                     "\u3000",
                                     "\u2028",
                                     "\uFEFF",
                                     "\u200B",
                                     "\u00AD",
                                     "\uFFFD",
                                     "\uFFFF",
                                     "\U0010FFFF",
                                     "\U0001F469\u200D\U0001F680",
                                     "e\u0301",
                                     "\u05D0",
                                     "\u0001",
                                     "\u007F",
                                     "\r",
                                     "<s>",
                                     "</s>",
                                     "<unk>",
                                     "<pad>",
                                     "<mask>",
                                     "\\",
                                     "\"",
                                     "ß",
                                     "İ",
                                     "中",
                                     "文"};
  std::vector<std::string> lines = some_lines();
  for (const std::string& a : odd) {
    lines.push_back(a);
    for (const std::string& b : odd) lines.push_back(fmt::format("x{}{}{}", a, b, a));
  }
  for (const char* kind : {"bpe", "unigram"}) {
    const Vocabulary v = Vocabulary::train(lines, {.size = 85, .kind = kind});
    size_t known = 0;
    for (const std::string& line : lines) {
      const Ids ids = v.encode(line);
      if (std::find(ids.begin(), ids.end(), SpecialIds().unk) != ids.end()) continue;
      ++known;
      CHECK(v.decode(ids) == line);
    }
    CHECK(known > lines.size() * 2 / 3);  // all but those with a tab or U+2585
  }
}

TEST_CASE("vocabulary: no line is left out, however long its words are and whatever they hold") {
  // Each alphabet is in one line alone: of many letters without a blank, of SentencePiece's reserved
  // characters.
  std::vector<std::string> lines = some_lines();
  std::string word;
  for (int i = 0; i < 70'000; ++i) word += std::string_view("αβγδεζ").substr(2 * (i * 7 % 13 % 6), 2);
  lines.push_back(word);
  lines.push_back("\u0436\t\u0448");
  lines.push_back("\u4E2D\u2585\u6587");
  for (const char* kind : {"bpe", "unigram"}) {
    const Vocabulary v = Vocabulary::train(lines, {.size = 58, .kind = kind});
    for (const char* letters : {"αβδ", "\u0436\u0448", "\u4E2D\u6587"}) {
      const Ids ids = v.encode(letters);
      CHECK(std::find(ids.begin(), ids.end(), SpecialIds().unk) == ids.end());
    }
    CHECK((v.decode(v.encode(word)) == word));  // not shown: it is long
  }
}

TEST_CASE("vocabulary: the same lines give the same one, and a file keeps it") {
  const Scratch scratch;
  const Vocabulary a = Vocabulary::train(some_lines(), {.size = 60}),
                   b = Vocabulary::train(some_lines(), {.size = 60}),
                   c = Vocabulary::train(some_lines(), {.size = 61});
  CHECK(a.fingerprint() == b.fingerprint());
  CHECK(a.fingerprint() != c.fingerprint());
  CHECK(a.fingerprint().size() == 16);
  a.save(scratch.file("v.model"));
  const Vocabulary loaded = Vocabulary::load(scratch.file("v.model"));
  CHECK(loaded.fingerprint() == a.fingerprint());
  CHECK(loaded.encode("the naïve sum") == a.encode("the naïve sum"));
  const std::string bytes = bytes_of(scratch.file("v.model"));
  for (const std::string& damaged : {std::string(), std::string("junk"), bytes.substr(0, bytes.size() / 2)}) {
    write_file(scratch.file("bad.model"), damaged);
    check_throws<IoError>("bad.model", [&] { Vocabulary::load(scratch.file("bad.model")); });
  }
}

TEST_CASE("vocabulary: what does not fit is said") {
  check_throws<ConfigError>("'words'", [] { Vocabulary::train({"a"}, {.kind = "words"}); });
  check_throws<ConfigError>("got 3", [] { Vocabulary::train({"a"}, {.size = 3}); });
  check_throws<ConfigError>("coverage", [] { Vocabulary::train({"a"}, {.coverage = 0}); });
  check_throws<ValueError>("no lines", [] { Vocabulary::train({}); });
  check_throws<ConfigError>("size: expected at least", [] { Vocabulary::train(some_lines(), {.size = 6}); });
  // A text that gives fewer pieces: as many as there are, and the same each time.
  for (const char* kind : {"bpe", "unigram"}) {
    const auto most = [&](int64_t size) {
      return Vocabulary::train(some_lines(), {.size = size, .kind = kind});
    };
    const Vocabulary shrunk = most(9000);
    CHECK(shrunk.size() < 9000);
    CHECK(shrunk.fingerprint() == most(shrunk.size()).fingerprint());
    CHECK(shrunk.decode(shrunk.encode(some_lines()[0])) == some_lines()[0]);
  }
  const Vocabulary v = Vocabulary::train(some_lines(), {.size = 60});
  check_throws<ValueError>("below 60, got 60", [&] { v.decode(Ids{60}); });
  check_throws<ValueError>("got -1", [&] { v.decode(Ids{-1}); });
}

TEST_CASE("text files: UTF-8 is checked") {
  CHECK(invalid_utf8("naïve 東京 𝒳") == std::string::npos);
  for (const char* bad : {"a\xff", "a\xc3", "a\xc3(", "a\xc0\x80", "a\xed\xa0\x80", "a\xf4\x90\x80\x80",
                          "a\xe0\x80\x80", "a\xf0\x80\x80\x80", "a\x80"})
    CHECK(invalid_utf8(bad) == 1);
  CHECK(invalid_utf8(std::string("a\0b", 3)) == 1);
  const Scratch scratch;
  const std::string file = scratch.file("lines");
  write_file(file, "\xEF\xBB\xBFone\r\n\ntwo");
  CHECK(read_lines(file) == std::vector<std::string>{"one", "", "two"});
  write_file(file, "fine\nnot \xff");
  check_throws<IoError>("lines:2: byte 5", [&] { read_lines(file); });
  check_throws<IoError>("none", [&] { read_lines(scratch.file("none")); });
}

TEST_CASE("text files: bytes from elsewhere are lines as a file's are") {
  CHECK(lines_of("\xEF\xBB\xBFone\r\n\ntwo", "standard input") == std::vector<std::string>{"one", "", "two"});
  CHECK(lines_of("", "standard input").empty());
  check_throws<IoError>("standard input:2: byte 3 of the line is not UTF-8",
                        [] { lines_of(std::string_view("one\nab\0c\n", 9), "standard input"); });
  CHECK(is_blank(" \t\v"));
  CHECK(is_blank(""));
  CHECK(!is_blank(" x"));
}

TEST_CASE("text files: pairs, labels and scores") {
  const Scratch scratch;
  const std::string file = scratch.file("data.tsv"), other = scratch.file("other");
  const auto error = [&](auto read, const std::string& content) {
    write_file(file, content);
    return message_of<IoError>([&] { read(file); });
  };
  const auto pairs = [](const std::string& f) { return read_pairs(f); };
  const auto labels = [](const std::string& f) { return read_labelled(f); };
  const auto scores = [](const std::string& f) { return read_scored(f); };
  write_file(file, "a\tb\nc \t d\n\te\n \tf\n\n");
  CHECK(read_pairs(file).source == std::vector<std::string>{"a", "c "});
  CHECK(read_pairs(file).target == std::vector<std::string>{"b", " d"});
  CHECK(read_pairs(file).skipped == 2);
  CHECK(contains(error(pairs, "a\tb\nc\n"), "data.tsv:2"));
  CHECK(contains(error(pairs, "a\tb\tc\n"), "data.tsv:1"));
  CHECK(contains(error(pairs, ""), "no lines"));
  CHECK(contains(error(pairs, "\tb\n"), "no pair"));
  write_file(file, "a\nb\n\n");
  write_file(other, "x\n\nz\n");
  CHECK(read_pairs(file, other).source == std::vector<std::string>{"a"});
  CHECK(read_pairs(file, other).skipped == 2);
  write_file(other, "x\n");
  check_throws<IoError>("has 3 lines", [&] { read_pairs(file, other); });

  write_file(file, "yes\ttext\nno\tmore\nyes\t \nno\tlast\n");
  const LabelledTexts found = read_labelled(file);
  CHECK(found.classes == std::vector<std::string>{"no", "yes"});
  CHECK(found.labels == std::vector<int64_t>{1, 0, 0});
  CHECK(found.second.empty());
  CHECK(found.skipped == 1);
  CHECK(read_labelled(file, {"maybe", "no", "yes"}).labels == std::vector<int64_t>{2, 1, 1});
  check_throws<IoError>("data.tsv:1: label 'yes'", [&] { read_labelled(file, {"no"}); });
  CHECK(contains(error(labels, "one\ta\none\tb\n"), "at least 2 classes, got 'one'"));
  CHECK(contains(error(labels, "\ta\n"), "data.tsv:1"));
  CHECK(contains(error(labels, "x\ta\ny\tb\tc\n"), "data.tsv:2: expected 2 fields"));
  write_file(file, "x\ta\tb\ny\tc\td\n");
  CHECK(read_labelled(file).second == std::vector<std::string>{"b", "d"});

  write_file(file, "1.5\ta\tb\n-2\tc\td\n3\t\te\n");
  CHECK(read_scored(file).scores == std::vector<double>{1.5, -2});
  CHECK(read_scored(file).skipped == 1);
  for (const char* bad : {"x", "", "nan", "inf", "1,5", "2 "})
    CHECK(contains(error(scores, fmt::format("{}\ta\tb\n", bad)),
                   fmt::format("data.tsv:1: expected a score, got '{}'", bad)));
}

TEST_CASE("pairs as a data set: padding, budgets, order") {
  const std::vector<Ids> source = sequences(100, 9), target = sequences(100, 13);
  const PairDataset data(source, target, 64, TooLong::cut);
  const Batch batch = data.batch(Indices{0, 1}, {});
  // Lengths 1 and 8: bos or eos, then padding.
  CHECK(batch.size == 2);
  CHECK(batch.inputs[0].to_vector<int64_t>() == std::vector<int64_t>{10, 3, 0, 0, 0, 0, 0, 0, 0,  //
                                                                     11, 12, 13, 14, 15, 16, 17, 18, 3});
  CHECK(batch.inputs[1].to_vector<int64_t>() == std::vector<int64_t>{2, 10, 0, 0, 0, 0, 0, 0, 0,  //
                                                                     2, 11, 12, 13, 14, 15, 16, 17, 18});
  CHECK(batch.target.to_vector<int64_t>() == std::vector<int64_t>{10, 3, 0, 0, 0, 0, 0, 0, 0,  //
                                                                  11, 12, 13, 14, 15, 16, 17, 18, 3});
  for (int64_t budget : {1, 40, 200}) {
    for (const auto& batches : {data.shuffled_batches(3, 0, budget), data.ordered_batches(budget)}) {
      check_each_once(batches, 100);
      for (const Indices& one : batches) {
        const Batch b = data.batch(one, {});
        CHECK((one.size() == 1 || b.size * std::max(b.inputs[0].size(1), b.target.size(1)) <= budget));
      }
    }
  }
  CHECK(data.shuffled_batches(3, 0, 60) == data.shuffled_batches(3, 0, 60));
  CHECK(data.shuffled_batches(3, 0, 60) != data.shuffled_batches(3, 1, 60));
  CHECK(data.shuffled_batches(3, 0, 60) != data.shuffled_batches(4, 0, 60));
  // Little of a batch is padding.
  double kept = 0, all = 0;
  for (const Indices& one : data.shuffled_batches(3, 0, 60)) {
    int64_t longest = 0;
    for (int64_t i : one) {
      const auto length = static_cast<int64_t>(std::max(source[i].size(), target[i].size())) + 1;
      longest = std::max(longest, length), kept += static_cast<double>(length);
    }
    all += static_cast<double>(longest * std::ssize(one));
  }
  CHECK(kept / all > 0.9);

  const PairDataset cut(source, target, 6, TooLong::cut), skipped(source, target, 6, TooLong::skip);
  CHECK(cut.size() == 100);
  CHECK(skipped.size() + skipped.left_out() == 100);
  CHECK(cut.cut() == skipped.left_out());
  CHECK(cut.batch(Indices{1}, {}).target.size(1) == 6);
  check_throws<ValueError>("1 sources, but 0", [&] { PairDataset({{5}}, {}, 9, TooLong::cut); });
  check_throws<ValueError>("none left", [&] { PairDataset({Ids(9, 5)}, {{5}}, 4, TooLong::skip); });
  check_throws<ValueError>("index 100", [&] { data.batch(Indices{100}, {}); });
  check_throws<ConfigError>("batch_size", [&] { data.ordered_batches(0); });
}

TEST_CASE("text for a language model: every token counts once") {
  Ids tokens(101);
  std::iota(tokens.begin(), tokens.end(), 5);
  for (int64_t context : {0, 3, 9}) {
    const LanguageModelDataset data(tokens, 10, context);
    CHECK(data.targets() == 100);
    std::map<int64_t, int> counted;
    int64_t blocks = 0;
    for (const Indices& one : data.ordered_batches(3)) {
      const Batch batch = data.batch(one, {});
      const auto in = batch.inputs[0].to_vector<int64_t>(), out = batch.target.to_vector<int64_t>();
      for (size_t i = 0; i < out.size(); ++i) {
        if (out[i] == SpecialIds().pad) continue;
        CHECK(out[i] == in[i] + 1);
        ++counted[out[i]];
      }
      blocks += batch.size;
    }
    CHECK(blocks == data.size());
    CHECK(counted.size() == 100);
    for (const auto& [token, times] : counted) CHECK(times == 1);
    // All but the first block see what is before.
    const Batch second = data.batch(Indices{data.ordered_batches(1)[1]}, {});
    const auto out = second.target.to_vector<int64_t>();
    CHECK(std::count(out.begin(), out.end(), SpecialIds().pad) == context);
    CHECK(second.inputs[0].to_vector<int64_t>()[context] == 5 + 10);
  }
  const LanguageModelDataset data(tokens, 10, 3);
  std::set<int64_t> firsts;
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    std::set<int64_t> starts;
    for (const Indices& one : data.shuffled_batches(1, epoch, 4)) {
      const Batch batch = data.batch(one, {.training = true});
      const auto out = batch.target.to_vector<int64_t>();
      CHECK(std::count(out.begin(), out.end(), SpecialIds().pad) < 10);  // of the last block alone
      starts.insert(one.begin(), one.end());
    }
    CHECK(starts.size() >= 10);
    firsts.insert(*starts.begin());
  }
  CHECK(firsts.size() > 4);  // epochs begin at different places
  CHECK(data.shuffled_batches(1, 2, 4) == data.shuffled_batches(1, 2, 4));
  check_throws<ValueError>("at least 2 tokens", [] { LanguageModelDataset({5}, 10); });
  check_throws<ConfigError>("context", [&] { LanguageModelDataset(tokens, 10, 10); });
}

TEST_CASE("labelled texts have BERT's layout") {
  const TextDataset pairs({{10, 11}, {12}}, {{20}, {21, 22}}, std::vector<int64_t>{1, 0}, 32);
  const Batch batch = pairs.batch(Indices{0, 1}, {});
  CHECK(batch.inputs[0].to_vector<int64_t>() ==
        std::vector<int64_t>{2, 10, 11, 3, 20, 3, 2, 12, 3, 21, 22, 3});
  CHECK(batch.inputs[1].to_vector<int64_t>() == std::vector<int64_t>{0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1});
  CHECK(batch.target.to_vector<int64_t>() == std::vector<int64_t>{1, 0});
  const TextDataset single({{10, 11, 12, 13}, {14}}, {}, std::vector<double>{0.5, -1}, 5);
  CHECK(single.cut() == 1);
  const Batch scored = single.batch(Indices{0, 1}, {});
  CHECK(scored.inputs[0].to_vector<int64_t>() == std::vector<int64_t>{2, 10, 11, 12, 3, 2, 14, 3, 0, 0});
  CHECK(scored.target.to_vector<double>() == std::vector<double>{0.5, -1});
  CHECK(scored.target.dtype() == DType::f32);
  // The longer text of a pair gives way first.
  const TextDataset cut({{10, 11, 12, 13, 14}}, {{20, 21}}, std::vector<int64_t>{0}, 7);
  CHECK(cut.batch(Indices{0}, {}).inputs[0].to_vector<int64_t>() ==
        std::vector<int64_t>{2, 10, 11, 3, 20, 21, 3});
  // Separate pairs: each text by itself, and each is cut to what fits.
  const TextDataset apart({{10, 11, 12, 13}, {14}}, {{20}, {21, 22}}, std::vector<double>{1, 2}, 5,
                          PairLayout::separate);
  CHECK(apart.cut() == 1);
  const Batch both = apart.batch(Indices{0, 1}, {});
  CHECK(both.inputs[0].to_vector<int64_t>() == std::vector<int64_t>{2, 10, 11, 12, 3, 2, 14, 3, 0, 0});
  CHECK(both.inputs[1].to_vector<int64_t>() == std::vector<int64_t>{2, 20, 3, 0, 2, 21, 22, 3});
  const std::vector<Ids> texts = sequences(50, 9);
  const TextDataset many(texts, {}, std::vector<int64_t>(50), 32);
  check_each_once(many.shuffled_batches(1, 1, 7), 50);
  check_each_once(many.ordered_batches(7), 50);
  for (const Indices& one : many.shuffled_batches(1, 1, 7)) CHECK(one.size() <= 7);
  check_throws<ValueError>("for 49 targets", [&] { TextDataset(texts, {}, std::vector<int64_t>(49), 32); });
  check_throws<ConfigError>("longest", [&] { TextDataset(texts, {}, std::vector<int64_t>(50), 2); });
}

}  // namespace tandem::data
