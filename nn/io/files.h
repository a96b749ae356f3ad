// Whole files in and out. Writing goes to a temporary name first, to the disk, and is renamed, so a reader
// (or a run that was interrupted, or a machine that failed) never meets half a file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tandem::data {

// Size in bytes of a regular file; IoError if it is missing or is something else. `reader` opens the message.
int64_t checked_file_size(std::string_view reader, const std::string& file);

// The first min(size, limit) bytes of a file. IoError as above.
std::string read_file_start(std::string_view reader, const std::string& file, int64_t limit);

// The last min(size, limit) bytes. IoError as above.
std::string read_file_end(std::string_view reader, const std::string& file, int64_t limit);

// The whole file; IoError when it is larger than `limit` bytes.
std::string read_file(std::string_view reader, const std::string& file, int64_t limit);

// Replaces `file` (its folder must exist) by `bytes` in one step. IoError when that fails.
void write_file(const std::string& file, std::string_view bytes);
// The same with the parts one after another.
void write_file(const std::string& file, std::span<const std::string_view> parts);

// Replaces `to` by the bytes of `from` in one step. IoError when that fails.
void copy_file(const std::string& from, const std::string& to);

// Waits until the names in a folder are on its disk. IoError when that fails.
void sync_folder(const std::string& folder);

// Whether a file of this name is what a killed write_file() left.
bool is_partial(const std::string& name);

// A new folder inside `parent` (made if need be), removed with its contents at the end of the scope. The next
// one in the same parent removes those of processes that were killed.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }  // of the folder

 private:
  std::string path_;
  int held_ = -1;  // locked while it is in use
};

}  // namespace tandem::data
