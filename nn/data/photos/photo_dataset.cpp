#include "nn/data/photos/photo_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "autograd/tell.h"
#include "nn/data/photos/photo_loader.h"
#include "nn/io/sha256.h"

namespace tandem::data {

struct PhotoDataset::Bad {
  std::mutex mutex;
  std::set<int64_t> indices;
};

Normalization imagenet_normalization() { return {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}; }

PhotoDataset::PhotoDataset(PhotoList photos, PhotoDatasetOptions options)
    : photos_(std::move(photos)),
      options_(std::move(options)),
      bad_(std::make_shared<Bad>()),
      loader_(std::make_unique<PhotoLoader>([this](PhotoJob& job, int64_t i) { make(job, i); })) {
  check_normalization(options_.normalization, 3);
  check_augmentation(options_.augmentation);
  const PhotoView& view = options_.view;
  check<ConfigError>(view.size >= 1 && view.size <= kMaxViewSize,
                     "image_size: expected 1 to {} pixels, got {}", kMaxViewSize, view.size);
  check<ConfigError>(view.crop_pct >= 0.1 && view.crop_pct <= 1,
                     "crop_pct: expected a number from 0.1 to 1, got {}", view.crop_pct);
  for (size_t c = 0; c < 3; ++c)
    gray_[c] = static_cast<uint8_t>(std::clamp(std::lround(255 * options_.normalization.mean[c]), 0L, 255L));
}

PhotoDataset::~PhotoDataset() = default;

// One view of a photo, as three planes.
void PhotoDataset::fill(uint8_t* planes, int64_t index, const BatchContext& context, uint64_t sample,
                        int pass) const {
  const PhotoFile file(photos_.file(index));
  Photo photo;
  if (context.training) {
    Draws draws(noise_key(context.seed, context.step, site_hash("photo"), 0, Purpose::augmentation), sample,
                static_cast<uint32_t>(pass));
    photo = training_view(file, options_.view, options_.augmentation, gray_, draws);
  } else {
    photo = evaluation_view(file, options_.view);
  }
  const int64_t area = photo.height * photo.width;
  for (int64_t c = 0; c < 3; ++c) {
    const uint8_t* from = photo.pixels.data() + c;
    uint8_t* plane = planes + c * area;
    for (int64_t i = 0; i < area; ++i) plane[i] = from[4 * i];
  }
}

void PhotoDataset::tell_bad(int64_t index, const std::string& message) const {
  const std::lock_guard lock(bad_->mutex);
  if (bad_->indices.insert(index).second) tell("warning: {}; left out", message);
}

int64_t PhotoDataset::bad() const {
  const std::lock_guard lock(bad_->mutex);
  return std::ssize(bad_->indices);
}

std::shared_ptr<PhotoJob> PhotoDataset::start(std::span<const int64_t> indices,
                                              const BatchContext& context) const {
  for (const int64_t i : indices)
    check<ValueError>(i >= 0 && i < size(), "batch: index {} of {} photos", i, size());
  const int64_t n = std::ssize(indices), S = options_.view.size;
  const auto job = std::make_shared<PhotoJob>();
  job->indices.assign(indices.begin(), indices.end());
  job->context = context;
  job->images = empty({n, 3, S, S}, {context.for_device ? DType::u8 : DType::f32},
                      context.training && options_.augment_passes ? context.passes : 1);
  job->left_out.resize(static_cast<size_t>(n)), job->errors.resize(static_cast<size_t>(n));
  return job;
}

// All views of the i-th photo of a batch.
void PhotoDataset::make(PhotoJob& job, int64_t i) const {
  const BatchContext& context = job.context;
  const int64_t n = std::ssize(job.indices), plane = options_.view.size * options_.view.size,
                each = 3 * plane;
  const PixelScale scale = pixel_scale(options_.normalization);
  std::vector<uint8_t> own(static_cast<size_t>(context.for_device ? 0 : each));
  for (int pass = 0; pass < job.images.passes(); ++pass) {
    const int64_t at = (pass * n + i) * each;
    uint8_t* bytes = context.for_device ? job.images.data<uint8_t>() + at : own.data();
    try {
      if (!job.left_out[i]) fill(bytes, job.indices[i], context, context.sample_offset + i, pass);
    } catch (const IoError& error) {
      if (!options_.skip_bad) throw;
      tell_bad(job.indices[i], error.what());
      job.left_out[i] = 1;
    }
    for (int64_t c = 0; c < 3; ++c) {
      if (job.left_out[i]) std::fill_n(bytes + c * plane, plane, gray_[c]);
      if (context.for_device) continue;
      float* to = job.images.data<float>() + at + c * plane;
      const float by = scale.scale[c], shift = scale.shift[c];
      for (int64_t k = 0; k < plane; ++k) to[k] = shift + by * bytes[c * plane + k];
    }
  }
}

void PhotoDataset::prefetch(std::span<const int64_t> indices, const BatchContext& context) const {
  if (!loader_->is_full()) loader_->add(start(indices, context));
}

Batch PhotoDataset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  std::shared_ptr<PhotoJob> job = loader_->take(indices, context);
  const int64_t n = std::ssize(indices);
  if (!job) {
    job = start(indices, context);
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) make(*job, i);
    });
  }
  Batch batch{.inputs = {job->images}, .target = empty({n}, {DType::i64}), .size = n};
  for (int64_t i = 0; i < n; ++i) batch.target.data<int64_t>()[i] = photos_.labels[indices[i]];
  if (std::find(job->left_out.begin(), job->left_out.end(), 1) != job->left_out.end()) {
    batch.valid = empty({n}, {DType::boolean});
    for (int64_t i = 0; i < n; ++i) batch.valid.data<bool>()[i] = job->left_out[i] == 0;
  }
  if (context.for_device)
    batch.finish = [scale = pixel_scale(options_.normalization)](Tensors& inputs) {
      normalise(scale, inputs[0]);
    };
  return batch;
}

std::string PhotoDataset::identity() const {
  Sha256 sum;
  const auto add = [&](const std::string& text) { sum.add(text.data(), text.size() + 1); };
  for (const std::string& name : photos_.classes) add(name);
  for (int64_t i = 0; i < size(); ++i)
    add(fmt::format("{} {} {}", photos_.names[i], photos_.bytes[i], photos_.labels[i]));
  add(fmt::format("{} {} {}", options_.view.size, name_of(options_.view.interpolation),
                  options_.view.crop_pct));
  return fmt::format("{} photos, SHA-256 {}", size(), sum.digest().substr(0, 16));
}

}  // namespace tandem::data
