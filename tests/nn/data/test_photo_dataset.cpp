#include "nn/data/photos/photo_dataset.h"

#include "autograd/parallel.h"
#include "tests/files.h"
#include "tests/nn/data/photo_files.h"

namespace tandem::data {
using namespace testing;
namespace {

struct Photos : Scratch {
  PhotoList list{path(), {}, {}, {}, {"a", "b"}};

  Photos() {
    for (const char* name : {"baseline", "progressive", "WebP", "palette PNG", "turned 6 JPEG", "CMYK"})
      add(fmt::format("{}.x", list.size()), photo_bytes(name));
  }
  void add(const std::string& name, const std::string& bytes) {
    put(file(name), bytes);
    list.names.push_back(name);
    list.bytes.push_back(std::ssize(bytes));
    list.labels.push_back(std::ssize(list.labels) % 2);
  }
};

const PhotoDatasetOptions kOptions{.view = {.size = 12},
                                   .augmentation = {.rand_augment = 2, .color_jitter = 0.3, .erasing = 0.5},
                                   .augment_passes = true};

const Indices kAll{0, 1, 2, 3, 4, 5};

}  // namespace

TEST_CASE("photo dataset: evaluation has the pixels, normalised, here and on a device") {
  const Photos photos;
  const PhotoDataset dataset(photos.list, kOptions);
  const Batch batch = dataset.batch(Indices{2, 4}, {.seed = 7, .step = 3});
  CHECK(batch.inputs[0].shape() == Shape{2, 3, 12, 12});
  CHECK(batch.inputs[0].passes() == 1);
  CHECK(batch.target.to_vector<int64_t>() == std::vector<int64_t>{0, 0});
  CHECK(!batch.valid.defined());
  const Photo seen = evaluation_view(PhotoFile(photos.list.file(4)), kOptions.view);
  const auto values = batch.inputs[0].to_vector<float>();
  const Normalization by = imagenet_normalization();
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t i = 0; i < 144; ++i)
      CHECK(values[(3 + c) * 144 + i] ==
            doctest::Approx((seen.pixels[i * 4 + c] / 255.0 - by.mean[c]) / by.stddev[c]).epsilon(1e-5));
  const Batch bytes = dataset.batch(Indices{2, 4}, {.for_device = true});
  CHECK(bytes.inputs[0].dtype() == DType::u8);
  CHECK(close(bytes.to(kCpu).inputs[0], batch.inputs[0], 1e-6).close);
}

TEST_CASE("photo dataset: augmentation is a function of seed, step, place and pass, for any threads") {
  const Photos photos;
  const PhotoDataset dataset(photos.list, kOptions);
  const auto draw = [&](uint64_t seed, uint64_t step, uint64_t offset, int passes) {
    return dataset
        .batch(kAll,
               {.training = true, .seed = seed, .step = step, .sample_offset = offset, .passes = passes})
        .inputs[0];
  };
  const Tensor whole = draw(1, 2, 0, 3);
  CHECK(whole.passes() == 3);
  CHECK(whole.shape() == Shape{6, 3, 12, 12});
  CHECK(same_bits(whole, draw(1, 2, 0, 3)));
  CHECK(!same_bits(whole, draw(2, 2, 0, 3)));
  CHECK(!same_bits(whole, draw(1, 3, 0, 3)));
  CHECK(!same_bits(whole, draw(1, 2, 6, 3)));
  CHECK(!same_bits(whole.pass(0), whole.pass(1)));
  CHECK(same_bits(whole.pass(0), draw(1, 2, 0, 1)));  // as a plain step has it
  const int threads = num_threads();
  for (const int n : {1, 3}) {
    set_num_threads(n);
    CHECK(same_bits(whole, draw(1, 2, 0, 3)));
  }
  set_num_threads(threads);
  const Tensor last = dataset
                          .batch(std::span(kAll).subspan(4),
                                 {.training = true, .seed = 1, .step = 2, .sample_offset = 4, .passes = 3})
                          .inputs[0];
  CHECK(last.pass(2).to_vector<float>() == std::vector<float>([&] {
          const auto all = whole.pass(2).to_vector<float>();
          return std::vector<float>(all.begin() + 4 * 3 * 144, all.end());
        }()));
  PhotoDatasetOptions shared = kOptions;
  shared.augment_passes = false;
  CHECK(same_bits(PhotoDataset(photos.list, shared)
                      .batch(kAll, {.training = true, .seed = 1, .step = 2, .passes = 3})
                      .inputs[0],
                  whole.pass(0)));
}

TEST_CASE("photo dataset: batches that threads began are the same, in any order, taken or not") {
  const Photos photos;
  const PhotoDataset alone(photos.list, kOptions);
  PhotoDataset dataset(photos.list, kOptions);
  const auto context = [](uint64_t step) {
    return BatchContext{.training = true, .seed = 1, .step = step, .passes = 2, .for_device = step % 2 == 1};
  };
  const auto expect = [&](uint64_t step) {
    const Batch found = dataset.batch(kAll, context(step)), expected = alone.batch(kAll, context(step));
    CHECK(same_bits(found.inputs[0], expected.inputs[0]));
    CHECK(same_bits(found.target, expected.target));
    CHECK(found.finish.operator bool() == expected.finish.operator bool());
  };
  const int threads = num_threads();
  for (const int n : {3, 1}) {
    set_num_threads(n);
    for (uint64_t step = 0; step < 3; ++step) dataset.prefetch(kAll, context(step));
    expect(7);  // another
    for (uint64_t step = 0; step < 20; ++step) {
      expect(step);
      dataset.prefetch(kAll, context(step + 3));
    }
    expect(22);  // those before it are dropped
    expect(21);
    for (uint64_t step = 100; step < 200; ++step)
      dataset.prefetch(kAll, context(step));  // more than are kept
    for (uint64_t step = 100; step < 160; ++step) expect(step);
  }
  set_num_threads(threads);
  dataset.prefetch(kAll, context(300));  // never taken
}

TEST_CASE("photo dataset: an error of a thread is that of the batch") {
  Photos photos;
  photos.add("first.jpg", "no picture"), photos.add("second.jpg", "");
  const PhotoDataset dataset(photos.list, kOptions);
  const Indices some{1, 6, 2, 7};
  for (int i = 0; i < 3; ++i) {
    dataset.prefetch(some, {.training = true});
    dataset.prefetch(kAll, {.training = true});
    check_throws<IoError>(photos.file("first.jpg") + ": not a picture",
                          [&] { dataset.batch(some, {.training = true}); });
    CHECK(dataset.batch(kAll, {.training = true}).size == 6);
  }
}

TEST_CASE("photo dataset: a photo that cannot be decoded stops, or does not count") {
  Photos photos;
  const std::string jpeg = photo_bytes("baseline");
  photos.add("broken.jpg", jpeg.substr(0, jpeg.size() - jpeg.size() / 3));  // its header is whole
  const Indices some{1, 6, 2};
  const PhotoDataset strict(photos.list, kOptions);
  for (const bool training : {false, true})
    check_throws<IoError>(photos.file("broken.jpg") + ": corrupt JPEG",
                          [&] { strict.batch(some, {.training = training, .seed = 4}); });
  PhotoDatasetOptions options = kOptions;
  options.skip_bad = true, options.augmentation.crop_scale = 1;
  const PhotoDataset dataset(photos.list, options);
  for (int i = 0; i < 2; ++i) {
    const Batch batch = dataset.batch(some, {.training = true, .passes = 2});
    CHECK(batch.valid.to_vector<int64_t>() == std::vector<int64_t>{1, 0, 1});
    const auto values = batch.inputs[0].to_vector<float>();
    for (int64_t k = 3 * 144; k < 6 * 144; ++k) CHECK(std::abs(values[k]) < 0.01);
    CHECK(dataset.bad() == 1);
  }
}

TEST_CASE("photo dataset: what tells data sets apart; options and indices out of range") {
  const Photos photos;
  const auto print = [](const PhotoList& list, const PhotoDatasetOptions& options = kOptions) {
    return fingerprint(PhotoDataset(list, options));
  };
  const std::string own = print(photos.list);
  CHECK(own == print(photos.list));
  PhotoList other = photos.list;
  other.root = "/elsewhere";
  CHECK(print(other) == own);  // moved
  std::swap(other.labels[0], other.labels[1]);
  CHECK(print(other) != own);
  other = photos.list, other.names[3] = "another";
  CHECK(print(other) != own);
  other = photos.list, other.bytes[3] += 1;
  CHECK(print(other) != own);
  PhotoDatasetOptions options = kOptions;
  options.view.size = 13;
  CHECK(print(photos.list, options) != own);
  const auto fails = [&](const PhotoDatasetOptions& wrong, const std::string& message) {
    check_throws<ConfigError>(message, [&] { PhotoDataset(photos.list, wrong); });
  };
  options.view.size = 0;
  fails(options, "image_size: expected 1 to 2048 pixels, got 0");
  options = kOptions, options.view.crop_pct = 0;
  fails(options, "crop_pct: expected a number from 0.1 to 1, got 0");
  options = kOptions, options.normalization.mean.pop_back();
  fails(options, "normalization: expected 3 channels");
  const PhotoDataset dataset(photos.list, kOptions);
  check_throws<ValueError>("batch: index 6 of 6 photos", [&] { dataset.batch(Indices{6}, {}); });
}

}  // namespace tandem::data
