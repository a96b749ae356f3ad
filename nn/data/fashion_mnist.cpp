#include "nn/data/fashion_mnist.h"

#include <array>
#include <filesystem>
#include <optional>

#include "autograd/error.h"
#include "nn/data/idx.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInstalled = "/usr/share/datasets/fashion-mnist";
constexpr std::array kNames{"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                            "t10k-labels-idx1-ubyte"};

using Files = std::array<std::string, kNames.size()>;

std::optional<Files> find_files(const fs::path& dir) {
  Files files;
  for (size_t i = 0; i < kNames.size(); i++) {
    const std::string plain = (dir / kNames[i]).string(), compressed = plain + ".gz";
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

DebianPackage package() {
  DebianPackage package{.name = "dataset-fashion-mnist", .sha256_prefix = "39e172fe32dd", .files = {}};
  for (const char* name : kNames)
    package.files.push_back(fmt::format("usr/share/datasets/fashion-mnist/{}.gz", name));
  return package;
}

}  // namespace

bool has_fashion_mnist(const std::string& dir) { return find_files(dir).has_value(); }

ImageSplits fashion_mnist_sources(const std::string& dir, const std::string& cache, const Notice& notice) {
  std::optional<Files> files = find_files(dir);
  if (!files) files = find_files(kInstalled);
  if (!files) {
    fetch_debian_files({package()}, dir, cache, notice);
    files = find_files(dir);
  }
  const std::vector<std::string> classes{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                         "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  const auto& [train_images, train_labels, test_images, test_labels] = files.value();
  return {read_idx(train_images, train_labels, classes), read_idx(test_images, test_labels, classes)};
}

}  // namespace tandem::data
