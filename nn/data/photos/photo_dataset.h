// Photos as a data set: read, decoded and augmented when a batch of them is wanted, so that a data set may be
// larger than memory.
#pragma once

#include <memory>

#include "nn/data/dataset.h"
#include "nn/data/normalization.h"
#include "nn/data/photos/photo_list.h"
#include "nn/data/photos/transform.h"

namespace tandem::data {

inline constexpr int64_t kMaxViewSize = 2048;  // pixels on a side of what a model sees

// The usual one of photos: what ImageNet's have.
Normalization imagenet_normalization();

struct PhotoJob;
class PhotoLoader;

// How photos become batches.
struct PhotoDatasetOptions {
  PhotoView view = {};                                     // what is seen of a photo
  Normalization normalization = imagenet_normalization();  // of three channels
  PhotoAugmentation augmentation = {};                     // of training batches
  bool augment_passes = false;  // each pass of a step sees another view of a training photo
  // A photo that cannot be decoded does not count (Batch::valid), and is told once; else it is an IoError.
  bool skip_bad = false;
};

class PhotoDataset final : public Dataset {
 public:
  // ConfigError when an option is out of its range.
  PhotoDataset(PhotoList photos, PhotoDatasetOptions options);
  ~PhotoDataset() override;

  int64_t size() const override { return photos_.size(); }
  // inputs {f32 [B, 3, size, size]}, target i64 [B]; for a device {u8 [B, 3, size, size]}, normalised by
  // Batch::to. Photos are decoded by all threads; the bits do not depend on their number. A training photo's
  // augmentation is a function of the context's seed and step, its place in the global batch, and the pass.
  // With augment_passes the
  // input has the context's passes. ValueError for an index outside of [0, size()); IoError naming the photo
  // as of PhotoFile.
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  // num_threads() threads begin it, behind those begun before; at most kMostAhead batches are kept.
  void prefetch(std::span<const int64_t> indices, const BatchContext& context) const override;
  // A hash of the files' names, sizes and labels, and of what is seen of them: reading all would take long.
  std::string identity() const override;

  const PhotoList& photos() const { return photos_; }
  // How many photos could not be decoded so far.
  int64_t bad() const;

 private:
  std::shared_ptr<PhotoJob> start(std::span<const int64_t> indices, const BatchContext& context) const;
  void make(PhotoJob& job, int64_t i) const;
  void fill(uint8_t* planes, int64_t index, const BatchContext& context, uint64_t sample, int pass) const;
  void tell_bad(int64_t index, const std::string& message) const;

  struct Bad;
  PhotoList photos_;
  PhotoDatasetOptions options_;
  uint8_t gray_[3] = {};  // the mean colour: what is erased, or moved in from outside
  std::shared_ptr<Bad> bad_;
  std::unique_ptr<PhotoLoader> loader_;  // last: its threads use the rest
};

}  // namespace tandem::data
