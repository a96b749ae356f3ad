#include "nn/data/image_dataset.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/testing.h"

using namespace tandem;
using namespace tandem::data;
using namespace tandem::testing;

namespace {

// Normalised by this, a pixel keeps its value of 0 to 255.
Normalization plain(size_t channels = 1) {
  return {std::vector<double>(channels, 0), std::vector<double>(channels, 1 / 255.0)};
}

// Images of which every pixel has another value: 1, 2, 3, ... within each channel, plus 100 per channel.
ImageSet numbered(int64_t count, int64_t channels, int64_t height, int64_t width) {
  ImageSet set{count, channels, height, width, {}, {}, {"even", "odd"}};
  for (int64_t i = 0; i < count; ++i) {
    set.labels.push_back(i % 2);
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t k = 1; k <= height * width; ++k) set.pixels.push_back(static_cast<uint8_t>(100 * c + k));
  }
  return set;
}

Indices first(int64_t count) {
  Indices indices;
  for (int64_t i = 0; i < count; ++i) indices.push_back(i);
  return indices;
}

std::vector<float> pixels_of(const Batch& batch) { return batch.inputs[0].to_vector<float>(); }

// One image padded by `padding` zeros, cut at (top, left) of the padded one, then perhaps mirrored.
std::vector<float> cut(const std::vector<float>& image, int64_t channels, int64_t height, int64_t width,
                       int64_t padding, int64_t top, int64_t left, bool mirrored) {
  const int64_t H = height + 2 * padding, W = width + 2 * padding;
  std::vector<float> result;
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<float> padded(H * W, 0);
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        padded[(y + padding) * W + x + padding] = image[(c * height + y) * width + x];
    for (int64_t y = 0; y < height; ++y) {
      const auto row = padded.begin() + (top + y) * W + left;
      std::vector<float> line(row, row + width);
      if (mirrored) std::reverse(line.begin(), line.end());
      result.insert(result.end(), line.begin(), line.end());
    }
  }
  return result;
}

}  // namespace

TEST_CASE("images: mean and deviation of known pixels") {
  // Channel 0: 0, 255, 0, 255 over two images; channel 1: 51 everywhere.
  const ImageSet set{2, 2, 1, 2, {0, 255, 51, 51, 0, 255, 51, 51}, {0, 1}, {"a", "b"}};
  const Normalization n = measure_normalization(set);
  CHECK(n.mean == std::vector<double>{0.5, 0.2});
  CHECK(n.stddev == std::vector<double>{0.5, 1});  // a channel that never changes is only centred
  const Batch batch = ImageDataset(set).batch(Indices{1, 0}, {});
  CHECK(batch.size == 2);
  CHECK(batch.inputs[0].shape() == Shape{2, 2, 1, 2});
  CHECK(batch.inputs[0].dtype() == DType::f32);
  CHECK(batch.target.to_vector<int64_t>() == std::vector<int64_t>{1, 0});
  const std::vector<float> expected = {-1, 1, 0, 0, -1, 1, 0, 0};
  const auto got = pixels_of(batch);
  for (size_t i = 0; i < expected.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-6));
}

TEST_CASE("images: normalised training images have mean 0 and deviation 1, those of another set theirs") {
  const ImageSet set = numbered(3, 2, 4, 5);
  const auto got = pixels_of(ImageDataset(set).batch(first(3), {}));
  for (int c = 0; c < 2; ++c) {
    double sum = 0, squares = 0;
    for (int i = 0; i < 3; ++i)
      for (int k = 0; k < 20; ++k) {
        const double v = got[(i * 2 + c) * 20 + k];
        sum += v, squares += v * v;
      }
    CHECK(std::abs(sum / 60) < 1e-6);
    CHECK(squares / 60 == doctest::Approx(1).epsilon(1e-6));
  }
  const ImageDataset other(set, {{0.5, 0.5}, {0.25, 0.5}});
  const auto by_hand = pixels_of(other.batch(first(1), {}));
  CHECK(by_hand[0] == doctest::Approx((1 / 255.0 - 0.5) / 0.25).epsilon(1e-6));
  CHECK(by_hand[39] == doctest::Approx((120 / 255.0 - 0.5) / 0.5).epsilon(1e-6));
}

TEST_CASE("images: augmentation crops and flips whole images, every way equally often") {
  constexpr int64_t kCount = 2000, C = 2, H = 3, W = 4, kPadding = 1;
  const ImageDataset set(numbered(kCount, C, H, W), plain(C), {.crop_padding = kPadding, .flip = true});
  const auto image = pixels_of(set.batch(first(1), {}));
  const auto got = pixels_of(set.batch(first(kCount), {.training = true, .seed = 7}));
  std::vector<int> counts(3 * 3 * 2);
  for (int64_t i = 0; i < kCount; ++i) {
    const std::vector<float> one(got.begin() + i * C * H * W, got.begin() + (i + 1) * C * H * W);
    int matches = 0;
    for (int way = 0; way < 18; ++way) {
      if (one == cut(image, C, H, W, kPadding, way / 6, way / 2 % 3, way % 2)) ++matches, ++counts[way];
    }
    CHECK(matches == 1);
  }
  // 111 of each are expected; six standard deviations are 62.
  for (int count : counts) CHECK(std::abs(count - kCount / 18) < 62);
}

TEST_CASE("images: a flip alone, a crop alone, and nothing") {
  const auto ways = [](Augmentation augmentation) {
    const ImageDataset set(numbered(200, 1, 3, 3), plain(), augmentation);
    const auto got = pixels_of(set.batch(first(200), {.training = true, .seed = 3}));
    std::set<std::vector<float>> seen;
    for (int64_t i = 0; i < 200; ++i) seen.insert({got.begin() + i * 9, got.begin() + (i + 1) * 9});
    return seen;
  };
  const std::vector<float> image = {1, 2, 3, 4, 5, 6, 7, 8, 9}, mirrored = {3, 2, 1, 6, 5, 4, 9, 8, 7};
  CHECK(ways({}) == std::set{image});
  CHECK(ways({.flip = true}) == std::set{image, mirrored});
  const auto crops = ways({.crop_padding = 1});
  CHECK(crops.size() == 9);
  CHECK(crops.count(image) == 1);
  CHECK(crops.count({0, 0, 0, 0, 1, 2, 0, 4, 5}) == 1);  // the top left corner of the padded image
  CHECK(crops.count({5, 6, 0, 8, 9, 0, 0, 0, 0}) == 1);  // the bottom right one
}

TEST_CASE("images: padding is black pixels, normalised like all others") {
  const ImageDataset set(numbered(50, 1, 2, 2), {{0.5}, {0.25}}, {.crop_padding = 1});
  float least = 0;
  for (float v : pixels_of(set.batch(first(50), {.training = true}))) least = std::min(least, v);
  CHECK(least == doctest::Approx(-2));
}

TEST_CASE("images: augmentation is a function of seed, step and place in the global batch") {
  const ImageDataset set(numbered(64, 1, 4, 4), plain(), {.crop_padding = 2, .flip = true});
  const auto draw = [&](uint64_t seed, uint64_t step, uint64_t offset = 0) {
    return pixels_of(
        set.batch(first(64), {.training = true, .seed = seed, .step = step, .sample_offset = offset}));
  };
  const auto whole = draw(1, 2);
  CHECK(draw(1, 2) == whole);
  CHECK(draw(2, 2) != whole);
  CHECK(draw(1, 3) != whole);
  CHECK(draw(1, 2, 64) != whole);
  const Indices order = first(64);
  for (const size_t micro : {1, 16, 24}) {  // however the batch is cut
    std::vector<float> parts;
    for (size_t begin = 0; begin < 64; begin += micro) {
      const auto indices = std::span(order).subspan(begin, std::min<size_t>(micro, 64 - begin));
      const auto part =
          pixels_of(set.batch(indices, {.training = true, .seed = 1, .step = 2, .sample_offset = begin}));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    CHECK(parts == whole);
  }
}

TEST_CASE("images: evaluation sees them as they are, whatever the seed and step") {
  const ImageSet images = numbered(8, 1, 4, 4);
  const ImageDataset set(images, plain(), {.crop_padding = 2, .flip = true});
  const auto got = pixels_of(set.batch(first(8), {.seed = 5, .step = 9, .sample_offset = 3}));
  REQUIRE(got.size() == images.pixels.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(images.pixels[i]).epsilon(1e-6));
}

TEST_CASE("images: an epoch is a permutation of its own, and its last batch is kept") {
  const ImageDataset set(numbered(50, 1, 2, 2), plain());
  const auto epoch = [&](uint64_t seed, int64_t number) {
    const auto batches = set.shuffled_batches(seed, number, 16);
    REQUIRE(batches.size() == 4);
    Indices order;
    for (const Indices& batch : batches) order.insert(order.end(), batch.begin(), batch.end());
    CHECK(batches[0].size() == 16);
    CHECK(batches[3].size() == 2);
    Indices sorted = order;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == first(50));
    return order;
  };
  const Indices order = epoch(1, 0);
  CHECK(order != first(50));
  CHECK(epoch(1, 0) == order);
  CHECK(epoch(1, 1) != order);
  CHECK(epoch(2, 0) != order);
  CHECK(set.shuffled_batches(1, 0, 50).front() == order);  // the batches' size does not change the order
  const auto ordered = set.ordered_batches(24);
  REQUIRE(ordered.size() == 3);
  CHECK(ordered[0] == first(24));
  CHECK(ordered[2] == Indices{48, 49});
}

TEST_CASE("images: a subset keeps order, labels, normalisation and augmentation") {
  ImageSet images = numbered(4, 1, 2, 2);
  for (int i = 0; i < 4; ++i) images.pixels[i * 4] = static_cast<uint8_t>(200 + i);
  const ImageDataset set(images, plain(), {.flip = true}), part = set.subset(Indices{3, 0});
  CHECK(part.size() == 2);
  CHECK(part.classes() == 2);
  const Batch batch = part.batch(first(2), {});
  CHECK(batch.target.to_vector<int64_t>() == std::vector<int64_t>{1, 0});
  CHECK(pixels_of(batch)[0] == doctest::Approx(203));
  CHECK(pixels_of(batch)[4] == doctest::Approx(200));
  int flipped = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const BatchContext context{.training = true, .seed = seed};
    CHECK(pixels_of(part.batch(Indices{0}, context)) == pixels_of(set.batch(Indices{3}, context)));
    flipped += pixels_of(part.batch(Indices{0}, context))[1] == doctest::Approx(203);
  }
  CHECK(flipped > 0);
}

TEST_CASE("images: options and indices that do not fit") {
  const ImageSet set = numbered(3, 2, 4, 3);
  check_throws<ConfigError>("normalization: expected 2 channels, got 1 means and 1 deviations",
                            [&] { ImageDataset(set, plain(1)); });
  check_throws<ConfigError>("normalization: expected a finite mean and a deviation above 0, got 0.5 and 0",
                            [&] {
                              ImageDataset(set, {{0.5, 0.5}, {1, 0}});
                            });
  for (const int64_t padding : {-1, 3}) {
    check_throws<ConfigError>(
        fmt::format("crop: expected a padding from 0 to below the shorter side 3, got {}", padding),
        [&] { ImageDataset(set, plain(2), {.crop_padding = padding}); });
  }
  check_throws<ConfigError>("normalization: there is no pixel to measure", [] {
    measure_normalization(ImageSet{0, 1, 2, 2, {}, {}, {"a"}});
  });
  const ImageDataset dataset(set, plain(2));
  check_throws<ValueError>("batch: index 3 of 3 images", [&] { dataset.batch(Indices{0, 3}, {}); });
  check_throws<ValueError>("batch: index -1 of 3 images", [&] { dataset.batch(Indices{-1}, {}); });
  check_throws<ValueError>("subset: index 3 of 3 images", [&] { dataset.subset(Indices{3}); });
  for (const int64_t size : {0, -4}) {
    const std::string message = fmt::format("batch_size: expected at least 1, got {}", size);
    check_throws<ConfigError>(message, [&] { dataset.shuffled_batches(0, 0, size); });
    check_throws<ConfigError>(message, [&] { dataset.ordered_batches(size); });
  }
}
