// Modules of this library, which are opened at run time; shared libraries of CUDA also where only pip's
// packages or a toolkit that the linker does not know hold what they need.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace tandem::detail {

// Opens a library, by its path or its name, for the life of the process. It, and what it needs, is found by
// the dynamic linker (LD_LIBRARY_PATH, the system's folders), else in cuda_library_folders(). Null, and
// `problem` in the linker's words, where it cannot be opened.
void* open_library(const std::filesystem::path& file, std::string& problem);

// The first file of this name that is there: in the folders of the environment variable TANDEM_DEVICE_PATH
// (colons between), beside this library, or where a build leaves the library's modules; else "".
std::filesystem::path find_module(const std::string& file);

// Those that exist of, in this order: lib64 of $CUDA_HOME, $CUDA_PATH and /usr/local/cuda; then the folders
// nvidia/*/lib of pip's packages: of $VIRTUAL_ENV, of each python3 on $PATH, of ~/.local, of the system.
std::vector<std::filesystem::path> cuda_library_folders();

}  // namespace tandem::detail
