#include <png.h>
#include <zlib.h>

#include <numeric>

#include "nn/data/photos/formats.h"
#include "nn/data/png.h"
#include "tests/files.h"

namespace tandem::data {
using namespace testing;
namespace {

Image ramp(int64_t channels, int64_t height, int64_t width) {
  Image image{.channels = channels, .height = height, .width = width, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(channels * height * width));
  for (size_t i = 0; i < image.pixels.size(); i++) image.pixels[i] = static_cast<uint8_t>(i * 37 + 11);
  return image;
}

std::string word(size_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

std::string chunk(const std::string& name, const std::string& data) {
  const std::string checked = name + data;
  const auto sum =
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size()));
  return word(data.size()) + checked + word(sum);
}

std::string deflated(const std::string& bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  REQUIRE(compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                   bytes.size()) == Z_OK);
  return out.substr(0, size);
}

// A PNG made by hand: `rows` are the unfiltered scanlines, each behind its filter byte.
std::string png_bytes(size_t width, size_t height, int depth, int type, const std::string& rows,
                      const std::string& before_data = {}) {
  const std::string header = word(width) + word(height) + static_cast<char>(depth) + static_cast<char>(type);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header + std::string(3, '\0')) + before_data +
         chunk("IDAT", deflated(rows)) + chunk("IEND", "");
}

struct OneFile : Scratch {
  std::string png = file("a.png");
  std::string error() const {
    return message_of<IoError>([&] { read_png(png); });
  }
};

TEST_CASE("png: written and read back, grey and RGB") {
  OneFile scratch;
  for (const int64_t channels : {1, 3}) {
    const Image image = ramp(channels, 5, 7);
    write_png(scratch.png, image);
    const PngInfo info = read_png_info(scratch.png);
    CHECK(info.height == 5);
    CHECK(info.width == 7);
    CHECK(info.is_gray == (channels == 1));
    const Image back = read_png(scratch.png);
    CHECK(back.channels == channels);
    CHECK(back.height == 5);
    CHECK(back.width == 7);
    CHECK(back.pixels == image.pixels);
  }
}

TEST_CASE("png: grey and RGB on demand") {
  OneFile scratch;
  const Image gray = ramp(1, 3, 4);
  write_png(scratch.png, gray);
  const Image as_rgb = read_png(scratch.png, PngColor::kRgb);
  CHECK(as_rgb.channels == 3);
  for (size_t i = 0; i < as_rgb.pixels.size(); i++) CHECK(as_rgb.pixels[i] == gray.pixels[i % 12]);
  write_png(scratch.png, as_rgb);
  CHECK(read_png(scratch.png, PngColor::kGray).pixels == gray.pixels);
}

TEST_CASE("png: other kinds of files") {
  OneFile scratch;
  using Pixels = std::vector<uint8_t>;
  SUBCASE("16 bits are rounded to 8") {
    write_file(scratch.png, png_bytes(3, 1, 16, 0, std::string("\0\x80\x80\x01\x82\x00\x7f", 7)));
    CHECK(read_png(scratch.png).pixels == Pixels{0x80, 0x02, 0x00});
  }
  SUBCASE("1 bit") {
    write_file(scratch.png, png_bytes(9, 1, 1, 0, std::string("\0\xa0\x80", 3)));
    CHECK(read_png(scratch.png).pixels == Pixels{255, 0, 255, 0, 0, 0, 0, 0, 255});
  }
  SUBCASE("a palette is RGB") {
    write_file(scratch.png, png_bytes(2, 1, 8, 3, std::string("\0\1\0", 3), chunk("PLTE", "abcdef")));
    const Image image = read_png(scratch.png);
    CHECK(image.channels == 3);
    CHECK(std::string(image.pixels.begin(), image.pixels.end()) == "daebfc");
  }
  SUBCASE("transparency is laid over white") {
    write_file(scratch.png, png_bytes(2, 1, 8, 6, std::string("\0\x10\x20\x30\xff\x10\x20\x30\x00", 9)));
    CHECK(read_png(scratch.png).pixels == Pixels{0x10, 255, 0x20, 255, 0x30, 255});
    write_file(scratch.png, png_bytes(2, 1, 8, 4, std::string("\0\x10\xff\x10\x00", 5)));
    CHECK(read_png(scratch.png).pixels == Pixels{0x10, 255});
  }
}

TEST_CASE("png: pixels are those that are stored, whatever is said of gamma and colours") {
  OneFile scratch;
  std::string profile = "icc";
  profile += std::string(2, '\0') + deflated("no profile at all");
  std::string colors;
  for (const size_t value : {31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000}) colors += word(value);
  const std::string said[] = {chunk("gAMA", word(100000)),
                              chunk("gAMA", word(45455)),
                              chunk("gAMA", word(100000)) + chunk("cHRM", colors),
                              chunk("sRGB", std::string(1, '\0')),
                              chunk("tEXt", std::string("a\0b", 3)) + chunk("gAMA", word(220000)),
                              chunk("iCCP", profile)};
  const std::string rows("\0\x10\x80\xf0\x40\x20\x77\xaa\x05", 9);  // behind the filter's byte
  for (const auto& form : {std::tuple{8, 0, 8}, {16, 0, 4}, {8, 6, 2}, {16, 6, 1}, {4, 0, 16}}) {
    const int depth = std::get<0>(form), type = std::get<1>(form), width = std::get<2>(form);
    INFO(depth, " bits, type ", type);
    const auto read = [&](const std::string& before) {
      write_file(scratch.png, png_bytes(width, 1, depth, type, rows, before));
      std::vector<uint8_t> pixels = decode_png(scratch.png, bytes_of(scratch.png), {0, 0, 1, width}).pixels;
      for (const PngColor color : {PngColor::kGray, PngColor::kRgb})
        for (const uint8_t value : read_png(scratch.png, color).pixels) pixels.push_back(value);
      return pixels;
    };
    const std::vector<uint8_t> plain = read("");
    for (const std::string& chunks : said) CHECK(read(chunks) == plain);
  }
  write_file(scratch.png, png_bytes(8, 1, 8, 0, rows, chunk("gAMA", word(100000))));
  CHECK(read_png(scratch.png).pixels == std::vector<uint8_t>{0x10, 0x80, 0xf0, 0x40, 0x20, 0x77, 0xaa, 0x05});
}

TEST_CASE("png: what is wrong is named") {
  OneFile scratch;
  SUBCASE("not a PNG") {
    write_file(scratch.png, "GIF89a and so on, long enough for a header of 33 bytes");
    CHECK(scratch.error() == "read_png: " + scratch.png + ": not a PNG file");
  }
  SUBCASE("too large, before memory is taken") {
    write_file(scratch.png, png_bytes(16385, 1, 8, 0, "x"));
    CHECK(contains(scratch.error(), scratch.png + ": size is 16385x1, expected 1 to 16384 on a side"));
  }
  SUBCASE("a size that the data cannot fill, before memory is taken") {
    write_file(scratch.png, png_bytes(16384, 16384, 16, 6, "x"));
    CHECK(contains(scratch.error(), "bytes of picture data cannot fill 16384x16384 pixels"));
  }
  SUBCASE("too few rows") {
    write_file(scratch.png, png_bytes(2, 2, 8, 0, std::string("\0ab", 3)));
    CHECK(contains(scratch.error(), scratch.png + ": corrupt: "));
  }
  SUBCASE("a bit depth that does not exist") {
    write_file(scratch.png, png_bytes(1, 1, 7, 0, std::string("\0a", 2)));
    CHECK(contains(scratch.error(), scratch.png + ": corrupt: "));
  }
  SUBCASE("a palette that is missing") {
    write_file(scratch.png, png_bytes(2, 1, 8, 3, std::string("\0\1\0", 3)));
    CHECK(contains(scratch.error(), scratch.png + ": corrupt: "));
  }
  SUBCASE("a flipped bit") {
    std::string bytes = png_bytes(2, 1, 8, 0, std::string("\0ab", 3));
    bytes[bytes.size() - 20] ^= 1;
    write_file(scratch.png, bytes);
    CHECK(contains(scratch.error(), "corrupt: the chunk at byte 33 has checksum"));
  }
  SUBCASE("no file") { CHECK(contains(scratch.error(), scratch.png + ": there is no such file")); }
  SUBCASE("an image that cannot be written") {
    CHECK_THROWS_AS(write_png(scratch.png, {.channels = 2, .height = 1, .width = 1, .pixels = {0, 0}}),
                    ValueError);
    CHECK_THROWS_AS(write_png(scratch.png, {.channels = 1, .height = 2, .width = 2, .pixels = {0}}),
                    ValueError);
    CHECK(!std::filesystem::exists(scratch.png));
  }
}

TEST_CASE("png: damaged files are errors, never crashes") {
  OneFile scratch;
  const auto read = [&] { read_png(scratch.png); };
  for (const int64_t channels : {1, 3}) {
    write_png(scratch.png, ramp(channels, 3, 2));
    const auto size = static_cast<int>(bytes_of(scratch.png).size());
    CHECK(damage(scratch.png, read) == 3 * size);  // every byte is under a checksum
  }
}

TEST_CASE("png: damage behind correct checksums is an error or a picture, never a crash") {
  OneFile scratch;
  std::string rows;
  for (int row = 0; row < 4; row++) rows += static_cast<char>(row) + std::string("pixels of a row!");
  const std::string data = deflated(rows);
  int read = 0, refused = 0;
  const auto attempt = [&](const std::string& header, const std::string& body) {
    put(scratch.png, "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", body) + chunk("IEND", ""));
    (scratch.error() == kNothingThrown ? read : refused)++;
  };
  const std::string header = word(4) + word(4) + std::string("\10\6\0\0\0", 5);
  attempt(header, data);
  CHECK(read == 1);
  for (int flip = 1; flip < 256; flip++) {
    for (size_t at = 0; at < header.size(); at++) {
      std::string changed = header;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      attempt(changed, data);
    }
  }
  for (size_t at = 0; at < data.size(); at++) {
    for (const int flip : {0x01, 0x10, 0x80, 0xff}) {
      std::string changed = data;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      attempt(header, changed);
    }
    attempt(header, data.substr(0, at));
  }
  CHECK(refused > 1000);
}

}  // namespace
}  // namespace tandem::data
