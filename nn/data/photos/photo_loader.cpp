#include "nn/data/photos/photo_loader.h"

#include <algorithm>

#include "autograd/parallel.h"

namespace tandem::data {

PhotoLoader::~PhotoLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  added_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool PhotoLoader::is_full() const {
  const std::lock_guard lock(mutex_);
  return jobs_.size() >= kMostAhead;
}

void PhotoLoader::add(std::shared_ptr<PhotoJob> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    while (std::ssize(threads_) < num_threads()) threads_.emplace_back([this] { work(); });
  }
  added_.notify_all();
}

void PhotoLoader::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    std::shared_ptr<PhotoJob> job;
    const auto open = [&] {
      const auto found = std::find_if(jobs_.begin(), jobs_.end(), [](const std::shared_ptr<PhotoJob>& one) {
        return one->begun < std::ssize(one->indices);
      });
      job = found == jobs_.end() ? nullptr : *found;
      return stopped_ || job;
    };
    added_.wait(lock, open);
    if (stopped_) return;
    const int64_t i = job->begun++;
    lock.unlock();
    try {
      make_(*job, i);
    } catch (...) {
      job->errors[i] = std::current_exception();
    }
    lock.lock();
    if (++job->done == std::ssize(job->indices)) finished_.notify_all();
  }
}

std::shared_ptr<PhotoJob> PhotoLoader::take(std::span<const int64_t> indices, const BatchContext& context) {
  std::unique_lock lock(mutex_);
  const auto found = std::find_if(jobs_.begin(), jobs_.end(), [&](const std::shared_ptr<PhotoJob>& job) {
    return job->context == context && std::ranges::equal(job->indices, indices);
  });
  if (found == jobs_.end()) return nullptr;
  const std::shared_ptr<PhotoJob> job = *found;
  jobs_.erase(jobs_.begin(), found);  // it is the first one now: all threads work on it
  finished_.wait(lock, [&] { return job->done == std::ssize(job->indices); });
  jobs_.pop_front();
  lock.unlock();
  for (const std::exception_ptr& error : job->errors)
    if (error) std::rethrow_exception(error);
  return job;
}

}  // namespace tandem::data
