#include "nn/data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "autograd/error.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
constexpr int64_t kDeflateRatio = 1032;  // deflate cannot shrink data further: 258 bytes in 2 bits
constexpr int64_t kMaxRead = 1 << 30;    // gzread counts in 32 bits

// Bytes of a gzip file, or of a plain one, in order; knows its uncompressed position for messages.
class ByteSource {
 public:
  explicit ByteSource(const std::string& file)
      : file_(file), size_(checked_file_size("read_idx", file)), gz_(gzopen(file.c_str(), "rb"), &gzclose_r) {
    check<IoError>(gz_ != nullptr, "read_idx: {}: cannot be opened: {}", file, std::strerror(errno));
    compressed_ = !gzdirect(gz_.get());
  }

  void read(std::span<uint8_t> into, const char* what) {
    const size_t got = read_some(into);
    check<IoError>(got == into.size(), "read_idx: {}: ends at byte {}: expected {} more bytes of {}", file_,
                   position_, into.size() - got, what);
  }

  // After the last element: nothing may follow, and the gzip checksum must hold.
  void finish() {
    const int64_t end = position_;
    uint8_t extra = 0;
    check<IoError>(read_some({&extra, 1}) == 0, "read_idx: {}: trailing bytes from byte {}, expected the end",
                   file_, end);
  }

  // Before memory is taken: can the rest of this file yield `bytes`?
  void check_can_hold(int64_t bytes) const {
    if (compressed_) {
      check<IoError>(bytes / kDeflateRatio <= size_,
                     "read_idx: {}: the header promises {} bytes, more than its {} compressed bytes can hold",
                     file_, bytes, size_);
    } else {
      check<IoError>(bytes == size_ - position_,
                     "read_idx: {}: {} bytes follow the header (from byte {}), expected {}", file_,
                     size_ - position_, position_, bytes);
    }
  }

  int64_t position() const { return position_; }

 private:
  size_t read_some(std::span<uint8_t> into) {
    size_t got = 0;
    while (got < into.size()) {
      const auto chunk = static_cast<unsigned>(std::min<size_t>(into.size() - got, kMaxRead));
      const int read = gzread(gz_.get(), into.data() + got, chunk);
      if (read > 0) {
        got += static_cast<size_t>(read);
        position_ += read;
      }
      int code = Z_OK;
      const char* message = gzerror(gz_.get(), &code);
      // Z_BUF_ERROR: the compressed stream stops early.
      check<IoError>(code != Z_BUF_ERROR, "read_idx: {}: the gzip stream is truncated at byte {}", file_,
                     position_);
      check<IoError>(read >= 0 && code >= Z_OK, "read_idx: {}: corrupt at byte {}: {}", file_, position_,
                     code == Z_ERRNO ? std::strerror(errno) : message);
      if (read <= 0) break;
    }
    return got;
  }

  const std::string& file_;
  int64_t size_, position_ = 0;
  bool compressed_ = false;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> gz_;
};

}  // namespace

IdxArray read_idx_array(const std::string& file, int rank) {
  ByteSource source(file);
  std::array<uint8_t, 4> word{};
  source.read(word, "the magic number");
  check<IoError>(
      word[0] == 0 && word[1] == 0 && word[2] == kUnsignedByte && word[3] == rank,
      "read_idx: {}: at byte 0: magic number is {:02x}{:02x}{:02x}{:02x}, expected 0000{:02x}{:02x} "
      "(unsigned bytes, {} dimension{})",
      file, word[0], word[1], word[2], word[3], kUnsignedByte, rank, rank, rank == 1 ? "" : "s");

  IdxArray array;
  int64_t total = 1;
  for (int axis = 0; axis < rank; axis++) {
    source.read(word, "the sizes");
    int64_t size = 0;
    for (const uint8_t byte : word) size = size << 8 | byte;
    check<IoError>(size > 0 && !__builtin_mul_overflow(total, size, &total),
                   "read_idx: {}: at byte {}: size {} of dimension {} is not possible", file,
                   source.position() - 4, size, axis);
    array.sizes.push_back(size);
  }
  source.check_can_hold(total);
  array.values.resize(static_cast<size_t>(total));
  source.read(array.values, "elements");
  source.finish();
  return array;
}

ImageSet read_idx(const std::string& images_file, const std::string& labels_file,
                  const std::vector<std::string>& classes) {
  const IdxArray labels = read_idx_array(labels_file, 1);
  for (size_t i = 0; i < labels.values.size(); i++) {
    check<IoError>(labels.values[i] < classes.size(),
                   "read_idx: {}: label {} at byte {} is {}, expected 0 to {}", labels_file, i, 8 + i,
                   labels.values[i], static_cast<int64_t>(classes.size()) - 1);
  }
  IdxArray images = read_idx_array(images_file, 3);
  check<IoError>(images.sizes[0] == labels.sizes[0], "read_idx: {}: {} images, but {} labels in {}",
                 images_file, images.sizes[0], labels.sizes[0], labels_file);
  return {.count = images.sizes[0],
          .channels = 1,
          .height = images.sizes[1],
          .width = images.sizes[2],
          .pixels = std::move(images.values),
          .labels = {labels.values.begin(), labels.values.end()},
          .classes = classes};
}

}  // namespace tandem::data
