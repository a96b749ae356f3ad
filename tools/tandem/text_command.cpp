// The commands that use a trained text model: translate, summarize, generate, classify, similarity. Texts
// come a line each from standard input, and go to standard output; what a person wants to know goes to
// standard error.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "autograd/parallel.h"
#include "autograd/tell.h"
#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/io/text.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/multi_label.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

// What becomes of lines of more tokens than the model has positions.
class LongLines {
 public:
  LongLines(const std::string& how, int64_t most) : how_(how), most_(most) {}

  // Whether a line of so many tokens is to be left out; counts those that are too long.
  bool leaves_out(size_t line, int64_t tokens) {
    if (tokens <= most_) return false;
    check<IoError>(how_ != "reject",
                   "standard input:{}: {} tokens, the model takes {}; --long cut shortens such lines, skip "
                   "leaves their output blank",
                   line, tokens, most_);
    ++count_;
    return how_ == "skip";
  }
  void tell_count() const {
    if (count_ > 0)
      tell("tandem: {} lines {} {} tokens", count_, how_ == "cut" ? "were cut to" : "were skipped: more than",
           most_);
  }

 private:
  std::string how_;
  int64_t most_, count_ = 0;
};

// Ids of each line; none of one that is blank or left out.
std::vector<data::Ids> encode_lines(const data::Vocabulary& vocabulary, const std::vector<std::string>& lines,
                                    int64_t most, const std::string& how) {
  std::vector<data::Ids> all;
  LongLines too_long(how, most);
  for (const std::string& line : lines) {
    data::Ids& ids = all.emplace_back();
    if (!data::is_blank(line)) ids = vocabulary.encode(line);
    const bool left_out = too_long.leaves_out(all.size(), std::ssize(ids));
    ids.resize(left_out ? 0 : std::min(std::ssize(ids), most));
  }
  too_long.tell_count();
  return all;
}

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Options {
  std::string run, too_long = "reject", prompt, device = "auto";
  int threads = 0;
  bool quiet = false, probabilities = false;
  int64_t count = 1;
  models::BeamOptions beam;
  models::SampleOptions sample;

  // The settings of a whole command: models are made on the device.
  nn::InitScope begin() const {
    if (threads > 0) set_num_threads(threads);
    return nn::InitScope({.device = load_device(device)});
  }
};

void decode(const Options& o, const std::string& task) {
  const nn::InitScope scope = o.begin();
  const Run run = open_run(o.run, {task});
  const auto model = run.model<models::Transformer>();
  const std::vector<std::string> lines = read_standard_input();
  const int64_t most = model->config().max_positions - run.vocabulary().special().around_side();
  const auto sources = encode_lines(run.vocabulary(), lines, most, o.too_long);
  const Stopwatch watch;
  const auto texts = decode_texts(*model, run.vocabulary(), sources, o.beam, o.quiet ? "" : task);
  const double seconds = watch.seconds();
  int64_t tokens = 0;
  for (const std::string& text : texts) {
    fmt::print("{}\n", text);
    tokens += std::ssize(run.vocabulary().encode(text));
  }
  if (!o.quiet) {
    tell("{} texts in {:.1f} s: {:.0f} texts/s, {:.0f} tokens/s (beam {}, {} threads)", texts.size(), seconds,
         static_cast<double>(texts.size()) / seconds, static_cast<double>(tokens) / seconds, o.beam.beam,
         num_threads());
  }
}

void generate(const Options& o) {
  const nn::InitScope scope = o.begin();
  const Run run = open_run(o.run, {"lm"});
  const auto model = run.model<models::LanguageModel>();
  check<ConfigError>(data::invalid_utf8(o.prompt) == std::string::npos, "--prompt: not UTF-8");
  // Lines of the training text begin after an end of line.
  const int64_t eos = run.vocabulary().special().eos;
  data::Ids given;
  for (size_t at = 0, end = 0; end != std::string::npos; at = end + 1) {
    end = o.prompt.find('\n', at);
    const data::Ids line = run.vocabulary().encode(o.prompt.substr(at, end - at));
    given.insert(given.end(), line.begin(), line.end());
    if (end != std::string::npos) given.push_back(eos);
  }
  data::Ids prompt{eos};
  prompt.insert(prompt.end(), given.begin(), given.end());
  const int64_t positions = model->config().max_positions;
  if (std::ssize(prompt) > positions)
    tell("tandem: a prompt of {} tokens, the model has {} positions: the text goes on from the last {}",
         prompt.size(), positions, std::max<int64_t>(1, positions / 2));
  const Stopwatch watch;
  models::SampleOptions options = o.sample;
  options.eos = eos;
  const std::vector<data::Ids> texts = models::sample(*model, prompt, o.count, options);
  const double seconds = watch.seconds();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (o.count > 1) fmt::print("{}--- {}\n", i == 0 ? "" : "\n", i + 1);
    // Line by line, as in training: a line's first blank is its own.
    data::Ids text = given, line;
    text.insert(text.end(), texts[i].begin(), texts[i].end());
    for (int64_t id : text) {
      if (id == eos) {
        fmt::print("{}\n", run.vocabulary().decode(line));
        line.clear();
      } else {
        line.push_back(id);
      }
    }
    fmt::print("{}\n", run.vocabulary().decode(line));
  }
  if (!o.quiet) {
    const double tokens = static_cast<double>(o.count * o.sample.length);
    tell("{:.0f} tokens/s ({} texts, {} threads)", tokens / seconds, o.count, num_threads());
  }
}

// What the model says of the lines of standard input, a text on each, or two with a tab between; 0 `texts`:
// as the first line has. A line that is blank or left out has no outputs.
std::vector<std::vector<double>> outputs_of_lines(const Run& run, models::TextEncoder& model, size_t texts,
                                                  const std::string& how) {
  const std::vector<std::string> lines = read_standard_input();
  const models::TextEncoderConfig& config = model.config();
  const data::SpecialIds& special = run.vocabulary().special();
  const bool separate = config.bi_encoder;
  const int64_t longest = longest_text(run, config);
  std::vector<data::Ids> first, second;
  std::vector<size_t> answered;  // the lines of these
  std::optional<LongLines> too_long;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (data::is_blank(lines[i])) continue;
    const size_t fields = 1 + std::count(lines[i].begin(), lines[i].end(), '\t');
    if (texts == 0 && fields <= 2) texts = fields;
    check<IoError>(fields == texts, "standard input:{}: expected {}, got {} with tabs between", i + 1,
                   texts == 1 ? "one text" : "two texts with a tab between", fields);
    const size_t tab = lines[i].find('\t');
    const std::string a = lines[i].substr(0, tab), b = texts == 2 ? lines[i].substr(tab + 1) : "";
    check<IoError>(!data::is_blank(a) && (texts == 1 || !data::is_blank(b)),
                   "standard input:{}: expected two texts, got an empty one", i + 1);
    data::Ids ids = run.vocabulary().encode(a), others = run.vocabulary().encode(b);
    if (!too_long) too_long.emplace(how, longest - special.around(texts == 2 && !separate));
    // A pair that is read as one text is as long as both.
    const int64_t tokens =
        separate ? std::max(std::ssize(ids), std::ssize(others)) : std::ssize(ids) + std::ssize(others);
    if (too_long->leaves_out(i + 1, tokens)) continue;
    first.push_back(std::move(ids)), answered.push_back(i);
    if (texts == 2) second.push_back(std::move(others));
  }
  std::vector<std::vector<double>> outputs(lines.size());
  if (too_long) too_long->tell_count();
  if (answered.empty()) return outputs;
  const data::TextDataset dataset(std::move(first), std::move(second), std::vector<int64_t>(answered.size()),
                                  longest, separate ? data::PairLayout::separate : data::PairLayout::joined,
                                  special);
  std::vector<std::vector<double>> found = outputs_of(model, dataset);
  for (size_t i = 0; i < found.size(); ++i) outputs[answered[i]] = std::move(found[i]);
  return outputs;
}

void classify(const Options& o) {
  const nn::InitScope scope = o.begin();
  const Run run = open_run(o.run, {"classify"});
  const auto model = run.model<models::TextEncoder>();
  const std::vector<std::string> classes = run.entry_as<std::vector<std::string>>("classes");
  check<IoError>(std::ssize(classes) == model->config().outputs, "{}: {} classes, but {} outputs", run.file,
                 classes.size(), model->config().outputs);
  // Runs of before this entry existed take what they are given.
  const int64_t texts_a_line = run.metadata.contains("texts") ? run.entry_as<int64_t>("texts") : 0;
  check<IoError>(texts_a_line >= 0 && texts_a_line <= 2, "{}: texts: expected at most 2, got {}", run.file,
                 texts_a_line);
  const bool several = run.metadata.contains("labels");
  const Stopwatch watch;
  const auto outputs = outputs_of_lines(run, *model, static_cast<size_t>(texts_a_line), o.too_long);
  const double seconds = watch.seconds();
  for (const std::vector<double>& row : outputs) {
    if (row.empty()) {
      fmt::print("\n");
      continue;
    }
    if (several) {
      std::vector<std::string> shares;
      for (const double x : row)
        if (x > 0) shares.push_back(fmt::format("{:.4f}", 1 / (1 + std::exp(-x))));
      const std::string set = join_labels(predicted_labels({row})[0], classes);
      o.probabilities ? fmt::print("{}\t{}\n", set, data::join(shares, "|")) : fmt::print("{}\n", set);
      continue;
    }
    const auto best = std::max_element(row.begin(), row.end());
    double sum = 0;
    for (double x : row) sum += std::exp(x - *best);
    const std::string& name = classes[best - row.begin()];
    o.probabilities ? fmt::print("{}\t{:.4f}\n", name, 1 / sum) : fmt::print("{}\n", name);
  }
  if (!o.quiet)
    tell("{:.0f} texts/s ({} threads)", static_cast<double>(outputs.size()) / seconds, num_threads());
}

void similarity(const Options& o) {
  const nn::InitScope scope = o.begin();
  const Run run = open_run(o.run, {"similarity"});
  const auto model = run.model<models::TextEncoder>();
  const double mean = run.entry_as<double>("mean"), scale = run.entry_as<double>("scale");
  for (const std::vector<double>& row : outputs_of_lines(run, *model, 2, o.too_long))
    fmt::print("{}\n", row.empty() ? "" : fmt::format("{:.4f}", mean + scale * row[0]));
}

Command add_command(Command& root, const std::string& name, const std::string& description,
                    const std::shared_ptr<Options>& o) {
  Command command = root.add(name, description);
  command.argument("run", o->run, "run folder, or a .safetensors file").required();
  command.device(o->device);
  command.option("--threads", o->threads, integer(0, 1024), "CPU threads; 0: one per core");
  command.flag("--quiet", o->quiet, "no progress and no rate");
  if (name != "generate") {
    command.option("--long", o->too_long, one_of({"cut", "reject", "skip"}),
                   "lines longer than the model's positions: cut, reject, or skip (a blank line)");
  }
  return command;
}

void add_decoding(Command& root, const std::string& task) {
  auto o = std::make_shared<Options>();
  Command command = add_command(root, task, task + " the lines of standard input", o);
  command.option("--beam", o->beam.beam, integer(1, 1000), "hypotheses of the beam search; 1: greedy");
  command.option("--length-penalty", o->beam.length_penalty, number(), "larger values favour longer texts");
  command.option("--max-length", o->beam.max_length, integer(0), "tokens; 0: twice the source's, plus 10");
  command.examples({fmt::format("tandem {0} runs/{0} < lines.txt > output.txt", task),
                    fmt::format("echo 'a line' | tandem {0} runs/{0} --beam 1 --quiet", task)});
  command.run([=] { decode(*o, task); });
}

void add_generate(Command& root) {
  auto o = std::make_shared<Options>();
  Command command = add_command(root, "generate", "text from a language model", o);
  command.option("--prompt", o->prompt, anything(), "what the text begins with");
  command.option("--count", o->count, integer(1, 10'000), "texts");
  command.option("--length", o->sample.length, integer(1), "tokens of each");
  command.option("--temperature", o->sample.temperature, non_negative(),
                 "divides the logits; 0: always the likeliest");
  command.option("--top-k", o->sample.top_k, integer(0), "only the k likeliest tokens; 0: all");
  command.option("--top-p", o->sample.top_p, number_in(1e-9, 1),
                 "only the likeliest tokens of this probability together");
  command.option("--seed", o->sample.seed, integer(0, INT64_MAX), "of the draws");
  command.examples({"tandem generate runs/lm --prompt \"It was\" --length 50 --top-p 0.9"});
  command.run([=] { generate(*o); });
}

void add_classify(Command& root) {
  auto o = std::make_shared<Options>();
  Command command = add_command(root, "classify", "the classes of the lines of standard input", o);
  command.flag("--probabilities", o->probabilities, "with the probability of each, after a tab");
  command.examples({"tandem classify runs/classify --probabilities < lines.txt"});
  command.run([=] { classify(*o); });
}

void add_similarity(Command& root) {
  auto o = std::make_shared<Options>();
  Command command =
      add_command(root, "similarity", "how alike the two texts of each line are (a tab between them)", o);
  command.examples({"printf 'a cat\\ta dog\\n' | tandem similarity runs/similarity"});
  command.run([=] { similarity(*o); });
}

}  // namespace

void add_text(Command& root) {
  add_decoding(root, "translate");
  add_decoding(root, "summarize");
  add_generate(root);
  add_classify(root);
  add_similarity(root);
}

}  // namespace tandem::command
