// The files of a run folder as one state that can be checked and changed as a whole. manifest.sha256 lists
// the SHA-256 of each (`sha256sum -c manifest.sha256` reads it, too). New contents are written beside the old
// ones as NAME.next; the rename of a new manifest is the commit; only then do the files take their names. Who
// is killed before the commit leaves the old state, who is killed after it the new one.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "autograd/error.h"

namespace tandem::nn {

inline constexpr const char* kManifestFile = "manifest.sha256";  // its name

// What a manifest can list, and a run consists of.
inline constexpr const char* kSettingsFile = "settings.toml";
inline constexpr const char* kVocabularyFile = "vocab.model";
inline constexpr const char* kMetricsFile = "metrics.csv";
inline constexpr const char* kBestFile = "best.safetensors";
inline constexpr const char* kLastFile = "last.safetensors";
inline constexpr const char* kRunFiles[] = {kSettingsFile, kVocabularyFile, kMetricsFile, kBestFile,
                                            kLastFile};

// Earlier checkpoints, as last.safetensors was after so many steps: "step-000500.safetensors".
std::string checkpoint_file(int64_t step);
// The step of a file of such a name; none for another.
std::optional<int64_t> step_of_checkpoint(const std::string& name);

class Manifest {
 public:
  // IoError for a manifest that is damaged. A folder without one, made before there were any, lists the files
  // it has, and none is checked.
  explicit Manifest(std::string folder);

  bool exists() const { return exists_; }  // false: an old run, whose files nobody vouches for
  // Whether the run has a file of this name.
  bool lists(const std::string& name) const { return hashes_.contains(name); }
  // Where the contents that are listed as `name` stand. IoError naming the file when they are missing or
  // others.
  std::string checked(const std::string& name) const;
  // All that are listed and there; those that can be made again from last.safetensors and the settings may be
  // missing. Earlier checkpoints are checked by who uses one. IoError as above.
  void check_all() const;
  // The steps of the earlier checkpoints that are listed, in order.
  std::vector<int64_t> checkpoints() const;
  const std::map<std::string, std::string>& hashes() const { return hashes_; }  // "": not known

 private:
  std::string folder_;
  bool exists_ = false;
  std::map<std::string, std::string> hashes_;
};

// What read(manifest) makes of a folder. A training that goes on there may replace files meanwhile: an
// IoError counts when it comes twice from the same state.
template <class Read> auto read_run(const std::string& folder, Read read) {
  bool again = false;
  for (Manifest manifest(folder);;) {
    try {
      return read(manifest);
    } catch (const IoError&) {
      Manifest now(folder);
      if (again && now.hashes() == manifest.hashes()) throw;
      again = now.hashes() == manifest.hashes();
      manifest = std::move(now);
    }
  }
}

// A change of a run folder, by whoever holds its lock (RunLock):
//
//   Commit commit(folder);
//   save_safetensors(commit.add(kBestFile), tensors);
//   commit.finish();
class Commit {
 public:
  // What becomes of the files that are not added: they stay as listed, or are removed.
  enum class Others { stay, go };
  explicit Commit(std::string folder, Others others = Others::stay);
  ~Commit();  // without finish() the folder is as before
  Commit(const Commit&) = delete;
  Commit& operator=(const Commit&) = delete;

  // Where to write the new contents of `name`, one of kRunFiles or a checkpoint_file().
  std::string add(const std::string& name);
  // The present contents of `name` get another name, too, without being written again where the file system
  // has hard links.
  void link(const std::string& name, const std::string& other);
  void drop(const std::string& name);  // it is no more; nothing where it is not listed
  // What the folder lists then.
  const std::map<std::string, std::string>& hashes() const { return hashes_; }
  // Whether it does.
  bool adds(const std::string& name) const { return added_.contains(name); }
  // IoError when a file cannot be written: the folder then has the old state or the new one, whole.
  void finish();

 private:
  std::string folder_;
  std::map<std::string, std::string> hashes_;
  std::set<std::string> added_;
  std::set<std::string> dropped_;  // removed after the commit
  std::set<std::string> aside_;    // renamed to NAME.next before it, so that who is killed there can go back
  std::map<std::string, std::string> linked_;  // their hashes
  bool finished_ = false;
};

// Removes what a killed run left, and gives files that were committed their names.
void recover_run_folder(const std::string& folder);

}  // namespace tandem::nn
