#include "tools/tandem/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

#include "autograd/error.h"

namespace tandem::command {
namespace {

// CRC-32C (Castagnoli), as records have it: rotated and shifted, for sums of sums.
uint32_t masked_crc(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

template <class T> std::string little_endian(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
static_assert(std::endian::native == std::endian::little);

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}

// Fields of a message, by their numbers.
std::string number(int field, int64_t value) { return varint(field << 3) + varint(value); }
std::string fixed(int field, double value) { return varint(field << 3 | 1) + little_endian(value); }
std::string fixed(int field, float value) { return varint(field << 3 | 5) + little_endian(value); }
std::string bytes(int field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Event: wall_time = 1, step = 2, and one of file_version = 3, summary = 5, session_log = 7.
std::string event(int64_t step, const std::string& what) { return fixed(1, now()) + number(2, step) + what; }

}  // namespace

EventFile::EventFile(const std::string& folder, int64_t first_step) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const std::string name =
      fmt::format("{}/events.out.tfevents.{:010.0f}.{}.{}", folder, now(), host, getpid());
  file_.reset(std::fopen(name.c_str(), "abe"));
  check<IoError>(file_ != nullptr, "{}: cannot be written: {}", name, std::strerror(errno));
  constexpr int kStart = 1;  // SessionLog: status = 1
  write_record(event(0, bytes(3, "brain.Event:2")));
  write_record(event(first_step + 1, bytes(7, number(1, kStart))));
}

bool EventFile::write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;  // Summary: value = 1; its Value: tag = 1, simple_value = 2
  for (const auto& [tag, value] : scalars)
    if (std::isfinite(value)) summary += bytes(1, bytes(1, tag) + fixed(2, static_cast<float>(value)));
  return write_record(event(step, bytes(5, summary))) && std::fflush(file_.get()) == 0;
}

bool EventFile::write_record(const std::string& event) {
  const std::string length = little_endian<uint64_t>(event.size());
  const std::string record =
      length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
  return std::fwrite(record.data(), 1, record.size(), file_.get()) == record.size();
}

}  // namespace tandem::command
