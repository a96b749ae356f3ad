#include <algorithm>
#include <cstring>
#include <filesystem>

#include "nn/io/safetensors.h"
#include "tests/files.h"
#include "tests/testing.h"

namespace tandem::nn {
using namespace testing;
namespace {

std::string with_header(const std::string& header, const std::string& bytes = "") {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + bytes;
}

NamedTensors all_types() {
  NamedTensors tensors;
  for (const DType dtype :
       {DType::f32, DType::u8, DType::f64, DType::boolean, DType::bf16, DType::i32, DType::i64})
    tensors.push_back({fmt::format("of.{}", name_of(dtype)), normal({2, 3}, 5).to(dtype)});
  tensors.push_back({"scalar", scalar(4)});
  tensors.push_back({"empty", zeros({0, 3})});
  tensors.push_back({"transposed", normal({3, 2}, 6).t()});
  return tensors;
}

TEST_CASE("safetensors: what was saved is loaded, wide types first") {
  const Scratch scratch;
  const std::string file = scratch.file("model.safetensors");
  const NamedTensors saved = all_types();
  const Metadata metadata{{"epoch", "3"}, {"größe", "\"ü\"\n"}};
  save_safetensors(file, saved, metadata);
  const SafeTensors loaded = load_safetensors(file);
  CHECK(loaded.metadata == metadata);
  REQUIRE(loaded.tensors.size() == saved.size());
  for (const auto& [name, tensor] : saved) {
    const Tensor* found = find(loaded.tensors, name);
    REQUIRE(found);
    CHECK(found->dtype() == tensor.dtype());
    CHECK(found->shape() == tensor.shape());
    CHECK(values(*found) == values(tensor));
  }
  const auto narrower = [](const NamedTensor& a, const NamedTensor& b) {
    return size_of(a.tensor.dtype()) > size_of(b.tensor.dtype());
  };
  CHECK(std::is_sorted(loaded.tensors.begin(), loaded.tensors.end(), narrower));
  save_safetensors(file, {});
  CHECK(load_safetensors(file).tensors.empty());
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) ==
        1);  // nothing is left behind
}

TEST_CASE("safetensors: the bytes are those of the format") {
  const Scratch scratch;
  const std::string file = scratch.file("x.safetensors");
  save_safetensors(file, {{"x", tensor({1, -2})}}, {{"format", "pt"}});
  std::string header =
      R"({"__metadata__":{"format":"pt"},"x":{"data_offsets":[0,8],"dtype":"F32","shape":[2]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(bytes_of(file) == with_header(header, std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8)));
}

TEST_CASE("safetensors: halves are read as the f32 that they are") {
  const Scratch scratch;
  const std::string file = scratch.file("half.safetensors");
  const std::vector<std::pair<uint16_t, float>> halves{
      {0x0000, 0},        {0x8000, -0.0f},
      {0x0001, 0x1p-24f}, {0x83ff, -1023 * 0x1p-24f},
      {0x0400, 0x1p-14f}, {0x3555, 0.33325195f},
      {0x3c00, 1},        {0xc500, -5},
      {0x7bff, 65504},    {0x7c00, std::numeric_limits<float>::infinity()}};
  std::string bytes;
  for (const auto& [half, value] : halves) bytes.append(reinterpret_cast<const char*>(&half), 2);
  put(file, with_header(fmt::format(R"({{"x":{{"dtype":"F16","shape":[2,5],"data_offsets":[0,{}]}}}})",
                                      bytes.size()),
                          bytes));
  const Tensor x = load_safetensors(file, Alignment::any).tensors.at(0).tensor;
  CHECK(x.dtype() == DType::f32);
  CHECK(x.shape() == Shape{2, 5});
  const auto read = x.to_vector<float>();
  for (size_t i = 0; i < halves.size(); ++i)
    CHECK(std::bit_cast<uint32_t>(read[i]) == std::bit_cast<uint32_t>(halves[i].second));
  bytes = {'\x01', '\x7e'};  // not a number
  put(file, with_header(R"({"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", bytes));
  CHECK(std::isnan(load_safetensors(file, Alignment::any).tensors.at(0).tensor.item<float>()));
}

TEST_CASE("safetensors: names that cannot be saved leave the file alone") {
  const Scratch scratch;
  const std::string file = scratch.file("x.safetensors");
  save_safetensors(file, {{"x", ones({1})}});
  const std::string before = bytes_of(file);
  check_throws<ConfigError>("\"a\"", [&] { save_safetensors(file, {{"a", ones({1})}, {"a", ones({1})}}); });
  check_throws<ConfigError>("reserved", [&] { save_safetensors(file, {{"__metadata__", ones({1})}}); });
  check_throws<ConfigError>("not UTF-8", [&] { save_safetensors(file, {{"\xff", ones({1})}}); });
  check_throws<ConfigError>("undefined", [&] { save_safetensors(file, {{"a", Tensor()}}); });
  check_throws<ShapeError>("\"a\" differs between passes", [&] {
    save_safetensors(file, {{"a", empty({2}, {}, 3)}});
  });
  check_throws<IoError>("cannot be written", [&] { save_safetensors(scratch.file("no/folder"), {}); });
  CHECK(bytes_of(file) == before);
}

TEST_CASE("safetensors: a file that lies is an IoError naming file and position") {
  const Scratch scratch;
  const std::string file = scratch.file("bad.safetensors");
  const auto refused = [&](const std::string& bytes, const char* text) {
    put(file, bytes);
    const std::string message = message_of<IoError>([&] { load_safetensors(file); });
    CHECK_MESSAGE(contains(message, "safetensors: " + file + ": at byte "), message);
    CHECK_MESSAGE(contains(message, text), message);
  };
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"x":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  const std::string eight(8, '\0');
  refused("", "at byte 0: the file has 0 bytes, expected at least 8");
  refused(std::string(8, '\xff'), "a header of 18446744073709551615 bytes, expected 2 to 0");
  refused(std::string("\x03\0\0\0\0\0\0\0{}", 10), "a header of 3 bytes, expected 2 to 2");
  refused(with_header("[]"), "at byte 8: the header is not a JSON object");
  refused(with_header("{\"x\":}"), "at byte 14: the header is not JSON");
  refused(with_header("{\"x\":[[[[1]]]]}"), "nested deeper than 3 levels");
  refused(with_header("{\"x\":1}"), "\"x\": expected an object of dtype, shape and data_offsets");
  refused(with_header("{\"__metadata__\":{\"a\":1}}"), "__metadata__: \"a\": expected a string, got number");
  refused(with_header("{\"__metadata__\":[]}"), "__metadata__: expected an object, got array");
  refused(with_header(entry("\"F8_E4M3\"", "[8]", "[0,8]"), eight),
          "expected a dtype of F32, F64, F16, BF16, I32, I64, U8, BOOL, got F8_E4M3");
  refused(with_header(entry("\"F16\"", "[3]", "[0,8]"), eight), "f16[3] does not fit into the 8 bytes");
  refused(with_header(entry("7", "[4]", "[0,8]"), eight), "got number");
  refused(with_header(entry("\"F32\"", "[-2]", "[0,8]"), eight), "shape: expected a size, got number");
  refused(with_header(entry("\"F32\"", "[2.0]", "[0,8]"), eight), "shape: expected a size");
  refused(with_header(entry("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), eight), "at most 8 sizes");
  refused(with_header(entry("\"F32\"", "[3]", "[0,8]"), eight), "f32[3] does not fit into the 8 bytes");
  refused(with_header(entry("\"F32\"", "[4294967296,4294967298]", "[0,8]"), eight), "does not fit");
  refused(with_header(entry("\"F32\"", "[2]", "[8,0]"), eight),
          "data_offsets [8, 0], expected begin <= end <= 8");
  refused(with_header(entry("\"F32\"", "[4]", "[0,16]"), eight),
          "data_offsets [0, 16], expected begin <= end <= 8");
  refused(with_header(entry("\"F32\"", "[2]", "[0]"), eight), "expected [begin, end]");
  refused(with_header(entry("\"F32\"", "[1]", "[4,8]"), eight),
          "\"x\" begins at 4 of the data, expected 0 (a gap)");
  refused(with_header(entry("\"F32\"", "[1]", "[0,4]"), eight),
          "the data has 8 bytes, expected 4, where \"x\" ends");
  // No element, but sizes that no stride can count.
  refused(with_header(entry("\"F32\"", "[0,4611686018427387904,4]", "[0,0]")),
          "\"x\": f32[0,4611686018427387904,4] does not fit");
  const std::string x = R"("x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})",
                    y = R"("y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
  refused(with_header("{" + x + "," + y + "," + x + "}", eight), "\"x\" is given twice");
  refused(with_header(R"({"x":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", eight),
          "\"x\": \"shape\" is given twice");
  refused(with_header(R"({"__metadata__":{"a":"1","a":"2"},)" + x + "," + y + "}", eight),
          "\"__metadata__\": \"a\" is given twice");
  refused(with_header(R"({"__metadata__":{},"__metadata__":{},)" + x + "," + y + "}", eight),
          "is given twice");
  refused(with_header(entry("\"BOOL\"", "[8]", "[0,8]"), "\1\1\1\1\1\1\1\2"),
          "expected a BOOL of 0 or 1, got 2");
  refused(
      with_header(
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
          eight),
      "\"y\" begins at 4 of the data, expected 8 (an overlap)");
  check_throws<IoError>("there is no such file", [&] { load_safetensors(scratch.file("none")); });
}

TEST_CASE("safetensors: a tensor that is not aligned is named, or read where that is asked for") {
  const Scratch scratch;
  const std::string file = scratch.file("old.safetensors");
  put(file, with_header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                        std::string("\x07\x00\x00\x80\x3f", 5)));
  check_throws<IoError>("\"x\" begins at 1 of the data, expected a multiple of 4 for f32",
                        [&] { load_safetensors(file); });
  const SafeTensors loaded = load_safetensors(file, Alignment::any);
  CHECK(values(*find(loaded.tensors, "a")) == std::vector<double>{7});
  CHECK(values(*find(loaded.tensors, "x")) == std::vector<double>{1});
}

TEST_CASE("safetensors: cut anywhere or damaged anywhere") {
  const Scratch scratch;
  const std::string file = scratch.file("small.safetensors");
  save_safetensors(file, {{"a", tensor({1, 2})}, {"b", ones({3}, {DType::boolean})}}, {{"k", "v"}});
  CHECK(damage(file, [&] { load_safetensors(file); }) > 100);  // most of the header is not free
}

}  // namespace
}  // namespace tandem::nn
