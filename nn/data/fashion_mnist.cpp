#include "nn/data/fashion_mnist.h"

#include <filesystem>
#include <optional>

#include "autograd/error.h"
#include "nn/data/idx.h"
#include "nn/io/text.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

using Files = std::array<std::string, kFashionMnistFiles.size()>;

std::optional<Files> find_files(const fs::path& dir) {
  Files files;
  for (size_t i = 0; i < kFashionMnistFiles.size(); i++) {
    const std::string plain = (dir / kFashionMnistFiles[i]).string(), compressed = plain + ".gz";
    if (fs::exists(compressed)) {
      files[i] = compressed;
    } else if (fs::exists(plain)) {
      files[i] = plain;
    } else {
      return std::nullopt;
    }
  }
  return files;
}

}  // namespace

bool has_fashion_mnist(const std::string& dir) { return find_files(dir).has_value(); }

ImageSplits fashion_mnist_sources(const std::string& dir) {
  std::optional<Files> files = find_files(dir);
  if (!files) files = find_files(kFashionMnistInstalled);
  check<IoError>(files.has_value(),
                 "fashion_mnist: '{}' lacks {} (or .gz of them); `tandem data fashion-mnist {}` gets them",
                 dir, join({kFashionMnistFiles.begin(), kFashionMnistFiles.end()}, ", "), dir);
  const std::vector<std::string> classes{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                         "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  const auto& [train_images, train_labels, test_images, test_labels] = *files;
  return {read_idx(train_images, train_labels, classes), read_idx(test_images, test_labels, classes)};
}

}  // namespace tandem::data
