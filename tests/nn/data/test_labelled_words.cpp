// Words with tags, and sets of labels.
#include <filesystem>

#include "nn/data/label_sets.h"
#include "nn/data/tagged_texts.h"
#include "nn/io/files.h"
#include "tests/files.h"
#include "tests/testing.h"

namespace tandem::data {
using namespace testing;
namespace {

using Strings = std::vector<std::string>;

const Strings kColumns{"-DOCSTART- -X- O", "",       "# a comment",        "EU NNP B-ORG",
                       "rejects VBZ O",    "# NN O", "German\tJJ\tB-MISC", " ",
                       "-DOCSTART- O",     "",       "Peter  B-PER",       "Black I-PER"};

TEST_CASE("tagged texts: columns of words between blanks or tabs") {
  const TaggedTexts texts = tagged_of(kColumns, "columns");
  CHECK(texts.words == std::vector<Strings>{{"EU", "rejects", "#", "German"}, {"Peter", "Black"}});
  CHECK(texts.tags == std::vector<Strings>{{"B-ORG", "O", "O", "B-MISC"}, {"B-PER", "I-PER"}});
  CHECK(texts.lines == std::vector<std::vector<int64_t>>{{3, 4, 5, 6}, {10, 11}});
  CHECK(tag_names(texts) == Strings{"O", "B-MISC", "B-ORG", "B-PER", "I-PER"});
  CHECK(tagged_of({"word", "a b"}, "words", true).words == std::vector<Strings>{{"word", "a"}});
  check_throws<IoError>("columns:2: expected a word and its tag, got 'b'", [] {
    tagged_of({"a O", "b"}, "columns");
  });
  check_throws<IoError>("columns: no sentence", [] { tagged_of({"", "-DOCSTART- O"}, "columns"); });
}

TEST_CASE("tagged texts: a tag is at its word's first piece, whatever is cut or padded") {
  const TaggedTexts texts = tagged_of(kColumns, "columns");
  const Vocabulary vocabulary = Vocabulary::train({"EU rejects German Peter Black #"}, {.size = 30});
  const TaggedDataset whole(texts, {"O", "B-ORG", "B-PER", "I-PER"}, vocabulary, 100);
  CHECK(whole.cut() == 0);
  CHECK(whole.labels() == std::vector<int64_t>{1, 0, 0, -1, 2, 3});
  const Batch batch = whole.batch(std::vector<int64_t>{1, 0}, {});
  CHECK(batch.target.shape() == batch.inputs[0].shape());
  const int64_t length = batch.target.size(1);
  const auto ids = batch.inputs[0].to_vector<int64_t>(), target = batch.target.to_vector<int64_t>();
  std::vector<int64_t> expected(2 * length, -100);
  int64_t at = 1;
  for (const auto& [row, label, word] :
       {std::tuple{0, 2, "Peter"}, {0, 3, "Black"}, {1, 1, "EU"}, {1, 0, "rejects"}, {1, 0, "#"}}) {
    if (std::string(word) == "EU") at = 1;
    const Ids pieces = vocabulary.encode(word);
    const bool there = std::equal(pieces.begin(), pieces.end(), ids.begin() + row * length + at);
    CHECK(there);
    expected[row * length + at] = label;
    at += std::ssize(pieces);
  }
  CHECK(target == expected);  // that of German is unknown
  CHECK(whole.places(0).size() == 4);

  const int64_t longest = static_cast<int64_t>(vocabulary.encode("EU").size()) + 2;
  const TaggedDataset cut(texts, {"O", "B-ORG"}, vocabulary, longest);
  CHECK(cut.cut() == 2);
  CHECK(cut.places(0) == std::vector<int64_t>{1});
  std::vector<int64_t> short_target(longest, -100);
  short_target[1] = 1;
  CHECK(cut.batch(std::vector<int64_t>{0}, {}).target.to_vector<int64_t>() == short_target);
}

TEST_CASE("tagged texts: words have the ids that they have in the sentence, whatever the vocabulary") {
  const Scratch scratch;
  put(scratch.file("vocab.json"),
      R"({"a": 0, "b": 1, "Ġ": 2, "Ġb": 3, "<s>": 4, "</s>": 5, "<pad>": 6, "<unk>": 7, "<mask>": 8})");
  put(scratch.file("merges.txt"), "#version: 0.2\nĠ b\n");
  put(scratch.file("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\n");
  const TaggedTexts texts = tagged_of({"ab O", "b X", "abb X", "b O"}, "columns");
  const Strings sentence{"ab b abb b ab b abb b b a"};
  for (const Vocabulary& vocabulary :
       {Vocabulary::train(sentence, {.size = 14}), Vocabulary::load(scratch.file("vocab.json")),
        Vocabulary::load(scratch.file("vocab.txt"))}) {
    const TaggedDataset dataset(texts, {"O", "X"}, vocabulary, 100);
    const Batch batch = dataset.batch(std::vector<int64_t>{0}, {});
    const auto ids = batch.inputs[0].to_vector<int64_t>(), target = batch.target.to_vector<int64_t>();
    CHECK(ids == vocabulary.special().row(vocabulary.encode("ab b abb b")));
    std::vector<int64_t> tags;
    for (const int64_t place : dataset.places(0)) tags.push_back(target[place]);
    CHECK(tags == std::vector<int64_t>{0, 1, 1, 0});
  }
}

TEST_CASE("label sets: a table of which label is in which set") {
  CHECK(labels_in("sun|beach") == Strings{"sun", "beach"});
  CHECK(labels_in("|").empty());
  const Strings sets{"sun|beach", "|", "beach", "sun"}, labels = labels_of(sets);
  CHECK(labels == Strings{"beach", "sun"});
  const Tensor table = label_table(sets, labels, "file");
  CHECK(table.to_vector<float>() == std::vector<float>{1, 1, 0, 0, 1, 0, 0, 1});
  check_throws<IoError>("file: label 'rain' is none of the 2 that training has",
                        [&] { label_table({"rain|sun"}, labels, "file"); });
  auto samples = std::make_unique<TensorDataset>(Tensors{arange(3)}, tensor({3, 0, 1}, {3}).to(DType::i64));
  const LabelSetDataset dataset(std::move(samples), table);
  CHECK(dataset.batch(std::vector<int64_t>{1, 0}, {}).target.to_vector<float>() ==
        std::vector<float>{1, 1, 0, 1});
}

}  // namespace
}  // namespace tandem::data
