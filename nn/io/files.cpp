#include "nn/io/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "autograd/error.h"

namespace tandem::data {
namespace fs = std::filesystem;

constexpr const char* kPartial = ".tmp-";

int64_t checked_file_size(std::string_view reader, const std::string& file) {
  std::error_code failure;
  const fs::file_status status = fs::status(file, failure);
  check<IoError>(fs::exists(status), "{}: {}: there is no such file", reader, file);
  check<IoError>(fs::is_regular_file(status), "{}: {}: not a regular file", reader, file);
  const auto size = fs::file_size(file, failure);
  check<IoError>(!failure, "{}: {}: {}", reader, file, failure.message());
  return static_cast<int64_t>(size);
}

namespace {

std::string read_part(std::string_view reader, const std::string& file, int64_t begin, int64_t size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  std::ifstream in(file, std::ios::binary);
  check<IoError>(in.is_open(), "{}: {}: cannot be opened: {}", reader, file, std::strerror(errno));
  if (begin > 0) in.seekg(begin);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  check<IoError>(in.gcount() == static_cast<std::streamsize>(bytes.size()),
                 "{}: {}: reading stopped at byte {}, expected {} bytes", reader, file, in.gcount(),
                 bytes.size());
  return bytes;
}

}  // namespace

std::string read_file_start(std::string_view reader, const std::string& file, int64_t limit) {
  return read_part(reader, file, 0, std::min(checked_file_size(reader, file), limit));
}

std::string read_file_end(std::string_view reader, const std::string& file, int64_t limit) {
  const int64_t size = checked_file_size(reader, file);
  return read_part(reader, file, std::max<int64_t>(size - limit, 0), std::min(size, limit));
}

std::string read_file(std::string_view reader, const std::string& file, int64_t limit) {
  const int64_t size = checked_file_size(reader, file);
  check<IoError>(size <= limit, "{}: {}: holds {} bytes, expected at most {}", reader, file, size, limit);
  return read_file_start(reader, file, limit);
}

namespace {

// What the system says of a call on `file`.
void check_call(bool done, const std::string& file, const char* what) {
  const int reason = errno;
  check<IoError>(done, "write_file: {}: {}: {}", file, what, std::strerror(reason));
}

// A new file beside `file`, under a name that nobody can guess, or lay a link at; removed at the end of the
// scope unless it took its name.
class PartialFile {
 public:
  explicit PartialFile(const std::string& file) : file_(file) {
    std::random_device random;
    do {
      name_ = fmt::format("{}{}{:08x}{:08x}", file, kPartial, random(), random());
      out_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    } while (out_ < 0 && errno == EEXIST);
    check_call(out_ >= 0, file, "cannot be written");
  }
  ~PartialFile() {
    if (out_ >= 0) close(out_);
    if (!named_) unlink(name_.c_str());
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(out_, bytes.data(), bytes.size());
      check_call(written >= 0 || errno == EINTR, file_, "writing failed");
      if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  // Not before all of it is on the disk: a machine that fails leaves the old file or the new one.
  void take_name() {
    check_call(fsync(out_) == 0, file_, "writing failed");
    const int out = std::exchange(out_, -1);
    check_call(close(out) == 0, file_, "writing failed");
    check_call(rename(name_.c_str(), file_.c_str()) == 0, file_, "cannot be replaced");
    named_ = true;
  }

 private:
  const std::string& file_;
  std::string name_;
  int out_ = -1;
  bool named_ = false;
};

}  // namespace

void sync_folder(const std::string& folder) {
  const int entries = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (entries < 0) return;                                   // may be written to, but not listed
  const bool done = fsync(entries) == 0 || errno == EINVAL;  // not every file system can
  const int reason = errno;
  close(entries);
  check<IoError>(done, "write_file: {}: {}", folder, std::strerror(reason));
}

bool is_partial(const std::string& name) {
  const size_t at = name.rfind(kPartial);
  return at != std::string::npos && at > 0 && name.size() == at + std::strlen(kPartial) + 16 &&
         name.find_first_not_of("0123456789abcdef", at + std::strlen(kPartial)) == std::string::npos;
}

void write_file(const std::string& file, std::string_view bytes) { write_file(file, std::span(&bytes, 1)); }

void write_file(const std::string& file, std::span<const std::string_view> parts) {
  PartialFile partial(file);
  for (const std::string_view part : parts) partial.write(part);
  partial.take_name();
  sync_folder(fs::path(file).parent_path().string());
}

void copy_file(const std::string& from, const std::string& to) {
  std::ifstream in(from, std::ios::binary);
  check<IoError>(in.is_open(), "{}: cannot be read: {}", from, std::strerror(errno));
  PartialFile partial(to);
  std::vector<char> part(1 << 20);
  while (in.read(part.data(), std::ssize(part)), in.gcount() > 0)
    partial.write({part.data(), static_cast<size_t>(in.gcount())});
  check<IoError>(in.eof(), "{}: cannot be read: {}", from, std::strerror(errno));
  partial.take_name();
  sync_folder(fs::path(to).parent_path().string());
}

namespace {

constexpr std::string_view kTemporary = ".tandem-XXXXXX", kNew = ".new-to-XXXXXX";

// Opened and locked for as long as it is open; -1 where another process has the lock.
int lock_folder(const std::string& folder) {
  const int opened = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (opened < 0 || flock(opened, LOCK_EX | LOCK_NB) == 0) return opened;
  close(opened);
  return -1;
}

// What processes that were killed left: folders that nobody has locked.
void remove_abandoned(const std::string& parent) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() != kTemporary.size() || !name.starts_with(kTemporary.substr(0, 8))) continue;
    const int folder = lock_folder(entry.path().string());
    if (folder < 0) continue;
    fs::remove_all(entry.path(), ignored);
    close(folder);
  }
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& parent) {
  std::error_code failure;
  fs::create_directories(parent, failure);
  check<IoError>(!failure, "{}: the folder cannot be made: {}", parent, failure.message());
  remove_abandoned(parent);
  std::string made = fmt::format("{}/{}", parent, kNew);
  const bool done = mkdtemp(made.data()) != nullptr;
  check<IoError>(done, "{}: a folder cannot be made inside: {}", parent, std::strerror(errno));
  held_ = lock_folder(made);  // before it has a name by which others may remove it
  path_ = fmt::format("{}/{}{}", parent, kTemporary.substr(0, 8), made.substr(made.size() - 6));
  fs::rename(made, path_, failure);
  if (failure) path_ = made;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  if (held_ >= 0) close(held_);
}

}  // namespace tandem::data
