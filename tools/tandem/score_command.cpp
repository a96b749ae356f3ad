// `tandem score METRIC REFERENCES < hypotheses`: what a person would otherwise ask sacreBLEU and rouge-score.
// Hypotheses come a line each from standard input.
#include <fmt/format.h>

#include "nn/data/text_files.h"
#include "nn/metrics/bleu.h"
#include "nn/metrics/chrf.h"
#include "nn/metrics/overlap.h"
#include "nn/metrics/rouge.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/scores.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

using metrics::Texts;

struct Options {
  std::vector<std::string> references;
  std::string sources, training;
  int word_order = 0;
  bool json = false;
};

bool is_table(const std::string& file) { return file.ends_with(".tsv"); }

// Of "source<TAB>target" lines one side, of any other file the lines.
Texts read_sources(const std::string& file) {
  return is_table(file) ? data::read_pairs(file).source : data::read_lines(file);
}
Texts read_targets(const std::string& file) {
  return is_table(file) ? data::read_pairs(file).target : data::read_lines(file);
}

// Hypotheses and references: as many of the ones as of each of the others.
struct Corpus {
  Texts hypotheses;
  std::vector<Texts> references;
};
Corpus read_corpus(const Options& o) {
  Corpus corpus;
  for (const std::string& file : o.references) corpus.references.push_back(read_targets(file));
  corpus.hypotheses = read_standard_input();
  for (size_t i = 0; i < o.references.size(); ++i)
    check<IoError>(corpus.hypotheses.size() == corpus.references[i].size(),
                   "standard input has {} hypotheses, {} has {} references", corpus.hypotheses.size(),
                   o.references[i], corpus.references[i].size());
  return corpus;
}

std::string full(const std::string& signature) { return signature + "|version:tandem-" TANDEM_VERSION; }

// What the scores are, for programs.
void print_json(const std::string& signature, const std::vector<Score>& scores) {
  fmt::print("{}\n", scores_to_json({{"signature", full(signature)}}, scores));
}

// BLEU of the lines whose source is new, of those between, and of those much like one of the training.
struct OverlapBin {
  const char* name;
  double low, high;
  size_t texts = 0;
  std::optional<double> bleu = {};
};
std::vector<OverlapBin> bleu_by_overlap(const Options& o, const Corpus& corpus) {
  const std::string file = o.sources.empty() ? o.references[0] : o.sources;
  const Texts sources = read_sources(file);
  check<IoError>(sources.size() == corpus.hypotheses.size(),
                 "standard input has {} hypotheses, {} has {} sources", corpus.hypotheses.size(), file,
                 sources.size());
  const std::vector<double> overlaps = metrics::nearest_overlap(sources, read_sources(o.training));
  const std::vector<metrics::BleuCounts> counts = metrics::bleu_counts(corpus.hypotheses, corpus.references);
  std::vector<OverlapBin> bins{{"< 0.34", 0, 0.34}, {"0.34 to 0.67", 0.34, 0.67}, {">= 0.67", 0.67, 2}};
  for (OverlapBin& bin : bins) {
    metrics::BleuCounts sum;
    for (size_t i = 0; i < overlaps.size(); ++i)
      if (overlaps[i] >= bin.low && overlaps[i] < bin.high) sum += counts[i], ++bin.texts;
    if (bin.texts > 0) bin.bleu = metrics::bleu_of(sum).score;
  }
  return bins;
}

void score_bleu(const Options& o) {
  check<ConfigError>(o.sources.empty() || !o.training.empty(), "--sources: given without --training");
  check<ConfigError>(o.training.empty() || !o.sources.empty() || is_table(o.references[0]),
                     "--training: expected --sources too, or references with sources (.tsv)");
  const Corpus corpus = read_corpus(o);
  const metrics::Bleu bleu = metrics::corpus_bleu(corpus.hypotheses, corpus.references);
  const std::vector<OverlapBin> bins =
      o.training.empty() ? std::vector<OverlapBin>{} : bleu_by_overlap(o, corpus);
  const auto& p = bleu.precisions;
  if (o.json) {
    std::vector<Score> scores{{"BLEU", "", bleu.score}, {"brevity penalty", "", bleu.brevity_penalty}};
    for (size_t n = 0; n < p.size(); ++n)
      scores.push_back({fmt::format("{}-gram precision", n + 1), "", p[n]});
    for (const OverlapBin& bin : bins)
      if (bin.bleu) scores.push_back({fmt::format("BLEU, overlap {}", bin.name), "", *bin.bleu});
    return print_json(bleu.signature(), scores);
  }
  fmt::print("BLEU {:.2f}  {:.1f}/{:.1f}/{:.1f}/{:.1f} (brevity penalty {:.3f}, {} tokens for {})\n{}\n",
             bleu.score, p[0], p[1], p[2], p[3], bleu.brevity_penalty, bleu.hypothesis_length,
             bleu.reference_length, full(bleu.signature()));
  if (!bins.empty()) fmt::print("{:<12} {:>8} {:>8}\n", "overlap", "texts", "BLEU");
  for (const OverlapBin& bin : bins)
    fmt::print("{:<12} {:>8} {:>8}\n", bin.name, bin.texts,
               bin.bleu ? fmt::format("{:.2f}", *bin.bleu) : "-");
}

void score_chrf(const Options& o) {
  const Corpus corpus = read_corpus(o);
  const metrics::Chrf chrf =
      metrics::corpus_chrf(corpus.hypotheses, corpus.references, {.word_order = o.word_order});
  const std::string name = "chrF2" + std::string(o.word_order, '+');
  if (o.json) return print_json(chrf.signature(), {{name, "", chrf.score}});
  fmt::print("{} {:.2f}\n{}\n", name, chrf.score, full(chrf.signature()));
}

void score_rouge(const Options& o) {
  const Corpus corpus = read_corpus(o);
  const metrics::Rouge rouge = metrics::rouge(corpus.hypotheses, corpus.references[0]);
  const std::string signature = "nrefs:1|case:lower|stem:no|score:f1";
  if (o.json)
    return print_json(
        signature,
        {{"ROUGE-1", "", rouge.rouge1}, {"ROUGE-2", "", rouge.rouge2}, {"ROUGE-L", "", rouge.rougeL}});
  fmt::print("ROUGE-1 {:.2f}  ROUGE-2 {:.2f}  ROUGE-L {:.2f}\n{}\n", rouge.rouge1, rouge.rouge2, rouge.rougeL,
             full(signature));
}

}  // namespace

void add_score(Command& root) {
  Command score = root.add("score", "score the lines of standard input against references");
  const auto add = [&](const char* name, const char* description, int files, auto run) {
    auto o = std::make_shared<Options>();
    Command command = score.add(name, description);
    command
        .argument("references", o->references,
                  files == 1 ? "a file of lines, or a .tsv of sources and references"
                             : "files of lines, or .tsv of sources and references")
        .required()
        .at_most(files);
    command.flag("--json", o->json, "one line of JSON instead");
    command.run([=] { run(*o); });
    return std::pair{command, o};
  };
  auto [bleu, b] = add("bleu", "BLEU as sacreBLEU computes it", 100, score_bleu);
  bleu.option("--training", b->training, anything(),
              "also by overlap with the nearest of these sources: lines, or .tsv");
  bleu.option("--sources", b->sources, anything(), "the hypotheses' sources [those of the .tsv]");
  auto [chrf, c] = add("chrf", "chrF2 as sacreBLEU computes it", 100, score_chrf);
  bleu.examples({"tandem translate runs/translate < test.source | tandem score bleu test.target",
                 "tandem score bleu test.tsv --training train.tsv < hypotheses.txt",
                 "tandem score bleu test.target --json < hypotheses.txt"});
  chrf.option("--word-order", c->word_order, integer(0, 10), "n-grams of words; 2: chrF++");
  chrf.examples({"tandem score chrf test.target --word-order 2 < hypotheses.txt"});
  auto [rouge, r] = add("rouge", "ROUGE-1, -2 and -L as rouge-score computes them", 1, score_rouge);
  rouge.examples({"tandem score rouge test.target < summaries.txt"});
}

}  // namespace tandem::command
