#include "nn/data/photos/photo.h"

#include "autograd/error.h"
#include "nn/data/photos/formats.h"
#include "nn/data/photos/resample.h"
#include "tests/files.h"
#include "tests/nn/data/photo_files.h"

namespace tandem::data {
using namespace testing;

TEST_CASE("photos: every format, colour and orientation is decoded as by Pillow") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  int turned = 0;
  for (const Json& c : golden_photos().at("files")) {
    const std::string name = c.at("name");
    CAPTURE(name);
    put(file, from_hex(c.at("bytes")));
    const Photo expected = photo_of(c.at("size"), c.at("pixels"));
    const PhotoFile photo(file);
    CHECK(photo.info().height == expected.height);
    CHECK(photo.info().width == expected.width);
    turned += photo.info().orientation > 1;
    // Transparency is rounded differently over there.
    CHECK(largest_difference(photo.read(), expected) <= (name.starts_with("clear") ? 1 : 0));
    CHECK(inspect_photo(file).height == expected.height);
  }
  CHECK(turned == 9);
}

TEST_CASE("photos: a region has the pixels that the whole picture has there") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  for (const Json& c : golden_photos().at("files")) {
    const std::string name = c.at("name");
    CAPTURE(name);
    put(file, from_hex(c.at("bytes")));
    const PhotoFile photo(file);
    const Photo whole = photo.read();
    const int64_t h = whole.height, w = whole.width;
    for (const Region& region :
         {Region{0, 0, 1, 1}, Region{h - 1, w - 1, 1, 1}, Region{h / 2, w / 3, h / 3, w / 2},
          Region{0, w / 2, h, 2}, Region{h - 3, 0, 2, w}})
      CHECK(largest_difference(photo.read(region), cut(whole, region)) == 0);
    for (const Region& region :
         {Region{-1, 0, 1, 1}, Region{0, 0, h + 1, 1}, Region{0, w, 1, 1}, Region{0, 0, 0, 1}})
      check_throws<ValueError>("expected one inside of", [&] { photo.read(region); });
  }
}

TEST_CASE("photos: a JPEG is decoded at a fraction of its size") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  put(file, photo_bytes("baseline"));
  const PhotoFile photo(file);
  for (const int64_t reduce : {2, 4, 8}) {
    CAPTURE(reduce);
    const Photo small = photo.read({8, 8, 24, 32}, reduce);
    CHECK(small.height == 24 / reduce);
    CHECK(small.width == 32 / reduce);
    const Photo by_hand =
        resize(photo.read({8, 8, 24, 32}), small.height, small.width, Interpolation::bilinear);
    double sum = 0;
    for (size_t i = 0; i < small.pixels.size(); ++i)
      if (i % 4 < 3) sum += std::abs(small.pixels[i] - by_hand.pixels[i]);
    CHECK(sum / static_cast<double>(small.pixels.size()) < 16);
  }
  check_throws<ValueError>("reduce is 3, expected 1, 2, 4 or 8", [&] { photo.read({0, 0, 8, 8}, 3); });
}

TEST_CASE("photos: damaged files are named, whatever the damage") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  for (const char* name :
       {"baseline", "progressive", "grey JPEG", "WebP", "lossless WebP", "palette PNG", "turned 6 WebP"}) {
    CAPTURE(name);
    put(file, photo_bytes(name));
    const auto read = [&] { PhotoFile(file).read(); };
    CHECK(message_of<Error>(read) == kNothingThrown);
    CHECK(damage(file, read) > 20);
    const std::string whole = bytes_of(file);
    put(file, whole.substr(0, whole.size() / 2));
    CHECK(contains(message_of<IoError>([&] { inspect_photo(file); }), file));
  }
}

TEST_CASE("photos: what is no picture, and what takes too much memory") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  const auto says = [&](const std::string& bytes, const std::string& part) {
    put(file, bytes);
    check_throws<IoError>(part, [&] { PhotoFile{file}; });
    check_throws<IoError>(part, [&] { inspect_photo(file); });
  };
  says("", "the file is empty, expected a JPEG, PNG or WebP file");
  says("GIF89a", "not a picture, expected a JPEG, PNG or WebP file");
  check_throws<IoError>("there is no such file", [&] { PhotoFile(scratch.file("none")); });
  check_throws<IoError>("not a regular file", [&] { PhotoFile(scratch.path()); });
  // The size in the header (SOF: marker, length, depth, height, width), changed.
  std::string jpeg = photo_bytes("baseline");
  const size_t sof = jpeg.find("\xff\xc0");
  REQUIRE(sof != jpeg.npos);
  const auto sized = [&](int height, int width) {
    std::string bytes = jpeg;
    for (const auto& [at, value] : {std::pair{5, height}, {7, width}})
      bytes[sof + at] = static_cast<char>(value >> 8), bytes[sof + at + 1] = static_cast<char>(value);
    return bytes;
  };
  says(sized(60000, 60000), "60000x60000 pixels, expected 1 to 65535 on a side, and at most 134 million");
  says(sized(11000, 11000), "bytes cannot fill 11000x11000 pixels");
  put(file, sized(400, 45));
  check_throws<IoError>("corrupt JPEG", [&] { PhotoFile(file).read(); });
}

TEST_CASE("photos: EXIF that is cut short, or nonsense, turns nothing") {
  using namespace std::string_literals;
  const std::string big = "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"s,
                    little = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0"s;
  CHECK(exif_orientation(big) == 6);
  CHECK(exif_orientation(little) == 8);
  for (size_t size = 0; size < little.size(); ++size)
    CHECK(exif_orientation(std::string_view(little).substr(0, size)) == 1);
  for (size_t at = 0; at < big.size(); ++at) {
    std::string changed = big;
    changed[at] = static_cast<char>(changed[at] ^ 0xff);
    const int orientation = exif_orientation(changed);
    CHECK((orientation >= 1 && orientation <= 8));
  }
  CHECK(exif_orientation("II*\0\xff\xff\xff\xff\x01\0"s) == 1);
}

TEST_CASE("photos: resizing gives Pillow's pixels, for every size and shape") {
  const Json& photos = golden_photos();
  const Photo photo = photo_of(photos.at("photo").at("size"), photos.at("photo").at("pixels"));
  int cases = 0;
  for (const Json& c : photos.at("resized")) {
    const auto crop = c.at("crop").get<std::vector<int64_t>>(),
               size = c.at("size").get<std::vector<int64_t>>();
    CAPTURE(crop);
    CAPTURE(size);
    const Photo found = resize(cut(photo, {crop[0], crop[1], crop[2], crop[3]}), size[0], size[1],
                               parse_interpolation(c.at("interpolation").get<std::string>()));
    CHECK(largest_difference(found, photo_of(c.at("size"), c.at("pixels"))) == 0);
    ++cases;
  }
  CHECK(cases == 36);
  CHECK(largest_difference(resize(photo, 33, 41, Interpolation::bicubic), photo) == 0);
  check_throws<ValueError>("expected a size of 1 to", [&] { resize(photo, 0, 5, Interpolation::bilinear); });
  check_throws<ValueError>("are no photo of 5x4 pixels", [] {
    resize({4, 5, {}}, 2, 2, Interpolation::bilinear);
  });
  check_throws<ConfigError>("interpolation: expected bilinear or bicubic, got 'nearest'",
                            [] { parse_interpolation("nearest"); });
}

}  // namespace tandem::data
