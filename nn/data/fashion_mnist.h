// Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): 60,000 training and 10,000 test images of
// clothing, grey, 28x28, 10 balanced classes.
#pragma once

#include <string>

#include "tools/corpora/debian.h"
#include "nn/data/images.h"

namespace tandem::data {

// Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz, from `dir`. Where they are not all there,
// from Debian's package dataset-fashion-mnist: as installed on this machine, or else fetched into `dir` (made
// if need be) without root. IoError as in read_idx and fetch_debian_files.
ImageSplits fashion_mnist_sources(const std::string& dir, const std::string& cache = cache_folder(),
                                  const Notice& notice = print_notice);

// Whether the four files are in `dir`, plain or as .gz.
bool has_fashion_mnist(const std::string& dir);

}  // namespace tandem::data
