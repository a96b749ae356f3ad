#include "nn/data/idx.h"

#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The first byte says how much of the rest is the file of labels, after it are the images.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest = fuzz::text_of(data + 1, size - 1);
  const size_t labels_size = std::min<size_t>(data[0], rest.size());
  const fuzz::MemoryFile labels(rest.substr(0, labels_size)), images(rest.substr(labels_size));
  fuzz::read_or_refuse([&] {
    const data::ImageSet set = data::read_idx(images.path(), labels.path(), {"a", "b", "c"});
    fuzz::require(std::ssize(set.pixels) == set.count * set.height * set.width, "a byte for each pixel");
  });
  fuzz::read_or_refuse([&] { data::read_idx_array(images.path(), 3); });
  return 0;
}
