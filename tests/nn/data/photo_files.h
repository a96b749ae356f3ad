// Pictures of tests/golden/photos.json, and pixels by Pillow.
#pragma once

#include <string>
#include <vector>

#include "nn/data/photos/photo.h"
#include "tests/golden.h"

namespace tandem::testing {

inline const Json& golden_photos() {
  static const Json photos = golden("photos.json");
  return photos;
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// The bytes of a file of the golden ones.
inline std::string photo_bytes(const std::string& name) {
  for (const Json& file : golden_photos().at("files"))
    if (file.at("name") == name) return from_hex(file.at("bytes"));
  FAIL("no golden photo is called ", name);
  return {};
}

// Its height and width, and RGB pixels one after the other.
inline data::Photo photo_of(const Json& size, const std::string& hex) {
  const std::string rgb = from_hex(hex);
  data::Photo photo{size.at(0), size.at(1), {}};
  for (size_t i = 0; i < rgb.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) photo.pixels.push_back(static_cast<uint8_t>(rgb[i + c]));
    photo.pixels.push_back(0);
  }
  return photo;
}

// The largest difference of two photos' channels; 256 where the sizes differ.
inline int largest_difference(const data::Photo& a, const data::Photo& b) {
  if (a.height != b.height || a.width != b.width || a.pixels.size() != b.pixels.size()) return 256;
  int largest = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i)
    if (i % 4 < 3) largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

inline data::Photo cut(const data::Photo& photo, const data::Region& region) {
  data::Photo part{region.height, region.width, {}};
  for (int64_t y = 0; y < region.height; ++y) {
    const auto row = photo.pixels.begin() + ((region.top + y) * photo.width + region.left) * 4;
    part.pixels.insert(part.pixels.end(), row, row + region.width * 4);
  }
  return part;
}

}  // namespace tandem::testing
