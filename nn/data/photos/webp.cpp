// WebP over libwebp.
#include <webp/decode.h>

#include "autograd/error.h"
#include "nn/data/photos/formats.h"

namespace tandem::data {
namespace {

constexpr size_t kChunksBegin = 12;  // "RIFF", size, "WEBP"

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// The data of the chunk "EXIF", or nothing.
std::string_view exif_chunk(std::string_view bytes) {
  for (size_t at = kChunksBegin; bytes.size() >= at + 8;) {
    const size_t length = little_endian(bytes, at + 4);
    if (length > bytes.size() - at - 8) return {};
    if (bytes.substr(at, 4) == "EXIF") {
      std::string_view data = bytes.substr(at + 8, length);
      if (data.starts_with(std::string_view("Exif\0\0", 6))) data.remove_prefix(6);
      return data;
    }
    at += 8 + length + length % 2;
  }
  return {};
}

const char* reason(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return "not enough memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "a feature that is not supported";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return "truncated";
    default:
      return "damaged data";
  }
}

WebPBitstreamFeatures features_of(const std::string& file, std::string_view bytes) {
  WebPBitstreamFeatures features;
  const VP8StatusCode status =
      WebPGetFeatures(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), &features);
  check<IoError>(status == VP8_STATUS_OK, "{}: corrupt WebP: {}", file, reason(status));
  check<IoError>(features.has_animation == 0, "{}: an animated WebP, expected one picture", file);
  return features;
}

}  // namespace

StoredInfo read_webp_header(const std::string& file, std::string_view bytes, int64_t whole) {
  const WebPBitstreamFeatures features = features_of(file, bytes);
  check_photo_size(file, features.height, features.width);
  const int64_t promised = int64_t{little_endian(bytes, 4)} + 8;
  check<IoError>(promised <= whole, "{}: truncated: {} bytes of {}", file, whole, promised);
  return {features.height, features.width, exif_orientation(exif_chunk(bytes))};
}

Photo decode_webp(const std::string& file, std::string_view bytes, const Region& region) {
  const WebPBitstreamFeatures features = features_of(file, bytes);
  const int64_t stride = int64_t{features.width} * 4;
  std::vector<uint8_t> pixels(static_cast<size_t>(stride * features.height));
  WebPDecoderConfig config;
  check<IoError>(WebPInitDecoderConfig(&config) != 0, "{}: this libwebp is another than the build's", file);
  config.output.colorspace = MODE_RGBA;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {pixels.data(), static_cast<int>(stride), pixels.size()};
  const VP8StatusCode status =
      WebPDecode(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), &config);
  check<IoError>(status == VP8_STATUS_OK, "{}: corrupt WebP: {}", file, reason(status));

  return cut_over_white(pixels, features.width, region);
}

}  // namespace tandem::data
