// Threads that make batches of photos ahead of the steps that take them.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "nn/data/dataset.h"

namespace tandem::data {

inline constexpr size_t kMostAhead = 32;  // batches that a loader keeps

// A batch in the making.
struct PhotoJob {
  Indices indices;
  BatchContext context;
  Tensor images;                           // of all its samples and passes
  std::vector<char> left_out;              // 1 for a sample that cannot be decoded
  std::vector<std::exception_ptr> errors;  // of each sample
  int64_t begun = 0, done = 0;             // samples; of the loader, which guards them
};

class PhotoLoader {
 public:
  // `make` makes a sample of a job; it is called by several threads at once, once for each sample.
  explicit PhotoLoader(std::function<void(PhotoJob&, int64_t i)> make) : make_(std::move(make)) {}
  ~PhotoLoader();  // what was begun is finished, the rest is dropped
  PhotoLoader(const PhotoLoader&) = delete;
  PhotoLoader& operator=(const PhotoLoader&) = delete;

  bool is_full() const;
  // The first one starts num_threads() threads.
  void add(std::shared_ptr<PhotoJob> job);
  // Waits for that batch, if it was added, and drops those added before it; null if it was not. Rethrows the
  // error of its first sample that has one.
  std::shared_ptr<PhotoJob> take(std::span<const int64_t> indices, const BatchContext& context);

 private:
  void work();

  std::function<void(PhotoJob&, int64_t)> make_;
  mutable std::mutex mutex_;
  std::condition_variable added_, finished_;
  std::deque<std::shared_ptr<PhotoJob>> jobs_;
  std::vector<std::thread> threads_;
  bool stopped_ = false;
};

}  // namespace tandem::data
