// Files out of Debian packages, without root and without installing anything: a private apt state with one
// source, the Debian mirror of the machine's own apt configuration (release bookworm, main), verified with
// Debian's archive keyring.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tandem::data {

struct DebianPackage {
  std::string name;
  std::string sha256_prefix;       // of the .deb as first measured; another one is a warning, not an error
  std::vector<std::string> files;  // wanted ones, as paths inside the package
};

// What a person should know while it goes on (one line each).
using Notice = std::function<void(const std::string&)>;
void print_notice(const std::string& line);  // "tandem: <line>" on stderr

// $XDG_CACHE_HOME/tandem, or ~/.cache/tandem.
std::string cache_folder();

// Base addresses of the Debian mirrors in what `apt-get update --print-uris` prints; the likeliest first.
std::vector<std::string> debian_mirrors(const std::string& apt_uris);

// Puts each package's files into `dir` (by their base names). Packages are kept in `cache`/debian with their
// checksums: a second call downloads nothing, and a damaged one is downloaded again. IoError when there is no
// apt-get, mirror, keyring or network: it names the files that `--data` would have to hold instead.
void fetch_debian_files(const std::vector<DebianPackage>& packages, const std::string& dir,
                        const std::string& cache = cache_folder(), const Notice& notice = print_notice);

// Unpacks each package into the folder of the same place, from the cache where it is there. IoError as above.
void unpack_debian_packages(const std::vector<DebianPackage>& packages,
                            const std::vector<std::string>& folders,
                            const std::string& cache = cache_folder(), const Notice& notice = print_notice);

// The release's lists: what packages there are, and their descriptions in English and Italian, as plain text
// files in the cache. Downloaded once.
struct DebianIndexes {
  std::string packages, translation_en, translation_it;
};
DebianIndexes fetch_debian_indexes(const std::string& cache = cache_folder(),
                                   const Notice& notice = print_notice);

}  // namespace tandem::data
