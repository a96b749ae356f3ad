#include "nn/data/png.h"

#include <png.h>
#include <zlib.h>

#include <string_view>

#include "autograd/error.h"
#include "nn/data/photos/formats.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr size_t kHeaderEnd = 33;        // signature, then IHDR: length, name, 13 bytes, CRC
constexpr int64_t kDeflateRatio = 1032;  // deflate cannot shrink data further

uint32_t big_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; i++) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// A chunk: length, name, data, CRC of name and data. `bytes` starts with the PNG signature.
struct Chunk {
  std::string_view name;
  size_t length, end;
};

Chunk read_chunk(const std::string& file, std::string_view bytes, size_t at) {
  check<IoError>(bytes.size() - at >= 12, "read_png: {}: truncated at byte {}, expected another chunk", file,
                 bytes.size());
  const size_t length = big_endian(bytes, at);
  check<IoError>(bytes.size() - at - 12 >= length,
                 "read_png: {}: truncated: the chunk at byte {} is {} bytes long, the file ends at byte {}",
                 file, at, length, bytes.size());
  const std::string_view checked = bytes.substr(at + 4, length + 4);
  const auto found = static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size())));
  const uint32_t stored = big_endian(bytes, at + 8 + length);
  check<IoError>(found == stored,
                 "read_png: {}: corrupt: the chunk at byte {} has checksum {:08x}, expected {:08x}", file, at,
                 found, stored);
  return {checked.substr(0, 4), length, at + 12 + length};
}

struct Header {
  PngInfo info;
  int64_t bits;  // per pixel
};

Header read_header(const std::string& file, std::string_view bytes) {
  check<IoError>(bytes.starts_with(kSignature), "read_png: {}: {}", file,
                 kSignature.starts_with(bytes) ? "truncated in the signature" : "not a PNG file");
  const Chunk chunk = read_chunk(file, bytes, kSignature.size());
  check<IoError>(chunk.name == "IHDR" && chunk.length == 13,
                 "read_png: {}: corrupt: the first chunk is not a 13-byte IHDR", file);
  const int64_t width = big_endian(bytes, 16), height = big_endian(bytes, 20);
  check<IoError>(width >= 1 && height >= 1 && width <= kMaxPngSide && height <= kMaxPngSide,
                 "read_png: {}: size is {}x{}, expected 1 to {} on a side", file, width, height, kMaxPngSide);
  const int depth = static_cast<uint8_t>(bytes[24]), type = static_cast<uint8_t>(bytes[25]);
  const bool has_palette = type & 1, has_color = type & 2, has_alpha = type & 4;
  const int channels = (has_color && !has_palette ? 3 : 1) + (has_alpha ? 1 : 0);
  return {{.height = height, .width = width, .is_gray = !has_color}, int64_t{depth} * channels};
}

// Walks over all chunks: libpng stops once it has its pixels, and would not see a file cut short after them.
// Returns EXIF's orientation.
int check_chunks(const std::string& file, std::string_view bytes, const Header& header) {
  int64_t data_bytes = 0;
  int orientation = 1;
  for (size_t at = kHeaderEnd;;) {
    const Chunk chunk = read_chunk(file, bytes, at);
    if (chunk.name == "IDAT") data_bytes += static_cast<int64_t>(chunk.length);
    if (chunk.name == "eXIf") orientation = exif_orientation(bytes.substr(at + 8, chunk.length));
    at = chunk.end;
    if (chunk.name == "IEND") break;
  }
  const int64_t expected = header.info.height * ((header.info.width * header.bits + 7) / 8);
  check<IoError>(expected / kDeflateRatio <= data_bytes,
                 "read_png: {}: corrupt: {} bytes of picture data cannot fill {}x{} pixels", file, data_bytes,
                 header.info.width, header.info.height);
  return orientation;
}

// The file without what it says of a screen's gamma and colours, by which libpng would make other pixels of
// those that are stored. `copy` holds what is returned, where that is another text.
std::string_view without_color_space(std::string_view bytes, std::string& copy) {
  size_t kept = 0;  // up to where it is in `copy`
  for (size_t at = kHeaderEnd; bytes.size() - at >= 12;) {
    const size_t length = big_endian(bytes, at);
    const std::string_view name = bytes.substr(at + 4, 4);
    if (name == "IDAT" || length > bytes.size() - at - 12) break;  // these stand before the pixels
    const size_t end = at + 12 + length;
    if (name == "gAMA" || name == "cHRM" || name == "sRGB" || name == "iCCP" || name == "cICP") {
      copy += bytes.substr(kept, at - kept);
      kept = end;
    }
    at = end;
  }
  if (kept == 0) return bytes;
  copy += bytes.substr(kept);
  return copy;
}

// png_image owns memory of libpng from "begin" on.
struct PngImage : png_image {
  PngImage() : png_image{} { version = PNG_IMAGE_VERSION; }
  ~PngImage() { png_image_free(this); }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;
};

// The pixels, channels together: grey, RGB (over white), or RGB and alpha.
std::vector<uint8_t> decode(const std::string& file, std::string_view bytes, const Header& header,
                            int64_t channels) {
  PngImage png;
  std::string copy;
  const std::string_view plain = without_color_space(bytes, copy);
  check<IoError>(png_image_begin_read_from_memory(&png, plain.data(), plain.size()),
                 "read_png: {}: corrupt: {}", file, png.message);
  png.format = channels == 1 ? PNG_FORMAT_GRAY : channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // 16-bit files hold the same curve as 8-bit ones
  std::vector<uint8_t> pixels(static_cast<size_t>(channels * header.info.height * header.info.width));
  const png_color white{255, 255, 255};
  check<IoError>(png_image_finish_read(&png, &white, pixels.data(), 0, nullptr), "read_png: {}: corrupt: {}",
                 file, png.message);
  return pixels;
}

}  // namespace

PngInfo read_png_info(const std::string& file) {
  return read_header(file, read_file_start("read_png", file, kHeaderEnd)).info;
}

Image read_png(const std::string& file, PngColor color) {
  const std::string bytes = read_file("read_png", file, kMaxFileBytes);
  const Header header = read_header(file, bytes);
  check_chunks(file, bytes, header);
  const bool gray = color == PngColor::kGray || (color == PngColor::kAsStored && header.info.is_gray);
  const int64_t channels = gray ? 1 : 3, area = header.info.height * header.info.width;
  std::vector<uint8_t> interleaved = decode(file, bytes, header, channels);
  Image image{.channels = channels, .height = header.info.height, .width = header.info.width, .pixels = {}};
  if (gray) {
    image.pixels = std::move(interleaved);
    return image;
  }
  image.pixels.resize(interleaved.size());
  for (int64_t c = 0; c < channels; c++) {
    uint8_t* plane = image.pixels.data() + c * area;
    for (int64_t i = 0; i < area; i++) plane[i] = interleaved[static_cast<size_t>(i * channels + c)];
  }
  return image;
}

StoredInfo read_png_header(const std::string& file, std::string_view bytes, int64_t whole) {
  const Header header = read_header(file, bytes);
  check_photo_size(file, header.info.height, header.info.width);
  // Of the beginning alone, the chunks are not there.
  const int orientation = std::ssize(bytes) == whole ? check_chunks(file, bytes, header) : 1;
  return {header.info.height, header.info.width, orientation};
}

Photo decode_png(const std::string& file, std::string_view bytes, const Region& region) {
  const Header header = read_header(file, bytes);
  return cut_over_white(decode(file, bytes, header, 4), header.info.width, region);
}

std::string encode_png(const Image& image) {
  const int64_t area = image.height * image.width;
  check<ValueError>((image.channels == 1 || image.channels == 3) && image.height >= 1 && image.width >= 1 &&
                        image.height <= kMaxPngSide && image.width <= kMaxPngSide &&
                        static_cast<int64_t>(image.pixels.size()) == image.channels * area,
                    "encode_png: {} bytes as [{}, {}, {}], expected [1 or 3, height, width]",
                    image.pixels.size(), image.channels, image.height, image.width);
  std::vector<uint8_t> interleaved(image.pixels.size());
  for (int64_t c = 0; c < image.channels; c++) {
    const uint8_t* plane = image.pixels.data() + c * area;
    for (int64_t i = 0; i < area; i++) interleaved[static_cast<size_t>(i * image.channels + c)] = plane[i];
  }
  PngImage png;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  check<IoError>(png_image_write_to_memory(&png, bytes.data(), &size, 0, interleaved.data(), 0, nullptr),
                 "encode_png: {}", png.message);
  bytes.resize(size);
  return bytes;
}

void write_png(const std::string& file, const Image& image) { write_file(file, encode_png(image)); }

}  // namespace tandem::data
