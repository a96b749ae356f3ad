#include "tools/tandem/text_model.h"

#include <iostream>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "nn/data/text_datasets.h"
#include "nn/data/text_files.h"
#include "nn/train/progress.h"

namespace tandem::command {

std::vector<std::string> read_standard_input() {
  std::string bytes;
  for (char part[1 << 16]; std::cin.read(part, sizeof part), std::cin.gcount() > 0;) {
    bytes.append(part, static_cast<size_t>(std::cin.gcount()));
    check<IoError>(std::ssize(bytes) <= data::kMaxTextBytes, "standard input: more than {} bytes",
                   data::kMaxTextBytes);
  }
  std::vector<std::string> lines = data::lines_of(bytes, "standard input");
  check<IoError>(!lines.empty(), "standard input: no lines, expected a text on each");
  return lines;
}

std::vector<std::string> decode_texts(models::Transformer& model, const data::Vocabulary& vocabulary,
                                      const std::vector<data::Ids>& sources, models::BeamOptions options,
                                      const std::string& label) {
  options.bos = vocabulary.special().start, options.eos = vocabulary.special().eos;
  constexpr int64_t kTokens = 4000;  // of sources at a time, with padding
  std::vector<int64_t> lengths;
  for (const data::Ids& ids : sources) lengths.push_back(std::ssize(ids));
  std::vector<std::string> texts(sources.size());
  nn::Progress progress(label, std::ssize(sources), "texts", !label.empty());
  int64_t done = 0;
  for (const data::Indices& batch : data::ordered_by_length(lengths, kTokens, true)) {
    std::vector<data::Ids> group;
    data::Indices from;
    for (int64_t i : batch) {
      if (sources[i].empty()) continue;
      group.push_back(vocabulary.special().side(sources[i]));
      from.push_back(i);
    }
    const std::vector<models::Hypothesis> best = models::beam_search(model, group, options);
    for (size_t i = 0; i < best.size(); ++i) texts[from[i]] = vocabulary.decode(best[i].ids);
    done += std::ssize(batch);
    const double left =
        progress.seconds() / static_cast<double>(done) * static_cast<double>(std::ssize(sources) - done);
    progress.update(done, "", left);
  }
  return texts;
}

int64_t longest_text(const Run& run, const models::TextEncoderConfig& config) {
  if (!run.metadata.contains("max_tokens")) return config.max_positions;
  const auto longest = run.entry_as<int64_t>("max_tokens");
  check<IoError>(longest >= 1 && longest <= config.max_positions,
                 "{}: max_tokens: expected 1 to the model's {} positions, got {}", run.file,
                 config.max_positions, longest);
  return longest;
}

std::vector<std::vector<double>> outputs_of(models::TextEncoder& model, const data::Dataset& texts) {
  const NoGradGuard no_grad;
  std::vector<std::vector<double>> outputs(texts.size());
  for (const data::Indices& batch : texts.ordered_batches(256)) {
    const data::Batch texts_of_batch = texts.batch(batch, {}).to(model.device());
    const Tensor out = model.forward(texts_of_batch);
    const auto values = out.to_vector<double>();
    const int64_t width = out.size(1);
    for (size_t i = 0; i < batch.size(); ++i)
      outputs[batch[i]].assign(values.begin() + i * width, values.begin() + (i + 1) * width);
  }
  return outputs;
}

}  // namespace tandem::command
