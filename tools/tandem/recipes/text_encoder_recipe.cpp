#include "tools/tandem/recipes/text_encoder_recipe.h"

#include <fmt/format.h>

#include "autograd/error.h"

namespace tandem::command {

TextEncoderRecipe::TextEncoderRecipe() {
  settings.trainer.batch_size = 64;
  settings.lr = 1e-3, settings.warmup = -1, settings.usual_warmup = 200, settings.weight_decay = 0.01;
  vocabulary_choice_.size = 4000;
}

void TextEncoderRecipe::declare_model(Command& to) {
  declare_sizes(to, models::text_encoder_preset_names());
  to.option("--max-tokens", max_tokens_, integer(0),
            "texts of more are cut (see --long); 0: the model's positions");
  to.option(
      "--pooling", pooling_, one_of({"auto", "cls", "mean"}),
      "a text's vector: of its first token (cls), or the mean over its tokens; auto: what --init's model "
      "has, or cls, in similarity mean");
  init_.declare(to, "bert or roberta, a sentence encoder,",
                ", or a run of mlm, classify, similarity or tag; with its sizes and vocabulary");
}

void TextEncoderRecipe::set_up(const std::vector<std::string>& lines, int64_t outputs,
                               const std::vector<std::string>& classes) {
  if (init_.empty()) {
    make_vocabulary(lines);
    config_ = configured(models::text_encoder_preset(model_choice_.preset));
    config_.max_positions = positions_of_run(longest());
  } else if (init_.published()) {
    open_init();
    config_ = of_init(models::text_encoder_config(init_.model()));
    keeps_head_ = init_.keeps_head(classes);
    config_.head_dropout.reset();
    if (config_.pooler_dropout > 0) config_.pooler_dropout = config_.dropout;
  } else {
    check_only_init();
    init_run_ = open_run(init_.path(), {"mlm", "classify", "similarity", "tag"});
    vocabulary_ = init_run_->vocabulary();
    config_ = init_run_->model<models::TextEncoder>()->config();
    model_choice_.apply_rates(config_);
  }
  config_.outputs = outputs, config_.bi_encoder = false;
  config_.masked_lm_head = config_.masked_lm_head && task == "mlm";
  config_.dropout_from = std::min(config_.layers, settings.tuning.frozen_blocks());
  if (pooling_ != "auto") config_.pooling = pooling_ == "mean" ? models::Pooling::mean : models::Pooling::cls;
}

nn::Metadata TextEncoderRecipe::metadata() const {
  nn::Metadata all = metadata_with(config_);
  if (longest() < config_.max_positions) all["max_tokens"] = to_json(longest());
  return all;
}

std::string TextEncoderRecipe::sizes(int64_t cut) const {
  std::string text = fmt::format("{} training, {} validation and {} test {}, vocabulary of {}",
                                 train_->size(), valid_->size(), test_->size(), unit(), vocabulary_->size());
  text += vocabulary_hint();
  if (cut > 0) text += fmt::format("\n{} training {} were cut to {} tokens", cut, unit(), longest());
  if (left_out_ > 0)
    text +=
        fmt::format("\n{} training {} of more than {} tokens were left out", left_out_, unit(), longest());
  return text + init_.table<models::TextEncoder>(config_, !keeps_head_);
}

std::unique_ptr<models::TextEncoder> TextEncoderRecipe::make_encoder() const {
  auto model = std::make_unique<models::TextEncoder>(config_);
  if (init_.published()) init_.fill(*model, !keeps_head_);
  if (!init_run_) return model;
  nn::NamedTensors state = model->state_dict();
  for (nn::NamedTensor& own : state) {
    if (own.name.starts_with("head.")) continue;
    const Tensor* given = nn::find(init_run_->tensors, own.name);
    check<IoError>(given != nullptr, "--init: {} has no '{}'", init_run_->file, own.name);
    own.tensor = *given;
  }
  model->load_state_dict(state);
  return model;
}

}  // namespace tandem::command
