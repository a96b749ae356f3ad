// Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): 60,000 training and 10,000 test images of
// clothing, grey, 28x28, 10 balanced classes.
#pragma once

#include <array>
#include <string>

#include "nn/data/images.h"

namespace tandem::data {

// What it consists of.
inline constexpr std::array kFashionMnistFiles{"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                               "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
// Where Debian's package dataset-fashion-mnist has them.
inline constexpr const char* kFashionMnistInstalled = "/usr/share/datasets/fashion-mnist";

// Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz, from `dir`; where they are not all there,
// from Debian's package if that is installed. IoError otherwise, naming the command that fetches them, and as
// of read_idx.
ImageSplits fashion_mnist_sources(const std::string& dir);

// Whether the four files are in `dir`, plain or as .gz.
bool has_fashion_mnist(const std::string& dir);

}  // namespace tandem::data
