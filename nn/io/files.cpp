#include "nn/io/files.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "autograd/error.h"

namespace tandem::data {
namespace fs = std::filesystem;

int64_t checked_file_size(std::string_view reader, const std::string& file) {
  std::error_code failure;
  const fs::file_status status = fs::status(file, failure);
  check<IoError>(fs::exists(status), "{}: {}: there is no such file", reader, file);
  check<IoError>(fs::is_regular_file(status), "{}: {}: not a regular file", reader, file);
  const auto size = fs::file_size(file, failure);
  check<IoError>(!failure, "{}: {}: {}", reader, file, failure.message());
  return static_cast<int64_t>(size);
}

std::string read_file_start(std::string_view reader, const std::string& file, int64_t limit) {
  std::string bytes(static_cast<size_t>(std::min(checked_file_size(reader, file), limit)), '\0');
  std::ifstream in(file, std::ios::binary);
  check<IoError>(in.is_open(), "{}: {}: cannot be opened: {}", reader, file, std::strerror(errno));
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  check<IoError>(in.gcount() == static_cast<std::streamsize>(bytes.size()),
                 "{}: {}: reading stopped at byte {}, expected {} bytes", reader, file, in.gcount(),
                 bytes.size());
  return bytes;
}

std::string read_file(std::string_view reader, const std::string& file, int64_t limit) {
  const int64_t size = checked_file_size(reader, file);
  check<IoError>(size <= limit, "{}: {}: holds {} bytes, expected at most {}", reader, file, size, limit);
  return read_file_start(reader, file, limit);
}

std::string temporary_name(const std::string& file) {
  static std::atomic<int> number{0};
  return fmt::format("{}.tmp-{}-{}", file, getpid(), number++);
}

void write_file(const std::string& file, std::string_view bytes) { write_file(file, std::span(&bytes, 1)); }

void write_file(const std::string& file, std::span<const std::string_view> parts) {
  const std::string partial = temporary_name(file);
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  check<IoError>(out.is_open(), "write_file: {}: cannot be written: {}", partial, std::strerror(errno));
  for (const std::string_view part : parts) out.write(part.data(), static_cast<std::streamsize>(part.size()));
  out.close();
  std::error_code failure;
  if (!out) {
    const int reason = errno;
    fs::remove(partial, failure);
    raise<IoError>("write_file: {}: writing failed: {}", file, std::strerror(reason));
  }
  fs::rename(partial, file, failure);
  if (failure) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    raise<IoError>("write_file: {}: cannot be replaced: {}", file, failure.message());
  }
}

TemporaryFolder::TemporaryFolder(const std::string& parent) {
  std::error_code failure;
  fs::create_directories(parent, failure);
  check<IoError>(!failure, "{}: the folder cannot be made: {}", parent, failure.message());
  path_ = parent + "/.tmp-XXXXXX";
  check<IoError>(mkdtemp(path_.data()) != nullptr, "{}: a folder cannot be made inside: {}", parent,
                 std::strerror(errno));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace tandem::data
