#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "autograd/tell.h"
#include "nn/data/text_files.h"
#include "nn/data/vocabulary.h"
#include "tools/corpora/corpus.h"
#include "tools/corpora/fashion_mnist.h"
#include "tools/corpora/python_packages.h"
#include "tools/corpora/unicode.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

void add_fashion_mnist(Command& data) {
  Command fashion = data.add("fashion-mnist", "60,000 + 10,000 grey images of clothing, 28x28");
  auto dir = std::make_shared<std::string>("data/fashion-mnist");
  fashion.argument("dir", *dir, "folder for the four IDX files, where Debian's package is not installed");
  fashion.examples({"tandem data fashion-mnist", "tandem train vit --data data/fashion-mnist"});
  fashion.run([dir] {
    const data::ImageSplits splits = data::get_fashion_mnist(*dir);
    fmt::print("{:<8} {:>8} {:>8} {:>9}\n", "split", "images", "classes", "size");
    for (const auto& [name, set] : {std::pair{"train", &splits.train}, std::pair{"test", &splits.test}}) {
      fmt::print("{:<8} {:>8} {:>8} {:>9}\n", name, set->count, set->classes.size(),
                 fmt::format("{}x{}x{}", set->channels, set->height, set->width));
    }
  });
}

void add_corpus(Command& data, const data::Corpus& corpus) {
  Command command = data.add(corpus.name, corpus.description);
  auto dir = std::make_shared<std::string>("data/" + corpus.name);
  command.argument("dir", *dir, "folder for the files of train, valid and test");
  command.examples({fmt::format("tandem data {}", corpus.name)});
  command.run([dir, &corpus] {
    data::make_corpus(corpus, *dir);
    fmt::print("{:<8} {:>8} {:>15}\n", "split", "lines", "words per line");
    for (const char* split : {"train", "valid", "test"}) {
      const auto lines = data::read_lines(*dir + "/" + split + corpus.ending);
      int64_t words = 0;
      for (const std::string& line : lines) words += data::count_words(line);
      fmt::print("{:<8} {:>8} {:>15.1f}\n", split, lines.size(),
                 static_cast<double>(words) / static_cast<double>(lines.size()));
    }
  });
}

void add_minilm(Command& data) {
  Command command = data.add("minilm", "all-MiniLM-L6-v2, a sentence encoder for --init, 91 MB");
  auto dir = std::make_shared<std::string>("data/minilm");
  command.argument("dir", *dir, "folder for the model");
  command.examples({"tandem data minilm", "tandem train classify --init data/minilm --lr 1e-4"});
  command.run([dir] {
    data::get_minilm(*dir);
    for (const auto& entry : std::filesystem::directory_iterator(*dir))
      if (entry.is_regular_file())
        fmt::print("{:<34} {:>12} bytes\n", entry.path().filename().string(), entry.file_size());
  });
}

struct VocabularyJob {
  std::vector<std::string> files;
  std::string out;
  int64_t column = 0;
  data::VocabularyOptions options;
};

// The lines of the files, or one field of each (all fields as lines of their own: 0).
void make_vocabulary(const VocabularyJob& job) {
  check<ConfigError>(!std::filesystem::exists(job.out), "--out: '{}' is there already", job.out);
  std::vector<std::string> lines;
  for (const std::string& file : job.files) {
    int64_t number = 0;
    for (const std::string& line : data::read_lines(file)) {
      ++number;
      int64_t field = 1;
      for (size_t begin = 0; begin <= line.size(); ++field) {
        const size_t end = std::min(line.find('\t', begin), line.size());
        if (job.column == 0 || job.column == field) lines.push_back(line.substr(begin, end - begin));
        begin = end + 1;
      }
      check<IoError>(job.column < field, "{}:{}: expected a column {}, got {} fields", file, number,
                     job.column, field - 1);
    }
  }
  const data::Vocabulary vocabulary = data::Vocabulary::train(lines, job.options);
  vocabulary.save(job.out);
  if (vocabulary.size() < job.options.size)
    tell("hint: --size {}: this text gives {} pieces", job.options.size, vocabulary.size());
  int64_t pieces = 0, words = 0;
  for (const std::string& line : lines) {
    pieces += std::ssize(vocabulary.encode(line));
    words += data::count_words(line);
  }
  fmt::print("{:<12} {:>8} {:>8} {:>12} {:>16}\n", "vocabulary", "pieces", "lines", "pieces/word",
             "fingerprint");
  fmt::print("{:<12} {:>8} {:>8} {:>12.3f} {:>16}\n", job.options.kind, vocabulary.size(), lines.size(),
             static_cast<double>(pieces) / static_cast<double>(std::max<int64_t>(words, 1)),
             vocabulary.fingerprint());
}

void add_vocabulary(Command& data) {
  Command command = data.add("vocab", "a subword vocabulary from files of text (of training data only)");
  auto job = std::make_shared<VocabularyJob>();
  command.argument("files", job->files, "text, or TSV").required();
  command.option("--out", job->out, anything(), "the file to write, such as vocab.model").required();
  command.option("--size", job->options.size, integer(6, 1 << 24), "pieces");
  command.option("--kind", job->options.kind, one_of({"bpe", "unigram"}), "bpe or unigram");
  command.option("--column", job->column, integer(0), "the field of a TSV to take; 0: all of them");
  command.examples({"tandem data vocab train.tsv --out vocab.model --size 8000",
                    "tandem train translate --data FOLDER --vocab vocab.model"});
  command.run([job] { make_vocabulary(*job); });
}

void print_ids(const std::string& path) {
  const data::Vocabulary vocabulary = data::Vocabulary::load(path);
  const std::vector<std::string> lines = read_standard_input();
  size_t bytes = 0;
  double seconds = 0;
  for (const std::string& line : lines) {
    const auto start = std::chrono::steady_clock::now();
    const data::Ids ids = vocabulary.encode(line);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    bytes += line.size();
    for (size_t i = 0; i < ids.size(); ++i) fmt::print("{}{}", i == 0 ? "" : " ", ids[i]);
    fmt::print("\n");
  }
  tell("{} lines, {:.2f} MB/s on one thread", lines.size(), static_cast<double>(bytes) / seconds / 1e6);
}

void add_ids(Command& data) {
  Command command = data.add("ids", "the ids of the lines of standard input in a vocabulary");
  auto path = std::make_shared<std::string>();
  command.argument("vocab", *path, "a vocabulary of `tandem data vocab`, of a run, or a published one")
      .required();
  command.examples(
      {"tandem data ids vocab.model < lines.txt", "tandem data ids bert-base-uncased < lines.txt"});
  command.run([path] { print_ids(*path); });
}

}  // namespace

void add_data(Command& root) {
  Command data = root.add("data", "get and check a data set");
  add_fashion_mnist(data);
  for (const data::Corpus& corpus : data::corpora()) add_corpus(data, corpus);
  add_minilm(data);
  add_vocabulary(data);
  add_ids(data);
}

}  // namespace tandem::command
