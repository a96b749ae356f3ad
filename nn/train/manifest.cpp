#include "nn/train/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "nn/io/files.h"
#include "nn/io/sha256.h"
#include "nn/io/text.h"

namespace tandem::nn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxManifest = 1 << 20;
constexpr size_t kDigits = 64;

std::string in(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

std::string next_of(const std::string& file) { return file + ".next"; }

bool is_run_file(const std::string& name) {
  return std::find(std::begin(kRunFiles), std::end(kRunFiles), name) != std::end(kRunFiles) ||
         step_of_checkpoint(name);
}

std::string run_files() { return data::join({std::begin(kRunFiles), std::end(kRunFiles)}, ", "); }

std::string last_line(const std::string& lines) { return fmt::format("# {}\n", data::sha256(lines)); }

// One line a file, as sha256sum has it, and the hash of these lines as a comment: the list is whole.
std::map<std::string, std::string> parse(const std::string& file, const std::string& text) {
  const std::string ending = last_line("");
  const size_t end = text.size() < ending.size() ? 0 : text.size() - ending.size();
  check<IoError>(text.substr(end) == last_line(text.substr(0, end)),
                 "{}: it is damaged: its last line is not the SHA-256 of those before", file);
  std::map<std::string, std::string> hashes;
  for (size_t at = 0; at < end;) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    const bool listed = line.size() > kDigits + 2 && line.substr(kDigits, 2) == "  ";
    const std::string name = listed ? line.substr(kDigits + 2) : "";
    check<IoError>(is_run_file(name), "{}: expected the SHA-256 of {}, got '{}'", file, run_files(), line);
    hashes[name] = line.substr(0, kDigits);
    at += line.size() + 1;
  }
  return hashes;
}

std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> found;
  if (!fs::is_directory(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_run_file(name) && entry.is_regular_file()) found[name] = "";
  }
  return found;
}

void rename_file(const std::string& from, const std::string& to) {
  std::error_code failure;
  fs::rename(from, to, failure);
  check<IoError>(!failure, "{}: cannot be replaced: {}", to, failure.message());
  if (fs::exists(from)) fs::remove(from);  // both are names of the same file, which rename() leaves
}

// A copy where there are no hard links, on its disk.
void link_or_copy(const std::string& from, const std::string& to) {
  std::error_code failure;
  fs::remove(to, failure);
  fs::create_hard_link(from, to, failure);
  const bool no_links = failure == std::errc::operation_not_permitted ||
                        failure == std::errc::not_supported || failure == std::errc::too_many_links ||
                        failure == std::errc::function_not_supported;
  if (no_links) data::copy_file(from, to);
  check<IoError>(!failure || no_links, "{}: cannot be linked to {}: {}", to, from, failure.message());
}

}  // namespace

std::string checkpoint_file(int64_t step) { return fmt::format("step-{:06}.safetensors", step); }

std::optional<int64_t> step_of_checkpoint(const std::string& name) {
  constexpr size_t kBegin = 5, kFewest = 6, kMost = 18;  // digits
  const size_t end = name.find(".safetensors"), digits = end - kBegin;
  if (!name.starts_with("step-") || end == std::string::npos || digits < kFewest || digits > kMost) return {};
  if (name.find_first_not_of("0123456789", kBegin) != end) return {};
  const int64_t step = std::stoll(name.substr(kBegin, digits));
  return name == checkpoint_file(step) ? std::optional(step) : std::nullopt;
}

Manifest::Manifest(std::string folder) : folder_(std::move(folder)) {
  const std::string file = in(folder_, kManifestFile);
  exists_ = fs::exists(file);
  hashes_ = exists_ ? parse(file, data::read_file("run folder", file, kMaxManifest)) : files_of(folder_);
}

std::string Manifest::checked(const std::string& name) const {
  const std::string file = in(folder_, name);
  const auto listed = hashes_.find(name);
  check<IoError>(listed != hashes_.end(), "{}: the run has no {}", folder_, name);
  if (!exists_) return file;
  std::string found;
  for (const std::string& candidate : {file, next_of(file)}) {  // a commit may have been cut short
    if (!fs::exists(candidate)) continue;
    const std::string hash = data::sha256_of_file(candidate);
    if (hash == listed->second) return candidate;
    if (found.empty()) found = hash;
  }
  check<IoError>(!found.empty(), "{}: it is missing, and listed in {}", file, kManifestFile);
  raise<IoError>(
      "{}: it is damaged, was changed by hand, or is of another run: its SHA-256 is {}..., expected {}... as "
      "in {}",
      file, found.substr(0, 12), listed->second.substr(0, 12), kManifestFile);
}

void Manifest::check_all() const {
  for (const auto& [name, hash] : hashes_) {
    if (step_of_checkpoint(name)) continue;
    const std::string file = in(folder_, name);
    if (name == kLastFile || fs::exists(file) || fs::exists(next_of(file))) checked(name);
  }
}

std::vector<int64_t> Manifest::checkpoints() const {
  std::vector<int64_t> steps;
  for (const auto& [name, hash] : hashes_)
    if (const auto step = step_of_checkpoint(name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

Commit::Commit(std::string folder, Others others) : folder_(std::move(folder)) {
  if (others == Others::stay) {
    hashes_ = Manifest(folder_).hashes();
  } else {
    for (const auto& [name, hash] : files_of(folder_)) dropped_.insert(name);
  }
}

// Where finish() failed, the new manifest may have its name, or not.
Commit::~Commit() {
  if (finished_) return;
  try {
    recover_run_folder(folder_);
  } catch (const std::exception&) {  // the next who locks the folder tries again
  }
}

std::string Commit::add(const std::string& name) {
  check<ConfigError>(is_run_file(name), "run folder: '{}' is none of {}", name, run_files());
  added_.insert(name);
  return next_of(in(folder_, name));
}

void Commit::link(const std::string& name, const std::string& other) {
  std::string& hash = hashes_.at(name);
  if (hash.empty()) hash = data::sha256_of_file(in(folder_, name));
  link_or_copy(in(folder_, name), add(other));
  linked_[other] = hash;
}

void Commit::drop(const std::string& name) {
  const auto listed = hashes_.find(name);
  if (listed == hashes_.end()) return;
  (listed->second.empty() ? dropped_ : aside_).insert(name);
  hashes_.erase(listed);
}

void Commit::finish() {
  finished_ = added_.empty() && dropped_.empty() && aside_.empty();
  if (finished_) return;
  for (const std::string& name : added_) {
    const auto linked = linked_.find(name);
    hashes_[name] =
        linked != linked_.end() ? linked->second : data::sha256_of_file(next_of(in(folder_, name)));
  }
  for (const std::string& name : aside_)
    if (fs::exists(in(folder_, name))) rename_file(in(folder_, name), next_of(in(folder_, name)));
  std::string text;
  for (auto& [name, hash] : hashes_) {
    if (hash.empty()) hash = data::sha256_of_file(in(folder_, name));  // of a folder that had no manifest
    text += fmt::format("{}  {}\n", hash, name);
  }
  data::write_file(in(folder_, kManifestFile), text + last_line(text));
  for (const std::string& name : added_) rename_file(next_of(in(folder_, name)), in(folder_, name));
  for (const std::string& name : dropped_)
    if (!added_.contains(name)) fs::remove(in(folder_, name));
  for (const std::string& name : aside_) fs::remove(next_of(in(folder_, name)));
  finished_ = true;
}

void recover_run_folder(const std::string& folder) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (data::is_partial(entry.path().filename().string())) fs::remove(entry.path());
  std::map<std::string, std::string> listed;
  try {
    listed = Manifest(folder).hashes();
  } catch (const IoError&) {
    return;  // whoever reads the run says so
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path path = entry.path();
    if (path.extension() == ".next" && is_run_file(path.stem().string()))
      names.push_back(path.stem().string());
  }
  for (const std::string& name : names) {
    const std::string file = in(folder, name), next = next_of(file);
    const auto found = listed.find(name);
    if (found != listed.end() && data::sha256_of_file(next) == found->second) {
      rename_file(next, file);
    } else {
      fs::remove(next);
    }
  }
}

}  // namespace tandem::nn
