#include "tools/tandem/checkpoint.h"

#include "nn/train/run_folder.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

namespace {

// A configuration from the metadata, beside the weights of a small model.
template <class Model, class Config> void read_model(const Config& config, const std::string& text) {
  static const nn::NamedTensors weights = Model(config).state_dict();
  static const data::Vocabulary tokens = data::Vocabulary::train({"the cat sat on the mat"}, {.size = 16});
  const command::Run run{
      "run", "run/best.safetensors", "fuzz", weights, {{"config", text}, {"vocabulary", ""}}, tokens};
  fuzz::read_or_refuse<IoError>([&] { run.model<Model>(); });
}

}  // namespace

// What checkpoints hold as JSON; the first byte says which part it is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(fuzz::text_of(data + 1, size - 1));
  const command::Run run{"run", "run/best.safetensors", "fuzz", {}, {{"entry", text}}, {}};
  switch (data[0]) {
    case 'r':
      fuzz::read_or_refuse<IoError>([&] {
        const nn::FitResult record = nn::metrics_from_json("last.safetensors", text);
        const std::string written = nn::metrics_to_json(record);
        fuzz::require(nn::metrics_to_json(nn::metrics_from_json("last.safetensors", written)) == written,
                      "a record that is written reads as itself");
      });
      break;
    case 's':
      fuzz::read_or_refuse<IoError>([&] { run.entry_as<std::vector<std::string>>("entry"); });
      break;
    case 'n':
      fuzz::read_or_refuse<IoError>([&] { run.entry_as<std::vector<double>>("entry"); });
      fuzz::read_or_refuse<IoError>([&] { run.entry_as<double>("entry"); });
      break;
    case 'v':
      read_model<models::Vit>(
          models::VitConfig{.image_size = 8, .patch_size = 4, .dim = 4, .depth = 1, .heads = 2, .mlp_dim = 4},
          text);
      break;
    case 'c':
      read_model<models::Cnn>(models::CnnConfig{.image_size = 8, .width = 2}, text);
      break;
    case 't':
      read_model<models::Transformer>(models::TransformerConfig{.vocab = 16,
                                                                .target_vocab = 16,
                                                                .dim = 4,
                                                                .heads = 2,
                                                                .mlp_dim = 4,
                                                                .encoder_layers = 1,
                                                                .decoder_layers = 1,
                                                                .max_positions = 8},
                                      text);
      break;
    case 'l':
      read_model<models::LanguageModel>(
          models::LanguageModelConfig{
              .vocab = 16, .dim = 4, .heads = 2, .mlp_dim = 4, .layers = 1, .max_positions = 8},
          text);
      break;
    case 'e':
      read_model<models::TextEncoder>(
          models::TextEncoderConfig{
              .vocab = 16, .dim = 4, .heads = 2, .mlp_dim = 4, .layers = 1, .max_positions = 8},
          text);
      break;
  }
  return 0;
}
