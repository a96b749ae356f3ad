// PNG files as 8-bit planes, over libpng's simplified interface (which reports errors by value, so no jump
// crosses a destructor).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::data {

// As what an image is read.
enum class PngColor {
  kAsStored,  // grey if the file is, else RGB (a palette counts as RGB)
  kGray,
  kRgb,
};

// One image.
struct Image {
  int64_t channels = 0, height = 0, width = 0;  // of pixels
  std::vector<uint8_t> pixels;                  // [channels, height, width]; 1 channel is grey, 3 are RGB
};

// What the header of a PNG file says.
struct PngInfo {
  int64_t height = 0, width = 0;  // in pixels
  bool is_gray = false;           // as stored
};

inline constexpr int64_t kMaxPngSide = 16384;  // pixels

// The header alone. IoError as of read_png.
PngInfo read_png_info(const std::string& file);

// Reads any PNG: 1 to 16 bits per channel (rounded to 8), palette, interlaced; transparency is laid over
// white; what it says of gamma and colour spaces is left alone. Every chunk's checksum is verified. IoError
// names the file and the reason: not a PNG, truncated, corrupt, larger than kMaxPngSide on a side, a size its
// data cannot fill.
Image read_png(const std::string& file, PngColor color = PngColor::kAsStored);

// A grey (1 channel) or RGB (3 channels) image as the bytes of a PNG file. ValueError for pixels that do not
// fit the sizes.
std::string encode_png(const Image& image);

// Replaces `file` by a grey (1 channel) or RGB (3 channels) image, in one step. ValueError for pixels that do
// not fit the sizes, IoError when it cannot be written.
void write_png(const std::string& file, const Image& image);

}  // namespace tandem::data
