// A labelled set of 8-bit images in memory: what the readers of this folder return.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::data {

// Images of one size, and their labels.
struct ImageSet {
  int64_t count = 0, channels = 0, height = 0, width = 0;  // of pixels
  std::vector<uint8_t> pixels;                             // [count, channels, height, width]
  std::vector<int64_t> labels;                             // [count], each in 0..classes.size()-1
  std::vector<std::string> classes;                        // names; a label is an index into them
  int64_t skipped = 0;  // files that were found beside the images, and are none
};

// A data set that comes in two parts.
struct ImageSplits {
  ImageSet train, test;  // of the same classes and sizes
};

}  // namespace tandem::data
