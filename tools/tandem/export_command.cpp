// `tandem export RUN --to FOLDER`: a run's weights as the tools that they came from read them.
#include <fmt/format.h>

#include <filesystem>

#include "autograd/error.h"
#include "models/pretrained/pretrained.h"
#include "nn/io/files.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/image_model.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;

struct ExportOptions {
  std::string run, to, family;
};

// How what was written is read there.
std::string reader_of(const std::string& folder) {
  const std::string config = data::read_file("export", folder + "/config.json", 1 << 24);
  const auto names = [&](const char* what) { return config.find(what) != std::string::npos; };
  if (names("\"architecture\"")) return "timm.create_model('local-dir:{}', pretrained=True)";
  for (const auto& [what, reader] : {std::pair{"ForImageClassification", "AutoModelForImageClassification"},
                                     {"ForSequenceClassification", "AutoModelForSequenceClassification"},
                                     {"ForTokenClassification", "AutoModelForTokenClassification"},
                                     {"ForMaskedLM", "AutoModelForMaskedLM"},
                                     {"LMHeadModel", "AutoModelForCausalLM"},
                                     {"ForConditionalGeneration", "AutoModelForSeq2SeqLM"}})
    if (names(what)) return fmt::format("transformers.{}.from_pretrained('{{}}')", reader);
  return fs::exists(folder + "/modules.json") ? "sentence_transformers.SentenceTransformer('{}')"
                                              : "transformers.AutoModel.from_pretrained('{}')";
}

// Writes the run's model, and returns the files.
std::vector<std::string> write(const Run& run, const std::string& folder,
                               models::SavePretrainedOptions options) {
  if (run.task == kImageTask) {
    const ImageModelSpec spec = image_spec(run);
    check<ConfigError>(std::holds_alternative<models::VitConfig>(spec.config),
                       "export: {}: a CNN, which no published family has", run.folder);
    options.labels = spec.classes;
    options.mean = spec.normalization.mean, options.stddev = spec.normalization.stddev;
    return models::save_pretrained(*run.model<models::Vit>(), folder, options);
  }
  if (run.metadata.contains("classes")) options.labels = run.entry_as<std::vector<std::string>>("classes");
  if (run.task == "tag") {
    options.labels = run.entry_as<std::vector<std::string>>("tags");
    options.of_tokens = true;
  }
  options.bos = run.vocabulary().special().bos, options.eos = run.vocabulary().special().eos;
  std::vector<std::string> files;
  if (run.task == "lm")
    files = models::save_pretrained(*run.model<models::LanguageModel>(), folder, options);
  else if (run.task == "translate" || run.task == "summarize")
    files = models::save_pretrained(*run.model<models::Transformer>(), folder, options);
  else
    files = models::save_pretrained(*run.model<models::TextEncoder>(), folder, options);
  for (const auto& [name, bytes] : run.vocabulary().files()) {
    data::write_file(folder + "/" + name, bytes);
    files.push_back(name);
  }
  return files;
}

void export_run(const ExportOptions& o) {
  check<ConfigError>(!fs::exists(o.to) || (fs::is_directory(o.to) && fs::is_empty(o.to)),
                     "--to: '{}' exists, expected a new or an empty folder", o.to);
  const Run run =
      open_run(o.run, {kImageTask, "classify", "similarity", "mlm", "tag", "lm", "translate", "summarize"});
  // Beside the place, so that the folder appears whole.
  const fs::path parent = fs::absolute(o.to).parent_path();
  const data::TemporaryFolder made(parent.string());
  const std::string folder = made.path() + "/whole";
  const std::vector<std::string> files = write(run, folder, {.family = o.family});
  const std::string reader = reader_of(folder);
  fs::rename(folder, o.to);
  for (const std::string& file : files)
    fmt::print("{:<26} {:>14} bytes\n", file, fs::file_size(fs::path(o.to) / file));
  fmt::print("\nIn Python: {}\n", fmt::format(fmt::runtime(reader), o.to));
}

}  // namespace

void add_export(Command& root) {
  auto o = std::make_shared<ExportOptions>();
  Command command =
      root.add("export", "a run's weights as transformers, sentence-transformers or timm read them");
  command.argument("run", o->run, "run folder, or a .safetensors file").required();
  command.option("--to", o->to, not_empty(), "the folder to write").required();
  command.option(
      "--family", o->family, anything(),
      "vit, deit, dinov2, dinov2_with_registers, timm, bert, roberta, gpt2 or bart; without: the one that "
      "has the model's options");
  command.examples({"tandem export runs/vit --to my-vit", "tandem export runs/classify --to my-bert"});
  command.run([=] { export_run(*o); });
}

}  // namespace tandem::command
