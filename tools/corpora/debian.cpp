#include "tools/corpora/debian.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "autograd/error.h"
#include "autograd/tell.h"
#include "nn/io/files.h"
#include "nn/io/sha256.h"
#include "nn/io/text.h"
#include "tools/corpora/process.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxChecksumFile = 4096;

// The machine's hooks and pins are meant for its own packages, not for these.
constexpr const char* kAptConfiguration = R"(#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "-";
Acquire::GzipIndexes "false";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
Debug::NoLocking "true";
)";

std::string wanted_files(const std::vector<DebianPackage>& packages) {
  std::vector<std::string> names;
  for (const DebianPackage& package : packages) {
    for (const std::string& file : package.files) names.push_back(fs::path(file).filename().string());
  }
  return fmt::format("hand over the files with --data DIR, expected in it: {}", join(names, ", "));
}

// Run a program that has to succeed; its last words are part of the error.
std::string run_or_raise(const std::vector<std::string>& args, const std::string& folder) {
  const ProcessResult result = run_process(args, folder);
  if (result.status == 0) return result.output;
  constexpr size_t kShown = 600;
  std::string said = result.output;
  while (!said.empty() && said.back() == '\n') said.pop_back();
  if (said.size() > kShown) said = "..." + said.substr(said.size() - kShown);
  raise<IoError>("{} failed (status {}): {}", join(args, " "), result.status, said);
}

std::string archive_name(const DebianPackage& package) { return package.name + ".deb"; }

// Complete and unharmed: as long as its checksum, written last, is the one it had when it came.
bool is_cached(const std::string& folder, const std::string& name) {
  const std::string checksum = folder + "/" + name + ".sha256";
  if (!fs::is_regular_file(folder + "/" + name) || !fs::is_regular_file(checksum)) return false;
  return read_file("fetch_debian_files", checksum, kMaxChecksumFile) == sha256_of_file(folder + "/" + name);
}

std::string archive_keyring() {
  for (const char* file :
       {"/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"}) {
    if (fs::is_regular_file(file)) return file;
  }
  raise<IoError>("Debian's archive keyring is missing (install debian-archive-keyring)");
}

// An apt state of its own inside `folder`: sources, lists and caches; nothing of the system's is touched.
class PrivateApt {
 public:
  // `languages` of the descriptions that update() gets: "none", or "en,it".
  explicit PrivateApt(const std::string& folder, const std::string& languages = "none") : folder_(folder) {
    for (const char* part : {"/state", "/lists/partial", "/cache/archives/partial"}) {
      fs::create_directories(folder + part);
    }
    write_file(folder + "/status", "");
    write_file(folder + "/apt.conf",
               kAptConfiguration + fmt::format("Acquire::Languages \"{}\";\n", languages));
  }

  void update(const std::string& mirror) const {
    write_file(folder_ + "/sources.list",
               fmt::format("deb [signed-by={}] {} bookworm main\n", archive_keyring(), mirror));
    run({"update"});
  }

  // Downloads into the folder itself.
  void download(const std::vector<DebianPackage>& packages) const {
    std::vector<std::string> args{"download"};
    for (const DebianPackage& package : packages) args.push_back(package.name);
    run(args);
  }

 private:
  void run(const std::vector<std::string>& what) const {
    std::vector<std::string> args{"apt-get", "-q", "-c", folder_ + "/apt.conf"};
    for (const char* option : {"Dir::State=/state", "Dir::State::status=/status", "Dir::State::Lists=/lists",
                               "Dir::Cache=/cache", "Dir::Etc::SourceList=/sources.list"}) {
      const std::string_view text(option);
      const size_t value = text.find('/');
      args.insert(args.end(),
                  {"-o", fmt::format("{}{}{}", text.substr(0, value), folder_, text.substr(value))});
    }
    args.insert(args.end(), what.begin(), what.end());
    run_or_raise(args, folder_);
  }

  std::string folder_;
};

void update_from_any(const PrivateApt& apt, const std::vector<std::string>& mirrors) {
  check<IoError>(!mirrors.empty(), "no Debian mirror in this machine's apt configuration");
  for (size_t i = 0; i < mirrors.size(); i++) {
    try {
      return apt.update(mirrors[i]);
    } catch (const IoError&) {
      if (i + 1 == mirrors.size()) throw;
    }
  }
}

// Moves "<name>_<version>_<architecture>.deb" into the cache, its checksum last.
void keep(const std::string& from, const std::string& cache, const DebianPackage& package,
          const Notice& notice) {
  std::string found;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(package.name + "_") && name.ends_with(".deb")) found = name;
  }
  check<IoError>(!found.empty(), "apt-get download left no {} package", package.name);
  const std::string checksum = sha256_of_file(from + "/" + found);
  if (!checksum.starts_with(package.sha256_prefix)) {
    notice(fmt::format("warning: {}: sha256 is {}, expected {}...: results may differ from published ones",
                       found, checksum, package.sha256_prefix));
  }
  fs::rename(from + "/" + found, cache + "/" + archive_name(package));
  write_file(cache + "/" + archive_name(package) + ".sha256", checksum);
}

void download(const std::vector<DebianPackage>& packages, const std::string& cache, const Notice& notice) {
  std::vector<std::string> names;
  for (const DebianPackage& package : packages) names.push_back(package.name);
  check<IoError>(has_program("apt-get") && has_program("dpkg-deb"), "there is no apt-get on this machine");
  notice(fmt::format("fetching {} from the Debian mirror", join(names, ", ")));
  const TemporaryFolder work(cache);
  const PrivateApt apt(work.path());
  update_from_any(apt, debian_mirrors(run_or_raise({"apt-get", "update", "--print-uris"}, work.path())));
  apt.download(packages);
  for (const DebianPackage& package : packages) keep(work.path(), cache, package, notice);
}

void fetch_missing(const std::vector<DebianPackage>& packages, const std::string& archives,
                   const Notice& notice) {
  fs::create_directories(archives);
  std::vector<DebianPackage> missing;
  for (const DebianPackage& package : packages) {
    if (!is_cached(archives, archive_name(package))) missing.push_back(package);
  }
  if (!missing.empty()) download(missing, archives, notice);
}

void unpack_all(const std::string& archive, const std::string& folder) {
  run_or_raise({"dpkg-deb", "-x", fs::absolute(archive).string(), folder}, "");
}

// Unpacked beside the target: a rename then puts whole files there.
void unpack(const DebianPackage& package, const std::string& cache, const std::string& dir) {
  const TemporaryFolder work(dir);
  unpack_all(cache + "/" + archive_name(package), work.path());
  for (const std::string& file : package.files) {
    const fs::path from = fs::path(work.path()) / file;
    check<IoError>(fs::is_regular_file(from), "package {} holds no {}", package.name, file);
    fs::rename(from, fs::path(dir) / from.filename());
  }
}

}  // namespace

void print_notice(const std::string& line) { tell("tandem: {}", line); }

std::string cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/tandem";
  const char* home = std::getenv("HOME");
  check<IoError>(home != nullptr && home[0] == '/',
                 "cache_folder: HOME is not set, expected it or XDG_CACHE_HOME");
  return std::string(home) + "/.cache/tandem";
}

std::vector<std::string> debian_mirrors(const std::string& apt_uris) {
  // Lines read 'BASE/dists/SUITE/main/...' name size; letting apt print them leaves both of its formats of
  // source files, disabled entries and included folders to apt itself.
  static const std::set<std::string> kSuites{"bookworm", "bullseye",  "trixie", "forky",   "oldoldstable",
                                             "stable",   "oldstable", "sid",    "testing", "unstable"};
  struct Mirror {
    std::string base;
    int penalty;
  };
  std::vector<Mirror> mirrors;
  std::istringstream lines(apt_uris);
  for (std::string line; std::getline(lines, line);) {
    const size_t dists = line.find("/dists/");
    if (!line.starts_with("'") || dists == std::string::npos || line.starts_with("'cdrom:")) continue;
    const std::string base = line.substr(1, dists - 1), rest = line.substr(dists + 7);
    const size_t slash = rest.find('/');
    if (slash == std::string::npos || !kSuites.contains(rest.substr(0, slash))) continue;
    if (!rest.substr(slash + 1).starts_with("main/")) continue;
    const bool known =
        std::any_of(mirrors.begin(), mirrors.end(), [&](const Mirror& m) { return m.base == base; });
    // Others' archives use Debian's suite names too; Debian's own are called debian nearly everywhere. The
    // keyring decides in the end.
    const int penalty = (base.ends_with("/debian") ? 0 : 2) + (rest.starts_with("bookworm/") ? 0 : 1);
    if (!known) mirrors.push_back({base, penalty});
  }
  std::stable_sort(mirrors.begin(), mirrors.end(),
                   [](const Mirror& a, const Mirror& b) { return a.penalty < b.penalty; });
  std::vector<std::string> bases;
  for (const Mirror& mirror : mirrors) bases.push_back(mirror.base);
  return bases;
}

void fetch_debian_files(const std::vector<DebianPackage>& packages, const std::string& dir,
                        const std::string& cache, const Notice& notice) {
  try {
    const std::string archives = fs::absolute(cache + "/debian").string();
    fs::create_directories(dir);
    fetch_missing(packages, archives, notice);
    for (const DebianPackage& package : packages) unpack(package, archives, dir);
  } catch (const fs::filesystem_error& failure) {
    raise<IoError>("fetch_debian_files: {}; {}", failure.what(), wanted_files(packages));
  } catch (const IoError& failure) {
    raise<IoError>("fetch_debian_files: {}; {}", failure.what(), wanted_files(packages));
  }
}

void unpack_debian_packages(const std::vector<DebianPackage>& packages,
                            const std::vector<std::string>& folders, const std::string& cache,
                            const Notice& notice) {
  try {
    const std::string archives = fs::absolute(cache + "/debian").string();
    fetch_missing(packages, archives, notice);
    for (size_t i = 0; i < packages.size(); ++i) {
      fs::create_directories(folders[i]);
      unpack_all(archives + "/" + archive_name(packages[i]), folders[i]);
    }
  } catch (const std::exception& failure) {
    std::vector<std::string> names;
    for (const DebianPackage& package : packages) names.push_back(package.name);
    raise<IoError>(
        "{}; the data is made of Debian's {}: where they cannot be fetched, copy a data folder that was made "
        "elsewhere",
        failure.what(), join(names, ", "));
  }
}

DebianIndexes fetch_debian_indexes(const std::string& cache, const Notice& notice) {
  // Names in the cache, and how apt's names of the lists end.
  const std::vector<std::pair<std::string, std::string>> lists{{"Packages", "_Packages"},
                                                               {"Translation-en", "_Translation-en"},
                                                               {"Translation-it", "_Translation-it"}};
  try {
    const std::string folder = fs::absolute(cache + "/debian").string();
    fs::create_directories(folder);
    const bool cached = std::all_of(lists.begin(), lists.end(),
                                    [&](const auto& list) { return is_cached(folder, list.first); });
    if (!cached) {
      check<IoError>(has_program("apt-get"), "there is no apt-get on this machine");
      notice("fetching the package lists from the Debian mirror");
      const TemporaryFolder work(folder);
      const PrivateApt apt(work.path(), "en,it");
      update_from_any(apt, debian_mirrors(run_or_raise({"apt-get", "update", "--print-uris"}, work.path())));
      for (const auto& [name, ending] : lists) {
        std::string found;
        for (const auto& entry : fs::directory_iterator(work.path() + "/lists")) {
          if (entry.path().string().ends_with(ending)) found = entry.path().string();
        }
        check<IoError>(!found.empty(), "apt-get update left no {}", name);
        fs::rename(found, folder + "/" + name);
        write_file(folder + "/" + name + ".sha256", sha256_of_file(folder + "/" + name));
      }
    }
    return {folder + "/Packages", folder + "/Translation-en", folder + "/Translation-it"};
  } catch (const std::exception& failure) {
    raise<IoError>(
        "{}; the data is made of Debian's package lists: where they cannot be fetched, copy a data folder "
        "that "
        "was made elsewhere",
        failure.what());
  }
}

}  // namespace tandem::data
