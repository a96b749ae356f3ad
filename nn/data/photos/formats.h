// The decoders under PhotoFile, one for each format: pictures as stored, before they are turned upright. All
// take the bytes of a file and its name for messages, and throw IoError as PhotoFile does.
#pragma once

#include <string>
#include <string_view>

#include "nn/data/photos/photo.h"

namespace tandem::data {

// What a header says, of the picture as stored.
struct StoredInfo {
  int64_t height = 0, width = 0;  // in pixels
  int orientation = 1;            // how it is turned upright
};

// IoError for a size that no picture may have.
void check_photo_size(const std::string& file, int64_t height, int64_t width);

// The orientation in EXIF data, which begins with a TIFF header; 1 where there is none.
int exif_orientation(std::string_view tiff);

// A region of RGB and alpha, `width` pixels a row, laid over white.
Photo cut_over_white(const std::vector<uint8_t>& pixels, int64_t width, const Region& region);

// `whole` is the length of the file of which `bytes` may be the beginning.
StoredInfo read_jpeg_header(const std::string& file, std::string_view bytes, int64_t whole);
StoredInfo read_webp_header(const std::string& file, std::string_view bytes, int64_t whole);
StoredInfo read_png_header(const std::string& file, std::string_view bytes, int64_t whole);

// The pixels of a region, in stored coordinates; JPEG's at 1 / reduce of the size.
Photo decode_jpeg(const std::string& file, std::string_view bytes, const Region& region, int64_t reduce);
Photo decode_webp(const std::string& file, std::string_view bytes, const Region& region);
Photo decode_png(const std::string& file, std::string_view bytes, const Region& region);

}  // namespace tandem::data
