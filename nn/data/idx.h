// IDX files (the format of MNIST), plain or gzip-compressed: big-endian header
// {0, 0, element type, rank}, one 32-bit size per dimension, then the elements.
#pragma once

#include "nn/data/images.h"

namespace tandem::data {

// What an IDX file holds.
struct IdxArray {
  std::vector<int64_t> sizes;   // of its dimensions
  std::vector<uint8_t> values;  // row-major, [sizes...]
};

// Reads one IDX file of unsigned bytes with `rank` dimensions. IoError names the file, the (uncompressed)
// position and what was expected: wrong magic, type or rank, a size the file cannot hold, truncation,
// trailing bytes, a failed gzip checksum.
IdxArray read_idx_array(const std::string& file, int rank);

// Images [count, height, width] and their labels [count]. IoError as above, and for a label outside of
// 0..classes.size()-1.
ImageSet read_idx(const std::string& images_file, const std::string& labels_file,
                  const std::vector<std::string>& classes);

}  // namespace tandem::data
