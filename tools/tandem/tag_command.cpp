// `tandem tag`: columns of words from standard input, with a column of tags to standard output.
#include <fmt/format.h>

#include "autograd/parallel.h"
#include "autograd/tell.h"
#include "nn/data/text_files.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/tagger.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

struct Options {
  std::string run, device = "auto";
  int threads = 0;
};

void tag(const Options& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  const nn::InitScope scope({.device = load_device(o.device)});
  const Run run = open_run(o.run, {"tag"});
  const auto model = run.model<models::TextEncoder>();
  const auto names = run.entry_as<std::vector<std::string>>("tags");
  check<IoError>(std::ssize(names) == model->config().outputs && !names.empty(),
                 "{}: {} tags, but {} outputs", run.file, names.size(), model->config().outputs);
  std::vector<std::string> lines = read_standard_input();
  const data::TaggedTexts texts = data::tagged_of(lines, "standard input", true);
  const int64_t longest = longest_text(run, model->config());
  const data::TaggedDataset dataset(texts, names, run.vocabulary(), longest);
  const std::vector<metrics::Tags> tags = tags_of(*model, dataset, texts, names);
  for (size_t i = 0; i < tags.size(); ++i)
    for (size_t k = 0; k < tags[i].size(); ++k) {
      std::string& line = lines[texts.lines[i][k]];
      line += (line.find(' ') != std::string::npos && line.find('\t') == std::string::npos ? " " : "\t") +
              tags[i][k];
    }
  for (const std::string& line : lines) fmt::print("{}\n", line);
  if (dataset.cut() > 0)
    tell("tandem: {} sentences were cut: the words beyond {} tokens have no tag of the model's",
         dataset.cut(), longest);
}

}  // namespace

void add_tag(Command& root) {
  auto o = std::make_shared<Options>();
  Command command = root.add("tag", "tags of the words of standard input, in columns");
  command.argument("run", o->run, "run folder, or a .safetensors file").required();
  command.device(o->device);
  command.option("--threads", o->threads, integer(0, 1024), "CPU threads; 0: one per core");
  command.examples({"tandem tag runs/tag < words.conll > tagged.conll"});
  command.run([=] { tag(*o); });
}

}  // namespace tandem::command
