#include "autograd/device.h"

#include <chrono>

namespace tandem {

Backend* cpu_backend();  // autograd/cpu_allocator.cpp

namespace {
Backend*& slot(DeviceType type) {
  static Backend* backends[kDeviceTypes] = {cpu_backend(), nullptr};
  return backends[static_cast<int>(type)];
}
}  // namespace

std::string_view name_of(Device device) { return device.type == DeviceType::cpu ? "cpu" : "cuda"; }

Device parse_device(std::string_view name) {
  if (name == "cpu") return kCpu;
  if (name == "cuda") return {DeviceType::cuda};
  raise<ConfigError>("device: expected cpu or cuda, got '{}'", name);
}

Backend& backend(Device device) {
  Backend* found = slot(device.type);
  if (!found) [[unlikely]]
    raise<DeviceError>("device '{0}': no backend is loaded; load_device(\"{0}\") does that", name_of(device));
  return *found;
}

namespace {
// Of a device whose work is done when the call that gave it returns.
class ClockMark final : public Mark {
 public:
  double seconds_since(const Mark& earlier) const override {
    return std::chrono::duration<double>(at_ - static_cast<const ClockMark&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};
}  // namespace

std::unique_ptr<RankSums> Backend::join(Ranks&) { return nullptr; }
std::unique_ptr<Mark> Backend::mark() { return std::make_unique<ClockMark>(); }

void Backend::begin_recording(const Recording*) {
  raise<DeviceError>("{}: it cannot record work", description());
}
std::unique_ptr<Recording> Backend::end_recording() { return nullptr; }

void register_backend(DeviceType type, Backend* backend) { slot(type) = backend; }

}  // namespace tandem
