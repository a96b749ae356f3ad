// Configurations of BERT, RoBERTa, GPT-2 and BART, in and out.
#include "models/pretrained/config.h"
#include "nn/io/files.h"

#include <filesystem>

namespace tandem::models {
namespace {

using Json = nlohmann::json;

constexpr int64_t kBartOffset = 2;  // rows of its tables of positions that nothing reads

void expect_family(const ConfigReader& config, const Pretrained& from,
                   std::initializer_list<const char*> known, const char* what) {
  for (const char* name : known)
    if (from.family == name) return;
  config.fail("model_type: expected {}, got {}", what, from.family);
}

bool has(const Pretrained& from, const char* name) { return nn::find(from.tensors, name) != nullptr; }

// Rates that a configuration has as null stand for another.
double rate_or(const ConfigReader& config, const char* key, double otherwise) {
  return config.has(key) ? config.number(key) : otherwise;
}

// What save_pretrained() says of a model that a family cannot be.
void expect(bool fits, const char* family, const char* what) {
  check<ConfigError>(fits, "save_pretrained: {} has no model with {}", family, what);
}

Json with_ids(Json json, const SavePretrainedOptions& options) {
  if (options.bos >= 0) json["bos_token_id"] = options.bos;
  if (options.eos >= 0) json["eos_token_id"] = options.eos;
  return json;
}

}  // namespace

TextEncoderConfig text_encoder_config(const Pretrained& from) {
  const ConfigReader config(from);
  expect_family(config, from, {"bert", "roberta"}, "a text encoder's, bert or roberta");
  config.only("position_embedding_type", "absolute");
  config.only("is_decoder", false);
  config.only("add_cross_attention", false);
  const bool roberta = from.family == "roberta";
  TextEncoderConfig c;
  c.vocab = config.size("vocab_size");
  c.segments = config.size("type_vocab_size", 2);
  c.dim = config.size("hidden_size");
  c.heads = config.size("num_attention_heads");
  c.mlp_dim = config.size("intermediate_size");
  c.layers = config.size("num_hidden_layers");
  c.pad_id = config.size("pad_token_id", roberta ? 1 : 0);
  c.position_offset = roberta ? c.pad_id + 1 : 0;
  c.max_positions = config.size("max_position_embeddings") - c.position_offset;
  c.activation = config.activation("hidden_act");
  c.norm_eps = config.number("layer_norm_eps", 1e-12);
  c.dropout = config.number("hidden_dropout_prob", 0.1);
  c.attention_dropout = config.number("attention_probs_dropout_prob", 0.1);
  c.head_dropout = rate_or(config, "classifier_dropout", c.dropout);
  if (roberta) c.pooler_dropout = *c.head_dropout;
  if (from.mean_pooling || from.cls_pooling) c.pooler = Pooler::none;
  if (from.mean_pooling) c.pooling = Pooling::mean;
  const Tensor* head = nn::find(from.tensors, roberta ? "classifier.out_proj.weight" : "classifier.weight");
  if (head && head->dim() == 2) c.outputs = head->size(0);
  expect_weights(config, from,
                 {{"embeddings.word_embeddings.weight", {c.vocab, c.dim}},
                  {"embeddings.position_embeddings.weight", {c.position_offset + c.max_positions, c.dim}},
                  {"embeddings.token_type_embeddings.weight", {c.segments, c.dim}},
                  {"encoder.layer.0.intermediate.dense.weight", {c.mlp_dim, c.dim}}},
                 c.layers);
  c.masked_lm_head =
      !head && has(from, roberta ? "lm_head.dense.weight" : "cls.predictions.transform.dense.weight");
  return c;
}

LanguageModelConfig language_model_config(const Pretrained& from) {
  const ConfigReader config(from);
  expect_family(config, from, {"gpt2"}, "a language model's, gpt2");
  config.only("scale_attn_weights", true);
  config.only("scale_attn_by_inverse_layer_idx", false);
  config.only("add_cross_attention", false);
  LanguageModelConfig c;
  c.vocab = config.size("vocab_size");
  c.dim = config.size("n_embd");
  c.heads = config.size("n_head");
  c.layers = config.size("n_layer");
  c.mlp_dim = config.has("n_inner") ? config.size("n_inner") : 4 * c.dim;
  c.max_positions = config.size("n_positions", 1024);
  c.pad_id = -1;
  c.activation =
      config.has("activation_function") ? config.activation("activation_function") : Activation::gelu_tanh;
  c.dropout = config.number("resid_pdrop", 0.1);
  c.attention_dropout = config.number("attn_pdrop", 0.1);
  c.norm_eps = config.number("layer_norm_epsilon", 1e-5);
  expect_weights(config, from,
                 {{"wte.weight", {c.vocab, c.dim}},
                  {"wpe.weight", {c.max_positions, c.dim}},
                  {"h.0.mlp.c_fc.weight", {c.dim, c.mlp_dim}}},
                 c.layers);
  c.scale_embedding = false;
  c.tie_output = config.flag("tie_word_embeddings", true);
  return c;
}

TransformerConfig transformer_config(const Pretrained& from) {
  const ConfigReader config(from);
  expect_family(config, from, {"bart"}, "an encoder-decoder's, bart");
  config.only("tie_word_embeddings", true);
  config.only("normalize_before", false);
  config.only("normalize_embedding", true);
  config.only("add_final_layer_norm", false);
  TransformerConfig c;
  c.vocab = config.size("vocab_size");
  c.dim = config.size("d_model");
  c.heads = config.size("encoder_attention_heads");
  c.mlp_dim = config.size("encoder_ffn_dim");
  config.only("decoder_attention_heads", c.heads);
  config.only("decoder_ffn_dim", c.mlp_dim);
  c.encoder_layers = config.size("encoder_layers");
  c.decoder_layers = config.size("decoder_layers");
  c.max_positions = config.size("max_position_embeddings", 1024);
  c.pad_id = config.size("pad_token_id", 1);
  c.positions = Positions::learned;
  c.dropout = config.number("dropout", 0.1);
  c.attention_dropout = config.number("attention_dropout", 0);
  c.activation_dropout = config.number("activation_dropout", 0);
  c.layer_drop = config.number("encoder_layerdrop", 0);
  c.activation = config.activation("activation_function");
  c.scale_embedding = config.flag("scale_embedding", false);
  c.embedding_norm = c.separate_positions = c.logits_bias = true;
  c.position_offset = kBartOffset;
  expect_weights(config, from,
                 {{"shared.weight", {c.vocab, c.dim}},
                  {"encoder.embed_positions.weight", {c.max_positions + kBartOffset, c.dim}},
                  {"decoder.embed_positions.weight", {c.max_positions + kBartOffset, c.dim}},
                  {"encoder.layers.0.fc1.weight", {c.mlp_dim, c.dim}}},
                 std::max(c.encoder_layers, c.decoder_layers));
  return c;
}

std::vector<std::string> save_pretrained(const TextEncoder& model, const std::string& folder,
                                         const SavePretrainedOptions& options) {
  const TextEncoderConfig& c = model.config();
  const std::string family = !options.family.empty() ? options.family
                             : c.position_offset > 0 ? "roberta"
                                                     : "bert";
  const bool roberta = family == "roberta";
  check<ConfigError>(roberta || family == "bert",
                     "save_pretrained: family: expected bert or roberta, got '{}'", family);
  const char* name = roberta ? "roberta" : "bert";
  const bool mean = c.pooling == Pooling::mean;
  const bool sentence = c.pooler == Pooler::none && (mean || options.labels.empty());
  expect(!c.norm_first, name, "norm_first");
  expect(options.of_tokens || sentence || (c.pooling == Pooling::cls && c.pooler == Pooler::tanh), name,
         "this pooling: expected cls with a pooler of tanh, or a sentence encoder's, without pooler");
  expect(c.position_offset == (roberta ? c.pad_id + 1 : 0), name, "this position_offset");
  Json json{{"model_type", family},
            {"vocab_size", c.vocab},
            {"type_vocab_size", c.segments},
            {"hidden_size", c.dim},
            {"num_attention_heads", c.heads},
            {"intermediate_size", c.mlp_dim},
            {"num_hidden_layers", c.layers},
            {"max_position_embeddings", c.max_positions + c.position_offset},
            {"pad_token_id", c.pad_id},
            {"hidden_act", activation_name(c.activation)},
            {"layer_norm_eps", c.norm_eps},
            {"hidden_dropout_prob", c.dropout},
            {"attention_probs_dropout_prob", c.attention_dropout},
            {"classifier_dropout", c.head_dropout.value_or(c.dropout)}};
  const std::string architecture = roberta ? "Roberta" : "Bert";
  nn::StateDict state = model.state_dict();
  const auto leave_out = [&](const char* start) {
    std::erase_if(state, [&](const nn::NamedTensor& tensor) { return tensor.name.starts_with(start); });
  };
  if (c.masked_lm_head) {
    json["architectures"] = {architecture + "ForMaskedLM"};
    leave_out("head."), leave_out("pooler.");
  } else if (options.of_tokens) {
    json["architectures"] = {architecture + "ForTokenClassification"};
    put_labels(json, options.labels, c.outputs);
    leave_out("pooler.");
  } else if (sentence) {
    json["architectures"] = {architecture + "Model"};
    leave_out("head.");
  } else {
    json["architectures"] = {architecture + "ForSequenceClassification"};
    if (c.outputs == 1) json["problem_type"] = "regression";
    put_labels(json, options.labels, c.outputs);
  }
  std::vector<std::string> files =
      write_pretrained(folder, roberta && options.of_tokens ? "roberta_tokens" : family, state, json,
                       sentence && !options.of_tokens);
  if (!sentence || options.of_tokens) return files;
  const auto module = [](int number, const char* path, const char* type) {
    return Json{{"idx", number},
                {"name", std::to_string(number)},
                {"path", path},
                {"type", std::string("sentence_transformers.models.") + type}};
  };
  std::filesystem::create_directories(folder + "/1_Pooling");
  data::write_file(folder + "/modules.json",
                   Json{module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")}.dump(2) + "\n");
  data::write_file(folder + "/1_Pooling/config.json", Json{{"word_embedding_dimension", c.dim},
                                                           {"pooling_mode_cls_token", !mean},
                                                           {"pooling_mode_mean_tokens", mean}}
                                                              .dump(2) +
                                                          "\n");
  files.insert(files.end(), {"modules.json", "1_Pooling/config.json"});
  return files;
}

std::vector<std::string> save_pretrained(const LanguageModel& model, const std::string& folder,
                                         const SavePretrainedOptions& options) {
  const LanguageModelConfig& c = model.config();
  check<ConfigError>(options.family.empty() || options.family == "gpt2",
                     "save_pretrained: family: expected gpt2, got '{}'", options.family);
  expect(c.positions == Positions::learned, "gpt2", "sinusoidal positions");
  expect(!c.scale_embedding, "gpt2", "embeddings multiplied by sqrt(dim)");
  expect(c.norm_first, "gpt2", "post-norm layers");
  expect(c.cutoffs.empty(), "gpt2", "an adaptive softmax");
  return write_pretrained(folder, "gpt2", model.state_dict(),
                          with_ids({{"model_type", "gpt2"},
                                    {"architectures", {"GPT2LMHeadModel"}},
                                    {"vocab_size", c.vocab},
                                    {"n_embd", c.dim},
                                    {"n_head", c.heads},
                                    {"n_layer", c.layers},
                                    {"n_inner", c.mlp_dim},
                                    {"n_positions", c.max_positions},
                                    {"activation_function", activation_name(c.activation)},
                                    {"resid_pdrop", c.dropout},
                                    {"embd_pdrop", c.dropout},
                                    {"attn_pdrop", c.attention_dropout},
                                    {"layer_norm_epsilon", c.norm_eps},
                                    {"tie_word_embeddings", c.tie_output}},
                                   options));
}

std::vector<std::string> save_pretrained(const Transformer& model, const std::string& folder,
                                         const SavePretrainedOptions& options) {
  const TransformerConfig& c = model.config();
  check<ConfigError>(options.family.empty() || options.family == "bart",
                     "save_pretrained: family: expected bart, got '{}'", options.family);
  expect(c.positions == Positions::learned && c.separate_positions, "bart",
         "positions that are not learned for each side");
  expect(c.target_vocab == 0 && c.tie_output, "bart", "two vocabularies, or an output layer of its own");
  expect(!c.norm_first && !c.final_norm && c.embedding_norm, "bart",
         "these norms: expected post-norm layers and embedding_norm");
  expect(!c.copy, "bart", "copying");
  expect(c.position_offset == kBartOffset && c.norm_eps == 1e-5, "bart", "this position_offset or norm_eps");
  return write_pretrained(folder, "bart", model.state_dict(),
                          with_ids({{"model_type", "bart"},
                                    {"architectures", {"BartForConditionalGeneration"}},
                                    {"vocab_size", c.vocab},
                                    {"d_model", c.dim},
                                    {"encoder_attention_heads", c.heads},
                                    {"decoder_attention_heads", c.heads},
                                    {"encoder_ffn_dim", c.mlp_dim},
                                    {"decoder_ffn_dim", c.mlp_dim},
                                    {"encoder_layers", c.encoder_layers},
                                    {"decoder_layers", c.decoder_layers},
                                    {"max_position_embeddings", c.max_positions},
                                    {"pad_token_id", c.pad_id},
                                    {"activation_function", activation_name(c.activation)},
                                    {"dropout", c.dropout},
                                    {"attention_dropout", c.attention_dropout},
                                    {"activation_dropout", c.activation_dropout},
                                    {"encoder_layerdrop", c.layer_drop},
                                    {"decoder_layerdrop", c.layer_drop},
                                    {"scale_embedding", c.scale_embedding},
                                    {"is_encoder_decoder", true},
                                    {"tie_word_embeddings", true}},
                                   options));
}

}  // namespace tandem::models
