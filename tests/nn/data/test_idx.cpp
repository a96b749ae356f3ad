#include <zlib.h>

#include "nn/data/fashion_mnist.h"
#include "nn/data/idx.h"
#include "tests/files.h"

namespace tandem::data {
using namespace testing;
namespace {

std::string word(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

const std::string kImages = word(0x803) + word(3) + word(2) + word(2) + "abcdefghijkl";
const std::string kLabels = word(0x801) + word(3) + std::string("\2\0\1", 3);
const std::vector<std::string> kClasses{"x", "y", "z"};

void write_gzip(const std::string& file, const std::string& bytes) {
  gzFile out = gzopen(file.c_str(), "wb9");
  REQUIRE(gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
  REQUIRE(gzclose(out) == Z_OK);
}

struct Pair : Scratch {
  std::string images = file("images"), labels = file("labels");
  Pair() {
    write_file(images, kImages);
    write_file(labels, kLabels);
  }
  std::string error() const {
    return message_of<IoError>([&] { read_idx(images, labels, kClasses); });
  }
};

TEST_CASE("idx: images and labels, plain and gzip-compressed") {
  Pair pair;
  for (const bool compressed : {false, true}) {
    if (compressed) {
      write_gzip(pair.images, kImages);
      write_gzip(pair.labels, kLabels);
    }
    const ImageSet set = read_idx(pair.images, pair.labels, kClasses);
    CHECK(set.count == 3);
    CHECK(set.channels == 1);
    CHECK(set.height == 2);
    CHECK(set.width == 2);
    CHECK(std::string(set.pixels.begin(), set.pixels.end()) == "abcdefghijkl");
    CHECK(set.labels == std::vector<int64_t>{2, 0, 1});
    CHECK(set.classes == kClasses);
  }
}

TEST_CASE("idx: what is wrong is named with its place") {
  Pair pair;
  SUBCASE("a label that is no class") {
    write_file(pair.labels, word(0x801) + word(3) + std::string("\2\3\1", 3));
    CHECK(pair.error() == "read_idx: " + pair.labels + ": label 1 at byte 9 is 3, expected 0 to 2");
  }
  SUBCASE("counts that differ") {
    write_file(pair.labels, word(0x801) + word(2) + std::string("\2\1", 2));
    CHECK(pair.error() == "read_idx: " + pair.images + ": 3 images, but 2 labels in " + pair.labels);
  }
  SUBCASE("files handed over in the wrong order") {
    check_throws<IoError>(pair.images + ": at byte 0: magic number is 00000803, expected 00000801",
                          [&] { read_idx(pair.labels, pair.images, kClasses); });
  }
  SUBCASE("another element type") {
    write_file(pair.images, word(0xd03) + kImages.substr(4));
    CHECK(
        contains(pair.error(), "magic number is 00000d03, expected 00000803 (unsigned bytes, 3 dimensions)"));
  }
  SUBCASE("trailing bytes, plain") {
    write_file(pair.images, kImages + "?");
    CHECK(contains(pair.error(), "13 bytes follow the header (from byte 16), expected 12"));
  }
  SUBCASE("trailing bytes, compressed") {
    write_gzip(pair.images, kImages + "?");
    CHECK(contains(pair.error(), "trailing bytes from byte 28, expected the end"));
  }
  SUBCASE("elements missing inside a sound gzip file") {
    write_gzip(pair.images, kImages.substr(0, 20));
    CHECK(contains(pair.error(), "ends at byte 20: expected 8 more bytes of elements"));
  }
  SUBCASE("sizes no file could hold take no memory") {
    const std::string header = word(0x803) + word(0xffff) + word(0xffff) + word(0xffff);
    write_gzip(pair.images, header + "abc");
    CHECK(contains(pair.error(), "more than its"));
    write_file(pair.images, word(0x803) + word(0xffffffff) + word(0xffffffff) + word(0xffffffff) + "abc");
    CHECK(contains(pair.error(), "at byte 8: size 4294967295 of dimension 1 is not possible"));
  }
  SUBCASE("no images") {
    write_file(pair.labels, word(0x801) + word(0));
    CHECK(contains(pair.error(), "at byte 4: size 0 of dimension 0"));
  }
  SUBCASE("no file, and a folder") {
    std::filesystem::remove(pair.images);
    CHECK(contains(pair.error(), pair.images + ": there is no such file"));
    std::filesystem::create_directory(pair.images);
    CHECK(contains(pair.error(), pair.images + ": not a regular file"));
  }
}

TEST_CASE("idx: damaged files are errors, never crashes") {
  Pair pair;
  const auto read = [&] { read_idx(pair.images, pair.labels, kClasses); };
  CHECK(damage(pair.images, read) == 3 * 16);  // the header: any change of it is noticed
  CHECK(damage(pair.labels, read) >= 3 * 8);
  write_gzip(pair.images, kImages);
  const auto size = static_cast<int>(bytes_of(pair.images).size());
  CHECK(damage(pair.images, read) > 3 * (size - 8));  // of its header, time and system carry no check
}

TEST_CASE("fashion_mnist_sources: files of a folder come first") {
  Scratch scratch;
  const std::string dir = scratch.folder("data");
  write_file(dir + "/train-images-idx3-ubyte", kImages);
  write_gzip(dir + "/train-labels-idx1-ubyte.gz", kLabels);
  write_gzip(dir + "/t10k-images-idx3-ubyte.gz", kImages);
  write_file(dir + "/t10k-labels-idx1-ubyte", kLabels);
  const ImageSplits splits = fashion_mnist_sources(dir);
  CHECK(splits.train.count == 3);
  CHECK(splits.test.labels == std::vector<int64_t>{2, 0, 1});
  CHECK(splits.train.classes.size() == 10);
  CHECK(splits.train.classes.front() == "T-shirt/top");
  CHECK(splits.train.classes.back() == "Ankle boot");
}

TEST_CASE("fashion_mnist_sources: where files are missing, the error names them and the command") {
  if (has_fashion_mnist(kFashionMnistInstalled)) return;
  Scratch scratch;
  const std::string dir = scratch.folder("empty"),
                    message = message_of<IoError>([&] { fashion_mnist_sources(dir); });
  CHECK_MESSAGE(contains(message, "t10k-labels-idx1-ubyte"), message);
  CHECK_MESSAGE(contains(message, "tandem data fashion-mnist " + dir), message);
}

}  // namespace
}  // namespace tandem::data
