// Photos as cameras and people leave them: JPEG, PNG and WebP of any size as 8-bit RGB, upright.
//
//   const PhotoFile file("cat.jpg");
//   const Photo whole = file.read({0, 0, file.info().height, file.info().width});
//
// The format is told by the bytes, not by the name. Grey becomes RGB, CMYK too (as Adobe stores it), and
// transparency is laid over white; EXIF's orientation is applied, in all three formats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::data {

// What a file is, told by its first bytes.
enum class PhotoFormat { jpeg, png, webp };

// RGB pixels: [height, width, 4], of which the fourth byte is unused.
struct Photo {
  int64_t height = 0, width = 0;  // of pixels
  std::vector<uint8_t> pixels;
};

// A part of a picture, in pixels of the upright one.
struct Region {
  int64_t top = 0, left = 0;      // of its first pixel
  int64_t height = 0, width = 0;  // of itself
};

// What the header of a file says.
struct PhotoInfo {
  PhotoFormat format = PhotoFormat::jpeg;  // of the file
  int64_t height = 0, width = 0;           // in pixels, upright
  int orientation = 1;                     // EXIF's: 1 to 8, above 4 rows and columns are swapped
};

// No picture may have more pixels: it is refused before memory is taken.
inline constexpr int64_t kMaxPhotoPixels = int64_t{1} << 27;

// A file in memory, and its header read.
class PhotoFile {
 public:
  // Reads the bytes and the header. IoError naming the file for what is none of the three formats, is cut
  // short or corrupt, is an animation, has more than kMaxPhotoPixels, or more than its bytes can fill.
  explicit PhotoFile(std::string file);

  const PhotoInfo& info() const { return info_; }  // of the header

  // The pixels of a region. `reduce` (1, 2, 4 or 8) lets a JPEG be decoded at that fraction of its size,
  // which is quicker: the photo then has about region / reduce pixels. ValueError for a region that is not in
  // the picture; IoError where it cannot be decoded, also because data is missing or corrupt.
  Photo read(const Region& region, int64_t reduce = 1) const;
  Photo read() const { return read({0, 0, info_.height, info_.width}); }  // all of it

 private:
  std::string file_, bytes_;
  PhotoInfo info_;
};

// The header of a file, and whether its end is there: of a file whose last bytes do not look like an end, all
// is decoded. Reads little of most files. IoError as of PhotoFile.
PhotoInfo inspect_photo(const std::string& file);

}  // namespace tandem::data
