// Where a tensor lives, and what autograd asks of a device: memory and copies. A device's kernels
// register themselves (autograd/device_kernel.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "autograd/error.h"

namespace tandem {

// The kinds of devices there are; of each a process uses one.
enum class DeviceType : uint8_t { cpu, cuda };
inline constexpr int kDeviceTypes = 2;

struct Device {
  DeviceType type = DeviceType::cpu;  // its kind
  bool operator==(const Device&) const = default;
};
inline constexpr Device kCpu{DeviceType::cpu};  // where tensors are made unless said

std::string_view name_of(Device device);     // "cpu", "cuda"
Device parse_device(std::string_view name);  // ConfigError for any other name

// Makes a device ready to be used, by name: "cpu"; "cuda", DeviceError saying why when there is none;
// "cuda:N", the N-th of several, one in a process (by CUDA_VISIBLE_DEVICES, so the device is then called
// cuda, and number 0 of CUDA's own functions); "auto", which is cuda where there is one and else cpu;
// "cudasim", a CUDA device simulated on the CPU, for tests. All but cpu come as a shared library,
// libtandem_NAME.so, for the life of the process. It is looked for in the folders of the environment variable
// TANDEM_DEVICE_PATH (colons between), then beside this library.
Device load_device(std::string_view name);
std::string why_no_cuda();  // what kept "auto" from cuda; "" when nothing did

// Counts of an allocator, in bytes unless said.
struct MemoryStats {
  int64_t in_use = 0;        // handed out now
  int64_t peak = 0;          // the most ever in use since the last reset_peak
  int64_t cached = 0;        // held, not in use
  int64_t system_calls = 0;  // how often the system was asked for memory
};

// Work that was given to a device once and can be given again as it was, by one call.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;  // gives the work again
};

// A point in a device's work (Backend::mark).
class Mark {
 public:
  virtual ~Mark() = default;
  // How long the work between an earlier mark of the same device and this one took; waits until it is done.
  virtual double seconds_since(const Mark& earlier) const = 0;
};

class Ranks;

// Sums of what is in the memory of the devices of several ranks (autograd/ranks.h), one device each.
class RankSums {
 public:
  virtual ~RankSums() = default;
  // Begins to replace `count` numbers, f64 or f32, by their sums over all ranks, after the work that was
  // given until now and beside what is given later. In the same order on all ranks.
  virtual void begin(void* data, int64_t count, bool f64) = 0;
  // What is given later comes after all sums that were begun.
  virtual void end() = 0;
};

// What a kind of device can do: memory, copies, recordings. Sizes are in bytes.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void* allocate(int64_t bytes) = 0;  // aligned to 64 bytes; std::bad_alloc never: DeviceError
  virtual void release(void* data, int64_t bytes) noexcept = 0;                  // what allocate(bytes) gave
  virtual void copy_to_host(void* host, const void* data, int64_t bytes) = 0;    // waits for the device
  virtual void copy_from_host(void* data, const void* host, int64_t bytes) = 0;  // in the order of its work
  virtual MemoryStats stats() const = 0;                                         // of its allocator
  virtual void reset_peak() = 0;      // MemoryStats::peak is what is in use
  virtual void release_cached() = 0;  // gives cached blocks back to the system
  // Waits until all work that was given to the device is done, and throws what it found wrong in its data
  // (autograd/pending_error.h). So does copy_to_host.
  virtual void synchronize() {}
  // Bytes that an op which works part by part lets a part take. On a CPU parts stay near the caches; a device
  // wants enough work for all of it.
  virtual int64_t part_bytes() const { return int64_t{4} << 20; }
  virtual std::string description() const = 0;  // for people: "NVIDIA H100, sm_90, 80 GB"

  // A mark behind the work that was given until now, by which what follows can be timed. Null while a
  // recording is made: no work is done then.
  virtual std::unique_ptr<Mark> mark();

  // A copy that comes after the work that was given until now, and runs beside what is given later. What
  // reads it is given after await_uploads(). The host's memory may be changed when it returns.
  virtual void upload(void* data, const void* host, int64_t bytes) { copy_from_host(data, host, bytes); }
  virtual void await_uploads() {}

  // Joins this device with those of the other ranks, all of which call this; null where they have nothing to
  // join them by (NCCL), or share a device: sums then go through the host.
  virtual std::unique_ptr<RankSums> join(Ranks& ranks);

  // The work of this thread from begin_recording to end_recording is kept instead of done. Memory that it
  // uses stays its own; what it needs only while it runs it may share with `like`, another recording, whose
  // results then last no longer than until this one runs. Gives cached memory back first. DeviceError on a
  // device that cannot, or when something between them waits for the device.
  virtual void begin_recording(const Recording* like = nullptr);
  virtual std::unique_ptr<Recording> end_recording();
  virtual void cancel_recording() noexcept {}  // in place of end_recording, after an error
};

// The backend of a device; DeviceError when there is none in this process.
Backend& backend(Device device);
void register_backend(DeviceType type, Backend* backend);  // kept for the life of the process

// Fills every new block with this byte (-1: off), so that tests see reads of uninitialised memory.
void set_allocation_fill(int byte);
int allocation_fill();

}  // namespace tandem
