// The module libtandem_mpi.so: ranks that MPI joins (MPI 3.1). Opened by join_ranks().
#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "autograd/error.h"
#include "autograd/ranks.h"
#include "autograd/tell.h"
#include "autograd/tensor.h"
#include "nn/ranks/watch.h"

namespace tandem::nn {
namespace {

using Clock = Watch::Clock;

// Held for every call of MPI: of two threads, one at a time calls it, none for long.
std::mutex& mpi() {
  static std::mutex mutex;
  return mutex;
}

// Sends this process's signs of life to rank 0, and rank 0's to all; whoever finds that one is missing ends
// all. A thread of its own: the others learn of a process that is stopped within a step, or outside of one.
class WatchThread {
 public:
  explicit WatchThread(MPI_Comm world) {
    MPI_Comm_dup(world, &comm_);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    thread_ = std::thread([this] { run(); });
  }

  std::atomic<int64_t> work{LifeSign::other}, at_step{0}, calls{0};
  std::atomic<bool> waits{false};

  // Without a word to the others.
  void leave() {
    ended_ = true;
    thread_.join();
  }

  // All signs that were sent are received: MPI ends with nothing under way.
  void stop() {
    leave();
    std::vector<int64_t> sent(size_);
    MPI_Allgather(&sent_, 1, MPI_INT64_T, sent.data(), 1, MPI_INT64_T, comm_);
    for (int other : others())
      for (int64_t i = received_[other]; i < sent[other]; ++i) receive(other);
    for (Sign& sign : signs_) MPI_Wait(&sign.request, MPI_STATUS_IGNORE);
    MPI_Comm_free(&comm_);
  }

 private:
  struct Sign {
    std::array<int64_t, 3> numbers{};
    MPI_Request request = MPI_REQUEST_NULL;
  };

  // Rank 0 watches everybody, everybody watches rank 0.
  std::vector<int> others() const {
    std::vector<int> others;
    for (int i = 1; i < size_; ++i) others.push_back(rank_ == 0 ? i : 0);
    if (rank_ != 0) others.resize(1);
    return others;
  }

  void run() {
    Watch watch(size_, Clock::now());
    Clock::time_point before = Clock::now();
    received_.assign(size_, 0);
    signs_.resize(others().size());
    for (int beat = 0; !ended_; ++beat) {
      if (Clock::now() - before > std::chrono::seconds(5))
        watch = Watch(size_, Clock::now());  // it was stopped
      before = Clock::now();
      {
        const std::lock_guard lock(mpi());
        if (beat % 10 == 0) send();
        for (int other : others())
          for (int here = 1; MPI_Iprobe(other, 0, comm_, &here, MPI_STATUS_IGNORE), here;)
            watch.heard(other, receive(other), Clock::now());
      }
      // Of several that have not heard of rank 0, the first speaks. Of the others, rank 0 alone knows.
      for (int i = 0; i < size_; ++i)
        if (rank_ != 0 ? i != 0 : i == 0) watch.heard(i, i == rank_ ? now() : LifeSign(), Clock::now());
      const Clock::time_point patient = Clock::now() - std::chrono::seconds(2) * rank_;
      if (const auto trouble = watch.trouble(patient)) {
        tell("tandem: {}", *trouble);
        const std::lock_guard lock(mpi());
        MPI_Abort(MPI_COMM_WORLD, 1);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

  LifeSign now() const { return {waits ? int64_t{LifeSign::waiting} : work.load(), at_step, calls}; }

  void send() {
    const LifeSign sign = now();
    for (const Sign& last : signs_) {
      int done = 1;
      if (last.request != MPI_REQUEST_NULL)
        MPI_Test(const_cast<MPI_Request*>(&last.request), &done, MPI_STATUS_IGNORE);
      if (!done) return;  // somebody takes none: rank 0 will find out, or we, of rank 0
    }
    size_t k = 0;
    for (int other : others()) {
      signs_[k].numbers = {sign.doing, sign.at_step, sign.calls};
      MPI_Isend(signs_[k].numbers.data(), 3, MPI_INT64_T, other, 0, comm_, &signs_[k].request);
      ++k;
    }
    ++sent_;
  }

  LifeSign receive(int from) {
    std::array<int64_t, 3> numbers;
    MPI_Recv(numbers.data(), 3, MPI_INT64_T, from, 0, comm_, MPI_STATUS_IGNORE);
    ++received_[from];
    return {numbers[0], numbers[1], numbers[2]};
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  std::atomic<bool> ended_{false};
  int64_t sent_ = 0;               // to each of others()
  std::vector<int64_t> received_;  // from each rank
  std::vector<Sign> signs_;
  std::thread thread_;
};

class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm_dup(MPI_COMM_WORLD, &sums_);
    MPI_Comm_dup(MPI_COMM_WORLD, &parts_);
    if (provided >= MPI_THREAD_SERIALIZED) watch_.emplace(MPI_COMM_WORLD);
  }
  ~MpiRanks() override {
    if (std::uncaught_exceptions() > exceptions_) {  // the others would wait for ever
      new auto(std::move(begun_));                   // sums may be under way until the process ends
      if (watch_) watch_->leave();
      on_exit([](int status, void*) { MPI_Abort(MPI_COMM_WORLD, status == 0 ? 1 : status); }, nullptr);
      return;
    }
    double done = 1;
    MpiRanks::sum({&done, 1}, size_);  // the others may have work to end
    if (watch_) watch_->stop();
    MPI_Comm_free(&parts_);
    MPI_Comm_free(&sums_);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void sum(std::span<double> numbers, int count) override {
    if (count < size_) return sum_of_first(numbers, count);
    MPI_Request request;
    call([&] {
      MPI_Iallreduce(MPI_IN_PLACE, numbers.data(), length(numbers.size()), MPI_DOUBLE, MPI_SUM,
                     MPI_COMM_WORLD, &request);
    });
    wait({&request, 1});
  }

  std::vector<std::string> gather(const std::string& mine) override {
    std::vector<int> lengths(size_), begins(size_ + 1);
    const int own = length(mine.size());
    MPI_Request request;
    call([&] { MPI_Iallgather(&own, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD, &request); });
    wait({&request, 1});
    for (int i = 0; i < size_; ++i) begins[i + 1] = begins[i] + lengths[i];
    std::string all(begins[size_], '\0');
    call([&] {
      MPI_Iallgatherv(mine.data(), own, MPI_CHAR, all.data(), lengths.data(), begins.data(), MPI_CHAR,
                      MPI_COMM_WORLD, &request);
    });
    wait({&request, 1});
    std::vector<std::string> each;
    for (int i = 0; i < size_; ++i) each.push_back(all.substr(begins[i], lengths[i]));
    return each;
  }

  void begin_sum(const Tensor& x) override {
    check<DeviceError>(x.device() == kCpu && x.is_contiguous(),
                       "begin_sum: expected a dense tensor on the CPU");
    check<DTypeError>(x.dtype() == DType::f32 || x.dtype() == DType::f64,
                      "begin_sum: expected f32 or f64, got {}", describe(x));
    begun_.push_back(x);
    MPI_Request& request = requests_.emplace_back();
    call([&] {
      MPI_Iallreduce(MPI_IN_PLACE, x.raw(), length(x.numel()),
                     x.dtype() == DType::f32 ? MPI_FLOAT : MPI_DOUBLE, MPI_SUM, sums_, &request);
    });
  }
  void progress() override {
    if (watch_) ++watch_->calls;
    if (!requests_.empty()) are_done(requests_);
  }
  void end_sums() override {
    wait(requests_);
    requests_.clear(), begun_.clear();
  }

  void is_at(Work work, int64_t step) override {
    if (!watch_) return;
    watch_->at_step = step;
    watch_->work = work == Work::step ? LifeSign::step : LifeSign::other;
  }

 private:
  static int length(size_t n) {
    check<ValueError>(n <= INT32_MAX, "MPI: {} elements in one message, expected at most {}", n, INT32_MAX);
    return static_cast<int>(n);
  }

  template <class F> static void call(F&& f) {
    const std::lock_guard lock(mpi());
    f();
  }
  static bool are_done(std::span<MPI_Request> requests) {
    int done = 0;
    call([&] { MPI_Testall(length(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE); });
    return done;
  }

  // Of few numbers on few ranks: each sends its own to all the others.
  void sum_of_first(std::span<double> numbers, int count) {
    const int n = length(numbers.size());
    std::vector<double> all(count * numbers.size());
    std::vector<MPI_Request> requests(2 * count, MPI_REQUEST_NULL);
    call([&] {
      for (int other = 0; other < count; ++other) {
        MPI_Irecv(all.data() + other * n, n, MPI_DOUBLE, other, 0, parts_, &requests[other]);
        MPI_Isend(numbers.data(), n, MPI_DOUBLE, other, 0, parts_, &requests[count + other]);
      }
    });
    wait(requests);
    for (int i = 0; i < n; ++i) {
      double sum = 0;
      for (int other = 0; other < count; ++other) sum += all[other * n + i];
      numbers[i] = sum;
    }
  }

  // Not MPI_Wait, which takes a whole core: more ranks than cores must be slow, not stuck.
  void wait(std::span<MPI_Request> requests) {
    if (watch_) watch_->waits = true;
    for (int tries = 0; !are_done(requests); ++tries) {
      if (tries > 2000) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      } else if (tries > 100) {
        std::this_thread::yield();
      }
    }
    if (watch_) watch_->waits = false, ++watch_->calls;
  }

  const int exceptions_ = std::uncaught_exceptions();
  int rank_ = 0, size_ = 1;
  MPI_Comm sums_ = MPI_COMM_NULL, parts_ = MPI_COMM_NULL;  // of gradients; of some ranks
  std::vector<MPI_Request> requests_;
  std::vector<Tensor> begun_;  // kept alive
  std::optional<WatchThread> watch_;
};

}  // namespace
}  // namespace tandem::nn

extern "C" tandem::Ranks* tandem_join_ranks() { return new tandem::nn::MpiRanks; }
