#include "nn/data/png.h"

#include <zlib.h>

#include "tests/fuzz/fuzz.h"

using namespace tandem;

namespace {

// The bytes with the checksum of each chunk made right, so that what is changed inside reaches the decoder.
std::string with_checksums(std::string bytes) {
  const auto number = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return size_t{value};
  };
  for (size_t at = 8; bytes.size() >= at + 12 && number(at) <= bytes.size() - at - 12;) {
    const size_t length = number(at);
    const auto sum = crc32(0, reinterpret_cast<const Bytef*>(&bytes[at + 4]), static_cast<uInt>(length + 4));
    for (size_t i = 0; i < 4; ++i) bytes[at + 8 + length + i] = static_cast<char>(sum >> (24 - 8 * i));
    at += length + 12;
  }
  return bytes;
}

void read(std::string_view bytes) {
  const fuzz::MemoryFile file(bytes);
  fuzz::read_or_refuse([&] { data::read_png_info(file.path()); });
  for (const auto color : {data::PngColor::kAsStored, data::PngColor::kGray, data::PngColor::kRgb}) {
    fuzz::read_or_refuse([&] {
      const data::Image image = data::read_png(file.path(), color);
      fuzz::require(std::ssize(image.pixels) == image.channels * image.height * image.width,
                    "a byte for each channel of each pixel");
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(fuzz::text_of(data, size)), repaired = with_checksums(bytes);
  read(bytes);
  if (repaired != bytes) read(repaired);
  return 0;
}
