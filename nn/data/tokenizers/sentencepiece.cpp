#include "nn/data/tokenizers/sentencepiece.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <charconv>
#include <optional>
#include <unordered_map>

#include "autograd/error.h"

namespace tandem::data {
namespace {

// What it says, without the place in its source: "file.cc(660) [condition] Vocabulary size too high ...".
std::string reason(const sentencepiece::util::Status& status) {
  const std::string message = status.message();
  const size_t condition = message.rfind("] ");
  return condition == std::string::npos ? message : message.substr(condition + 2);
}

// The number behind `words` in a message: of SentencePiece's, the only place where it says a size that fits.
std::optional<int64_t> number_behind(const std::string& message, std::string_view words) {
  const size_t at = message.find(words);
  int64_t number = 0;
  if (at == std::string::npos) return std::nullopt;
  const char *begin = message.data() + at + words.size(), *end = message.data() + message.size();
  return std::from_chars(begin, end, number).ec == std::errc() ? std::optional(number) : std::nullopt;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    out.append(text.substr(at, found - at));
    if (found == std::string_view::npos) return out;
    out.append(to);
    at = found + from.size();
  }
}

// SentencePiece writes a blank as U+2581, so a text's own U+2581 would come back as a blank: it has another
// name inside, of a noncharacter and a letter, as the noncharacter itself has.
constexpr std::string_view kBlank = "\u2581", kEscape = "\uFDD0", kEscapedBlank = "\uFDD0b",
                           kEscapedEscape = "\uFDD0e";
std::string escaped(std::string_view text) {
  return replaced(replaced(text, kEscape, kEscapedEscape), kBlank, kEscapedBlank);
}
std::string unescaped(std::string_view inner) {
  return replaced(replaced(inner, kEscapedBlank, kBlank), kEscapedEscape, kEscape);
}

// What the trainer is given of a line: it leaves lines out that hold one of two characters of its own, and
// ends the process at a word of 65,536 characters, so those become blanks, and words of this many characters
// several lines.
constexpr size_t kLongestWord = 20'000;
void add_training_lines(const std::string& line, std::vector<std::string>& lines) {
  const std::string inner = replaced(replaced(escaped(line), "\t", " "), "\u2585", " ");
  size_t begin = 0, characters = 0;
  for (size_t i = 0; i < inner.size(); ++i) {
    if (inner[i] == ' ') characters = 0;
    if ((inner[i] & 0xC0) == 0x80 || ++characters <= kLongestWord) continue;
    lines.push_back(inner.substr(begin, i - begin));
    begin = i, characters = 1;
  }
  lines.push_back(inner.substr(begin));
}

// The fields of a message in protobuf's wire format, one after another.
class Fields {
 public:
  Fields(std::string_view message, const std::string& name) : rest_(message), name_(name) {}

  // Goes to the next field; false after the last. `bytes` are those of a string or message.
  bool next(uint64_t& number, std::string_view& bytes) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    const auto kind = static_cast<int>(tag & 7);
    number = tag >> 3;
    bytes = {};
    check<IoError>(tag <= UINT32_MAX && (kind <= 2 || kind == 5), kDamaged, name_);
    if (kind == 0) {
      varint();
    } else {
      bytes = take(kind == 1 ? 8 : kind == 5 ? 4 : varint());
    }
    return true;
  }

 private:
  static constexpr char kDamaged[] = "{}: not a SentencePiece model: it is damaged or cut short";

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= shift < 64 ? uint64_t{byte & 0x7Fu} << shift : 0;
      if (byte < 0x80) return value;
    }
    raise<IoError>(kDamaged, name_);
  }
  std::string_view take(uint64_t count) {
    check<IoError>(count <= rest_.size(), kDamaged, name_);
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  const std::string& name_;
};

// SentencePiece follows the offsets in a model's table of replacements wherever they lead. A vocabulary of
// ours has no such table: text is taken as it is.
void check_takes_text_as_it_is(std::string_view model, const std::string& name) {
  constexpr uint64_t kNormalizer = 3, kDenormalizer = 5, kTable = 2;
  uint64_t number = 0, inner_number = 0;
  std::string_view part, table;
  for (Fields fields(model, name); fields.next(number, part);) {
    if (number != kNormalizer && number != kDenormalizer) continue;
    for (Fields inner(part, name); inner.next(inner_number, table);)
      check<IoError>(inner_number != kTable || table.empty(),
                     "{}: it replaces characters of the text, expected normalization 'identity'", name);
  }
}

class Lines final : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  size_t at_ = 0;
};

// A model with our special ids.
class SentencePiece final : public Tokenizer {
 public:
  SentencePiece(const std::string& model, const std::string& name) {
    check_takes_text_as_it_is(model, name);
    static constexpr char kNoModel[] = "{}: not a SentencePiece model";
    try {
      check<IoError>(processor_.LoadFromSerializedProto(model).ok(), kNoModel, name);
    } catch (const Error&) {
      throw;
    } catch (const std::exception&) {  // of its table of pieces
      raise<IoError>(kNoModel, name);
    }
    const auto& p = processor_;
    const auto mask = static_cast<int>(special.mask);
    check<IoError>(p.pad_id() == special.pad && p.unk_id() == special.unk && p.bos_id() == special.bos &&
                       p.eos_id() == special.eos && p.GetPieceSize() > mask && p.IsControl(mask),
                   "{}: expected the ids pad 0, unk 1, bos 2, eos 3 and mask 4, got {}, {}, {}, {} and {}",
                   name, p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id(),
                   p.GetPieceSize() > mask ? p.IdToPiece(mask) : "none");
  }

  Ids encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode(escaped(text), &ids);
    check<ValueError>(status.ok(), "vocabulary: encode: {}", status.message());
    return {ids.begin(), ids.end()};
  }
  std::string decode(std::span<const int64_t> ids) const override {
    std::vector<int> pieces;
    for (int64_t id : ids)
      if (id == special.unk || !special.contains(id)) pieces.push_back(static_cast<int>(id));
    std::string text;
    const auto status = processor_.Decode(pieces, &text);
    check<ValueError>(status.ok(), "vocabulary: decode: {}", status.message());
    return unescaped(text);
  }
  std::string piece(int64_t id) const override { return processor_.IdToPiece(static_cast<int>(id)); }
  int64_t size() const override { return processor_.GetPieceSize(); }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::shared_ptr<const Tokenizer> read_sentencepiece(const std::string& model, const std::string& name) {
  return std::make_shared<SentencePiece>(model, name);
}

std::string train_sentencepiece(const std::vector<std::string>& lines, const VocabularyOptions& options) {
  const SpecialIds special;
  const int64_t mask = special.mask;
  check<ConfigError>(options.kind == "bpe" || options.kind == "unigram",
                     "vocab: kind: expected bpe or unigram, got '{}'", options.kind);
  check<ConfigError>(options.size > mask + 1 && options.size < (1 << 24),
                     "vocab: size: expected {} to {}, got {}", mask + 2, 1 << 24, options.size);
  check<ConfigError>(options.coverage > 0 && options.coverage <= 1,
                     "vocab: coverage: expected a number in (0, 1], got {}", options.coverage);
  check<ValueError>(!lines.empty(), "vocabulary: no lines to train on");
  constexpr int kLongest = 1 << 30;  // bytes of a line; longer ones would be left out silently
  std::unordered_map<std::string, std::string> arguments{
      {"model_type", options.kind},
      {"character_coverage", fmt::format("{}", options.coverage)},
      {"pad_id", std::to_string(special.pad)},
      {"unk_id", std::to_string(special.unk)},
      {"bos_id", std::to_string(special.bos)},
      {"eos_id", std::to_string(special.eos)},
      {"control_symbols", "<mask>"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"max_sentence_length", std::to_string(kLongest)},
      {"num_threads", "1"},
      {"minloglevel", "3"},
  };
  std::vector<std::string> prepared;
  for (const std::string& line : lines) add_training_lines(line, prepared);
  for (int64_t size = options.size;;) {
    arguments["vocab_size"] = std::to_string(size);
    Lines sentences(prepared);
    std::string bytes;
    const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &sentences, &bytes);
    if (status.ok()) return bytes;
    const std::string message = reason(status);
    if (const auto least = number_behind(message, fmt::format("required_chars. {} vs ", size)))
      raise<ConfigError>("vocab: size: expected at least {}, the characters of this text, got {}", *least,
                         size);
    const auto most = number_behind(message, "value <= ");
    check<ValueError>(most && *most > mask && *most < size, "vocab: size {}: {}", size, message);
    size = *most;
  }
}

}  // namespace tandem::data
