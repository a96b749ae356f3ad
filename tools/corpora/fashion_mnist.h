// Fashion-MNIST, fetched where it is not there.
#pragma once

#include <string>

#include "nn/data/fashion_mnist.h"
#include "tools/corpora/debian.h"

namespace tandem::data {

// fashion_mnist_sources(dir); where the files are neither in `dir` nor installed, Debian's package is fetched
// into `dir` (made if need be) without root first. IoError as in fetch_debian_files and read_idx.
ImageSplits get_fashion_mnist(const std::string& dir, const std::string& cache = cache_folder(),
                              const Notice& notice = print_notice);

}  // namespace tandem::data
