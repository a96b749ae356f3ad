#include "autograd/shared_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

namespace tandem::detail {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// What is in a folder, in order; nothing where there is none.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

// pip's packages of NVIDIA keep their libraries in PREFIX/lib/python*/{site,dist}-packages/nvidia/*/lib.
void add_pip_folders(const fs::path& prefix, std::vector<fs::path>& folders) {
  for (const fs::path& python : entries(prefix / "lib")) {
    if (!python.filename().string().starts_with("python3")) continue;
    for (const char* packages : {"site-packages", "dist-packages"})
      for (const fs::path& package : entries(python / packages / "nvidia"))
        folders.push_back(package / "lib");
  }
}

// The library that the linker missed: "NAME: cannot open shared object file: No such file or directory".
std::string missing_library(const std::string& problem) {
  const size_t end = problem.find(": cannot open shared object file");
  return end == std::string::npos ? "" : problem.substr(0, end);
}

std::vector<fs::path> module_folders() {
  std::vector<fs::path> folders;
  std::istringstream given(variable("TANDEM_DEVICE_PATH"));
  for (std::string folder; std::getline(given, folder, ':');)
    if (!folder.empty()) folders.push_back(fs::absolute(folder));
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&module_folders), &info) && info.dli_fname) {
    const fs::path beside = fs::absolute(info.dli_fname).parent_path();
    folders.insert(folders.end(), {beside, beside / "cuda", beside / "nn/ranks"});
  }
  return folders;
}

void* open(const fs::path& file, std::string& problem) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) problem = dlerror();
  return library;
}

}  // namespace

fs::path find_module(const std::string& file) {
  for (const fs::path& folder : module_folders())
    if (std::error_code ignored; fs::exists(folder / file, ignored)) return folder / file;
  return {};
}

std::vector<fs::path> cuda_library_folders() {
  std::vector<fs::path> folders;
  for (const fs::path root : {variable("CUDA_HOME"), variable("CUDA_PATH"), std::string("/usr/local/cuda")})
    if (!root.empty()) folders.push_back(root / "lib64");
  if (const fs::path environment = variable("VIRTUAL_ENV"); !environment.empty())
    add_pip_folders(environment, folders);
  std::istringstream path(variable("PATH"));
  for (std::string bin; std::getline(path, bin, ':');)
    if (std::error_code ignored; !bin.empty() && fs::exists(fs::path(bin) / "python3", ignored))
      add_pip_folders(fs::path(bin).parent_path(), folders);
  if (const fs::path home = variable("HOME"); !home.empty()) add_pip_folders(home / ".local", folders);
  for (const char* prefix : {"/usr/local", "/usr"}) add_pip_folders(prefix, folders);
  std::set<fs::path> seen;
  std::erase_if(folders, [&seen](const fs::path& folder) {
    std::error_code problem;
    const fs::path real = fs::canonical(folder, problem);
    return problem || !seen.insert(real).second;
  });
  return folders;
}

void* open_library(const fs::path& file, std::string& problem) {
  std::vector<fs::path> folders;
  // The linker tells one missing library at a time. One that is open already is what its name then means.
  for (std::set<std::string> tried;;) {
    if (void* library = open(file, problem)) return library;
    const std::string missing = missing_library(problem);
    if (missing.empty() || !tried.insert(missing).second) return nullptr;
    if (tried.size() == 1) folders = cuda_library_folders();
    const auto found = std::find_if(folders.begin(), folders.end(), [&missing](const fs::path& folder) {
      std::error_code ignored;
      return fs::exists(folder / missing, ignored);
    });
    std::string inner;
    if (found == folders.end() || !open_library(*found / missing, inner)) {
      if (!inner.empty()) problem = inner;
      return nullptr;
    }
  }
}

}  // namespace tandem::detail
