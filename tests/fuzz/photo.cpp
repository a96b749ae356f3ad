#include "nn/data/photos/photo.h"

#include "nn/data/photos/formats.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// A file of any format, whole, a part of it and reduced; and its bytes as EXIF data.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int orientation = data::exif_orientation(fuzz::text_of(data, size));
  fuzz::require(orientation >= 1 && orientation <= 8, "an orientation is one of eight");
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  fuzz::read_or_refuse<IoError>([&] { data::inspect_photo(file.path()); });
  fuzz::read_or_refuse<IoError>([&] {
    const data::PhotoFile photo(file.path());
    const int64_t height = photo.info().height, width = photo.info().width;
    fuzz::require(height >= 1 && width >= 1 && height * width <= data::kMaxPhotoPixels, "sizes are bounded");
    for (const int64_t reduce : {1, 2, 8}) {
      const data::Region region{height / 3, width / 4, (height + 1) / 2, (width + 1) / 2};
      const data::Photo part = photo.read(region, reduce);
      fuzz::require(std::ssize(part.pixels) == part.height * part.width * 4, "four bytes for each pixel");
      fuzz::require(reduce > 1 || (part.height == region.height && part.width == region.width),
                    "the region that was asked for");
    }
  });
  return 0;
}
