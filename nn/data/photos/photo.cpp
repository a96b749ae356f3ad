#include "nn/data/photos/photo.h"

#include <algorithm>
#include <cstring>

#include "autograd/error.h"
#include "nn/data/photos/formats.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;
constexpr int64_t kMaxSide = 65535;
constexpr int64_t kHeaderBytes = 64 << 10;  // in which most headers are

PhotoFormat format_of(const std::string& file, std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8\xff")) return PhotoFormat::jpeg;
  if (bytes.starts_with("\x89PNG")) return PhotoFormat::png;
  if (bytes.starts_with("RIFF") && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP")
    return PhotoFormat::webp;
  raise<IoError>("{}: {}, expected a JPEG, PNG or WebP file", file,
                 bytes.empty() ? "the file is empty" : "not a picture");
}

PhotoInfo header(const std::string& file, std::string_view bytes, int64_t whole) {
  const PhotoFormat format = format_of(file, bytes);
  const StoredInfo stored = format == PhotoFormat::jpeg   ? read_jpeg_header(file, bytes, whole)
                            : format == PhotoFormat::webp ? read_webp_header(file, bytes, whole)
                                                          : read_png_header(file, bytes, whole);
  PhotoInfo info{format, stored.height, stored.width, stored.orientation};
  if (info.orientation > 4) std::swap(info.height, info.width);
  return info;
}

// How the upright picture's rows and columns are those of the stored one.
struct Turn {
  explicit Turn(int orientation)
      : swaps(orientation > 4),
        flips_rows(orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7),
        flips_columns(orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {}
  bool swaps, flips_rows, flips_columns;  // of the stored picture

  // The region in stored coordinates, of a stored picture of that size.
  Region stored(Region region, int64_t height, int64_t width) const {
    if (swaps) std::swap(region.top, region.left), std::swap(region.height, region.width);
    if (flips_rows) region.top = height - region.top - region.height;
    if (flips_columns) region.left = width - region.left - region.width;
    return region;
  }

  Photo upright(Photo photo) const {
    if (!swaps && !flips_rows && !flips_columns) return photo;
    Photo turned{photo.height, photo.width, std::vector<uint8_t>(photo.pixels.size())};
    if (swaps) std::swap(turned.height, turned.width);
    for (int64_t y = 0; y < turned.height; ++y) {
      for (int64_t x = 0; x < turned.width; ++x) {
        int64_t row = swaps ? x : y, column = swaps ? y : x;
        if (flips_rows) row = photo.height - 1 - row;
        if (flips_columns) column = photo.width - 1 - column;
        std::memcpy(&turned.pixels[static_cast<size_t>((y * turned.width + x) * 4)],
                    &photo.pixels[static_cast<size_t>((row * photo.width + column) * 4)], 4);
      }
    }
    return turned;
  }
};

// Whether the last bytes look like the end of a picture.
bool has_end(const PhotoInfo& info, std::string_view tail) {
  switch (info.format) {
    case PhotoFormat::jpeg:
      return tail.find("\xff\xd9") != tail.npos;
    case PhotoFormat::png:
      return tail.ends_with(std::string_view("\0\0\0\0IEND\xae\x42\x60\x82", 12));
    default:
      return true;  // its length is in the header
  }
}

}  // namespace

void check_photo_size(const std::string& file, int64_t height, int64_t width) {
  check<IoError>(height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide &&
                     height * width <= kMaxPhotoPixels,
                 "{}: {}x{} pixels, expected 1 to {} on a side, and at most {} million", file, width, height,
                 kMaxSide, kMaxPhotoPixels / 1'000'000);
}

Photo cut_over_white(const std::vector<uint8_t>& pixels, int64_t width, const Region& region) {
  Photo photo{region.height, region.width, {}};
  photo.pixels.resize(static_cast<size_t>(region.height * region.width * 4));
  for (int64_t y = 0; y < region.height; ++y) {
    const uint8_t* from = pixels.data() + ((region.top + y) * width + region.left) * 4;
    uint8_t* to = photo.pixels.data() + y * region.width * 4;
    for (int64_t i = 0; i < region.width * 4; ++i)
      to[i] = static_cast<uint8_t>(255 - ((255 - from[i]) * from[i | 3] + 127) / 255);
  }
  return photo;
}

int exif_orientation(std::string_view tiff) {
  constexpr uint32_t kOrientation = 0x0112, kEntry = 12;
  const bool little = tiff.starts_with(std::string_view("II*\0", 4));
  if (!little && !tiff.starts_with(std::string_view("MM\0*", 4))) return 1;
  const auto number = [&](size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i)
      value = value << 8 | static_cast<uint8_t>(tiff[at + (little ? bytes - 1 - i : i)]);
    return value;
  };
  if (tiff.size() < 8) return 1;
  const size_t directory = number(4, 4);
  if (directory > tiff.size() || tiff.size() - directory < 2) return 1;
  const size_t count = std::min<size_t>(number(directory, 2), (tiff.size() - directory - 2) / kEntry);
  for (size_t i = 0; i < count; ++i) {
    const size_t entry = directory + 2 + i * kEntry;
    if (number(entry, 2) != kOrientation) continue;
    const uint32_t value = number(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

PhotoFile::PhotoFile(std::string file)
    : file_(std::move(file)),
      bytes_(read_file("photo", file_, kMaxFileBytes)),
      info_(header(file_, bytes_, std::ssize(bytes_))) {}

Photo PhotoFile::read(const Region& region, int64_t reduce) const {
  check<ValueError>(region.top >= 0 && region.left >= 0 && region.height >= 1 && region.width >= 1 &&
                        region.top + region.height <= info_.height &&
                        region.left + region.width <= info_.width,
                    "{}: a region of {}x{} at ({}, {}), expected one inside of {}x{} pixels", file_,
                    region.width, region.height, region.left, region.top, info_.width, info_.height);
  check<ValueError>(reduce == 1 || reduce == 2 || reduce == 4 || reduce == 8,
                    "{}: reduce is {}, expected 1, 2, 4 or 8", file_, reduce);
  const Turn turn(info_.orientation);
  const Region stored =
      turn.stored(region, turn.swaps ? info_.width : info_.height, turn.swaps ? info_.height : info_.width);
  switch (info_.format) {
    case PhotoFormat::jpeg:
      return turn.upright(decode_jpeg(file_, bytes_, stored, reduce));
    case PhotoFormat::webp:
      return turn.upright(decode_webp(file_, bytes_, stored));
    default:
      return turn.upright(decode_png(file_, bytes_, stored));
  }
}

PhotoInfo inspect_photo(const std::string& file) {
  const int64_t size = checked_file_size("photo", file);
  const std::string start = read_file_start("photo", file, kHeaderBytes);
  PhotoInfo info;
  std::string tail = start;
  if (size <= kHeaderBytes) {
    info = header(file, start, size);
  } else {
    try {
      info = header(file, start, size);
    } catch (const IoError&) {  // a header may be longer
      info = PhotoFile(file).info();
    }
    tail = read_file_end("photo", file, 4096);
  }
  if (!has_end(info, tail)) PhotoFile(file).read();
  return info;
}

}  // namespace tandem::data
