// The rules by which the bundled corpora are made, on sources small enough to see them.
#include <zlib.h>

#include <algorithm>
#include <set>

#include "tests/files.h"
#include "tools/corpora/corpus.h"
#include "tools/corpora/unicode.h"

namespace tandem::data {
using namespace testing;
namespace {

std::vector<std::string> all_lines(const Splits& s) {
  std::vector<std::string> all;
  for (const auto* part : {&s.train, &s.valid, &s.test}) all.insert(all.end(), part->begin(), part->end());
  std::sort(all.begin(), all.end());
  return all;
}

std::string entry(const std::string& package, const std::string& md5, const std::string& language,
                  const std::string& text) {
  return "Package: " + package + "\nDescription-md5: " + md5 + "\nDescription-" + language + ": " + text +
         "\n\n";
}

const std::string kPackages =
    "Package: apple\nVersion: 1\n\nPackage: apple-doc\nSource: apple (1.2)\n\nPackage: pear\n";

// A line of a WordNet data file: offset, file, words, hypernym offsets, gloss.
std::string synset(const std::string& offset, const std::string& file, const std::vector<std::string>& above,
                   const std::string& gloss) {
  std::string line = offset + " " + file + " n 01 word 0 " + fmt::format("{:03}", above.size());
  for (const std::string& key : above) line += " @ " + key + " n 0000";
  return line + " | " + gloss + "\n";
}

std::string compressed(const std::string& bytes) {
  std::string out(compressBound(bytes.size()), '\0');
  uLongf size = out.size();
  REQUIRE(compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                   bytes.size()) == Z_OK);
  out.resize(size);
  return out;
}

std::string number(int32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes += static_cast<char>(static_cast<uint32_t>(value) >> shift & 0xff);
  return bytes;
}
std::string r_string(const std::string& text) {
  return number(9) + number(static_cast<int32_t>(text.size())) + text;
}
std::string r_strings(const std::vector<std::string>& texts, int32_t flags = 16) {
  std::string bytes = number(flags) + number(static_cast<int32_t>(texts.size()));
  for (const std::string& text : texts) bytes += r_string(text);
  return bytes;
}
const std::string kHeader = "X\n" + number(2) + number(0) + number(0);
const std::string kHeader3 = "X\n" + number(3) + number(0) + number(0) + number(5) + "UTF-8";

// An object of a database: its size, then itself compressed.
std::string r_object(const std::string& bytes) {
  return number(static_cast<int32_t>(bytes.size())) + compressed(bytes);
}

}  // namespace

TEST_CASE("corpora: Unicode as the rules need it") {
  CHECK(count_words("It's 2 naïve_words — no!") == 8);
  CHECK(count_words("") == 0);
  CHECK(letters_only("  Über-Größe 2: 𝒳² İ ") == "über größe 𝒳² i");
  CHECK(letters_and_digits("A2_b, c") == "a2 b c");
  CHECK(collapse_spaces("\t a\u00A0 b\n") == "a b");
  CHECK(from_latin1("caf\xe9") == "café");
  Splits splits;
  splits.of("abc") = {"x"};  // int(sha256("abc"), 16) % 20 is 5
  CHECK(splits.train == std::vector<std::string>{"x"});
}

TEST_CASE("corpora: synopses are joined, cleaned and split by source package") {
  const std::string english = entry("apple-doc", "1", "en", "documentation of apples\n A paragraph.") +
                              entry("pear", "2", "en", "eats pears") + entry("fig", "3", "en", "figs") +
                              entry("plum", "4", "en", "eats PEARS 2") +
                              entry("kiwi", "5", "en", "not translated") +
                              entry("same", "6", "en", "Apache Portable Runtime");
  const std::string italian =
      entry("plum", "4", "it", "mangia pere due") + entry("pear", "2", "it", "mangia pere") +
      entry("apple-doc", "1", "it", "documentazione di mele") + entry("fig", "3", "it", "fichi") +
      entry("same", "6", "it", "Apache Portable Runtime") + entry("other", "7", "it", "non in inglese");
  const Splits splits = synopses(kPackages, english, italian);
  // Too short, the same in both, or of one side only: out. Of two sources with the same letters the first by
  // name.
  CHECK(all_lines(splits) == std::vector<std::string>{"documentation of apples\tdocumentazione di mele",
                                                      "eats pears\tmangia pere"});
  Splits by_source;
  by_source.of("apple").emplace_back("documentation of apples\tdocumentazione di mele");
  by_source.of("pear").emplace_back("eats pears\tmangia pere");
  CHECK(splits.train == by_source.train);
  CHECK(splits.test == by_source.test);
  const std::string message =
      message_of<IoError>([&] { synopses(kPackages, english + "Package: broken\n\n", italian); });
  CHECK_MESSAGE(contains(message, "Translation-en:"), message);
  CHECK(contains(message_of<IoError>([&] { synopses("", english, italian); }), "Packages: no package"));
  CHECK(contains(message_of<IoError>([&] { synopses(kPackages, "junk", italian); }), "Translation-en:1"));
}

TEST_CASE("corpora: one summary for each source package, of the shortest name") {
  const std::string long_text =
      "one two three four five six seven eight nine ten eleven twelve thirteen\n fourteen "
      "fifteen sixteen\n .\n A second paragraph.";
  const std::string english = entry("apple-doc", "1", "en", "documentation of apples\n " + long_text) +
                              entry("apple", "2", "en", "all about apples\n different " + long_text) +
                              entry("pear", "3", "en", "eats many pears\n Too short.");
  CHECK(all_lines(summaries(kPackages, english)) ==
        std::vector<std::string>{
            "different one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen\tall about apples"});
}

TEST_CASE("corpora: supersenses are the files of WordNet's glosses") {
  const std::string nouns =
      "  1 the licence\n" + synset("00000001", "05", {}, "a kind of dog; \"he barks\"") +
      synset("00000002", "13", {}, "A kind, of DOG") + synset("00000003", "13", {}, "too short");
  const std::string verbs = synset("00000009", "29", {}, "caf\xe9 goes here");
  CHECK(all_lines(supersense(nouns, verbs)) ==
        std::vector<std::string>{"noun.animal\ta kind of dog", "verb.body\tcafé goes here"});
  CHECK(contains(message_of<IoError>([&] { supersense("00000001 99 n 01 word 0 000 | text\n", verbs); }),
                 "data.noun:1"));
  CHECK(contains(
      message_of<IoError>([&] { supersense("00000001 05 n 01 word 0 002 @ 1 n 0 | text\n", verbs); }),
      "data.noun:1"));
  CHECK(contains(message_of<IoError>([&] { supersense("", verbs); }), "data.noun: no synsets"));
}

TEST_CASE("corpora: a gloss's genus is the first word for what is right above, the longest") {
  std::string dog = synset("00000001", "05", {}, "an animal"), ice = synset("00000002", "13", {}, "of water");
  dog.replace(dog.find("01 word 0"), 9, "02 dog 0 guide_dog 0");
  ice.replace(ice.find("word"), 4, "ice");
  const std::string nouns =
      dog + ice + synset("00000003", "05", {"00000002", "00000001"}, "a guide dog, on ice; \"he\"") +
      synset("00000004", "05", {"00000001"}, "cat of no kind");
  CHECK(all_lines(genus(nouns, synset("00000009", "29", {}, "to be at home"))) ==
        std::vector<std::string>{"a\tO\nguide\tB-noun.animal\ndog\tI-noun.animal\n,\tO\non\tO\nice\tO\n"});
}

TEST_CASE("corpora: similarity of glosses is Wu and Palmer's, and the splits share none") {
  // A root, two branches, and leaves under each: depth 1, 2 and 3.
  std::string nouns = synset("00000001", "03", {}, "the root of all things");
  for (int branch = 0; branch < 2; ++branch) {
    const std::string key = fmt::format("0000001{}", branch);
    nouns += synset(key, "03", {"00000001"}, fmt::format("branch number {} of the tree", branch));
    for (int leaf = 0; leaf < 100; ++leaf)
      nouns += synset(fmt::format("0000{}{:03}", branch + 2, leaf), "03", {key},
                      fmt::format("leaf {} of branch {}", leaf, branch));
  }
  const auto make = [&] { return gloss_similarity(nouns, synset("00000009", "29", {}, "a verb"), 100'000); };
  const Splits splits = make();
  std::set<std::string> in_train;
  int checked = 0;
  for (const auto* part : {&splits.train, &splits.valid, &splits.test}) {
    for (const std::string& line : *part) {
      const size_t a = line.find('\t'), b = line.rfind('\t');
      const std::string x = line.substr(a + 1, b - a - 1), y = line.substr(b + 1);
      if (part == &splits.train) {
        in_train.insert({x, y});
      } else {
        CHECK(!in_train.contains(x));
        CHECK(!in_train.contains(y));
      }
      if (!x.starts_with("leaf") || !y.starts_with("leaf")) continue;
      CHECK(x != y);
      // 2 d / (apart + 2 d): 4 / (2 + 4) in one branch, 2 / (4 + 2) across.
      CHECK(line.substr(0, a) == (x.back() == y.back() ? "3.33" : "1.67"));
      ++checked;
    }
  }
  CHECK(checked > 100);
  CHECK(all_lines(splits) == all_lines(make()));
}

TEST_CASE("corpora: help pages give pairs of sentences") {
  const auto page = [](const std::string& body) {
    return "<html><a href=\"x/text/swriter/main.xhp\">" + body + "</html>";
  };
  const Pages english{
      {"a/text/p.html",
       page("<pre id=\"par_id9\">not this one.</pre><p class=\"x\" id=\"par_id1\">Press <b>the "
            "key</b> &amp; wait. Then it opens.</p><h1 id=\"hd_id2\">No full stop here</h1>"
            "<p id=\"par_id3\">One sentence only here.</p>")}};
  const Pages german{{"b/text/p.html", page("<p id=\"par_id1\">Drücken Sie die Taste. Öffnen Sie es.</p>"
                                            "<h1 id=\"hd_id2\">Kein Punkt hier</h1>"
                                            "<p id=\"par_id3\">Zwei Sätze. Sind es hier.</p>")}};
  CHECK(all_lines(help_pairs(english, german)) ==
        std::vector<std::string>{"Press the key & wait.\tDrücken Sie die Taste.",
                                 "Then it opens.\tÖffnen Sie es."});
  CHECK(contains(message_of<IoError>([&] { help_pairs({}, german); }), "no paragraphs"));
}

TEST_CASE("corpora: lines out of an R database") {
  const std::string emma = r_object(kHeader + r_strings({"Emma", ""}));
  const std::string numbers = r_object(kHeader + number(13) + number(1) + number(7));  // left out
  const std::string author = r_object(kHeader3 + r_strings({"by Jane Austen"}) + "attributes");
  const std::string good = emma + numbers + author;
  CHECK(r_lines(good) == std::vector<std::string>{"Emma", "", "by Jane Austen"});
  CHECK(r_lines(r_object(kHeader + number(16) + number(1) + number(9) + number(-1))) ==
        std::vector<std::string>{""});  // not available
  for (size_t size = 0; size < good.size(); ++size) {
    if (size == emma.size() || size == emma.size() + numbers.size()) continue;  // whole objects
    CHECK(contains(message_of<IoError>([&] { r_lines(good.substr(0, size)); }), "Rdata.rdb"));
  }
  // Whatever the bytes are, it is read or refused.
  for (size_t at = 0; at < good.size(); ++at) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    try {
      r_lines(damaged);
    } catch (const IoError&) {
    }
  }
  const std::string inner = kHeader + r_strings({"Emma", "Anne"});
  for (size_t size = 0; size < inner.size(); ++size)
    CHECK_THROWS_AS(r_lines(r_object(inner.substr(0, size))), IoError);
  for (const int32_t size : {2, 1 << 30})
    CHECK_THROWS_AS(r_lines(r_object(kHeader + number(16) + number(1) + number(9) + number(size) + "a")),
                    IoError);
}

TEST_CASE("corpora: files are made once, and another hash is a warning") {
  const Scratch scratch;
  int made = 0;
  const Corpus corpus{"toy", "a toy", ".txt", {"", "0000", ""}, [&](const std::string&, const Notice&) {
                        ++made;
                        return Splits{{"a", "b"}, {"c"}, {"d"}};
                      }};
  std::vector<std::string> notices;
  const Notice notice = [&](const std::string& line) { notices.push_back(line); };
  const std::string dir = scratch.file("toy");
  CHECK(!has_corpus(corpus, dir));
  make_corpus(corpus, dir, scratch.path(), notice);
  make_corpus(corpus, dir, scratch.path(), notice);
  CHECK(made == 1);
  CHECK(bytes_of(dir + "/train.txt") == "a\nb\n");
  REQUIRE(notices.size() == 1);
  CHECK(contains(notices[0], "valid.txt"));
  CHECK(contains(notices[0], "expected 0000"));
  CHECK(find_corpus("synopses") != nullptr);
  CHECK(find_corpus("toy") == nullptr);
}

}  // namespace tandem::data
