#include "tests/testing.h"
#include "tools/tandem/checkpoint.h"

namespace tandem::command {
using namespace testing;
namespace {

Run run_with(const std::string& entry) {
  return {"run", "run/best.safetensors", "vit", {}, {{"entry", entry}}, {}};
}

TEST_CASE("checkpoint: a configuration that would not be written as it reads is refused") {
  const auto read = [](const std::string& from, const std::string& to) {
    std::string text = to_json(models::TransformerConfig{});
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    Run run = run_with("");
    run.metadata["config"] = text.replace(at, from.size(), to);
    return message_of<IoError>([&] { run.model<models::Transformer>(); });
  };
  CHECK(contains(read("\"heads\":4", "\"heads\":2.5"), "heads: 2.5 is none of its values"));
  CHECK(contains(read("\"heads\":4", "\"heads\":1e300"), "expected numbers below 2^62, got 1e+300"));
  CHECK(contains(read("\"heads\":4", "\"heads\":true"), "damaged: expected a model's configuration"));
  CHECK(contains(read("\"heads\":4", "\"heads\":18446744073709551615"), "expected numbers below 2^62"));
  CHECK(contains(read("\"sinusoidal\"", "\"circular\""), "positions: \"circular\" is none of its values"));
  CHECK(contains(read("\"heads\":4", "\"heads\":4"), "has no 'vocabulary'"));  // all of it was read
}

TEST_CASE("checkpoint: lists and numbers of the metadata") {
  CHECK(run_with("[0.5, 1]").entry_as<std::vector<double>>("entry") == std::vector<double>{0.5, 1});
  CHECK(run_with("2").entry_as<int64_t>("entry") == 2);
  CHECK(contains(message_of<IoError>([] { run_with("2.5").entry_as<int64_t>("entry"); }),
                 "entry: 2.5 is none"));
  CHECK(contains(message_of<IoError>([] { run_with("[true]").entry_as<std::vector<double>>("entry"); }),
                 "its 'entry' is damaged: expected a list of numbers, got '[true]'"));
}

}  // namespace
}  // namespace tandem::command
