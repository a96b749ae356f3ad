// `tandem doctor`: what this machine has of what Tandem uses, where it was found, and what to do about what
// is missing. Nothing needs to work for it.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <link.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "autograd/device.h"
#include "autograd/parallel.h"
#include "autograd/shared_library.h"
#include "tools/corpora/process.h"
#include "tools/tandem/commands.h"

namespace tandem::command {
namespace {

void row(const std::string& name, const std::string& found, const std::string& where = "") {
  fmt::print("{:<14} {}{}{}\n", name, found, where.empty() ? "" : "  ", where);
}
void advice(const std::string& what) { fmt::print("{:<14} -> {}\n", "", what); }

// Where a library that this process has open lies: the first whose file's name begins so; "" where none does.
std::string path_of_loaded(const std::string& name) {
  std::pair<std::string, std::string> search{name, ""};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& [wanted, found] = *static_cast<std::pair<std::string, std::string>*>(data);
        const std::filesystem::path file(info->dlpi_name ? info->dlpi_name : "");
        if (file.filename().string().starts_with(wanted)) found = file.string();
        return found.empty() ? 0 : 1;
      },
      &search);
  return search.second;
}

// A function of a library that is open; null where it has none.
template <class F> F* function_of(const std::string& path, const char* name) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  return library ? reinterpret_cast<F*>(dlsym(library, name)) : nullptr;
}

// 91900 by 10000 and 100: "9.19.0".
std::string version(size_t number, size_t major, size_t minor) {
  return fmt::format("{}.{}.{}", number / major, number % major / minor, number % minor);
}

void processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string model = "unknown", features;
  for (std::string line; std::getline(info, line);) {
    const std::string value = line.find(':') == line.npos ? "" : line.substr(line.find(':') + 1);
    if (line.starts_with("model name")) model = value.substr(value.find_first_not_of(' '));
    if (!line.starts_with("flags")) continue;
    std::istringstream flags(value);
    for (std::string flag; flags >> flag;)
      for (const char* used : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"})
        if (flag == used) features += (features.empty() ? "" : ", ") + flag;
    break;
  }
  row("processor", model,
      fmt::format("{} cores, {} threads used", std::thread::hardware_concurrency(), num_threads()));
  row("", features.empty() ? "no AVX2" : features, "compiled for " TANDEM_MARCH);
}

void libraries() {
  row("libtandem", TANDEM_VERSION, path_of_loaded("libtandem.so"));
  struct Version {
    int major, minor, patch;
  };
  const std::string dnnl = path_of_loaded("libdnnl.so");
  const auto of_dnnl = function_of<const Version*()>(dnnl, "dnnl_version");
  row("oneDNN", of_dnnl ? fmt::format("{}.{}.{}", of_dnnl()->major, of_dnnl()->minor, of_dnnl()->patch) : "?",
      dnnl);
  const std::string ranks = tandem::detail::find_module("libtandem_mpi.so").string();
  std::string problem;
  const bool joins = !ranks.empty() && tandem::detail::open_library(ranks, problem) != nullptr;
  row("MPI", joins ? "found" : ranks.empty() ? "this build has no module for it" : problem, ranks);
  if (ranks.empty())
    advice("several processes need it; Debian: apt-get install openmpi-bin libopenmpi-dev, build again");
  const bool plots = data::has_program("gnuplot");
  row("gnuplot", plots ? "found" : "not found");
  if (!plots) advice("a run's curves.png needs it; Debian, Ubuntu: apt-get install gnuplot-nox");
}

// The driver and its devices, asked without the CUDA module. False where there is none that works.
bool driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    row("driver", "not found", "libcuda.so.1");
    advice("NVIDIA's driver, 580 or newer, must be installed; nvidia-smi then shows the devices");
    return false;
  }
  const auto call = [library](const char* name, auto... arguments) {
    const auto function = reinterpret_cast<int (*)(decltype(arguments)...)>(dlsym(library, name));
    return function ? function(arguments...) : -1;
  };
  int version = 0, count = 0;
  const int status = call("cuInit", 0U);
  call("cuDriverGetVersion", &version);
  std::ifstream kernel("/proc/driver/nvidia/version");
  std::string line;
  std::getline(kernel, line);
  row("driver", fmt::format("for CUDA {}.{}", version / 1000, version % 1000 / 10),
      path_of_loaded("libcuda.so"));
  if (!line.empty()) row("", line);
  if (status != 0 || call("cuDeviceGetCount", &count) != 0 || count == 0) {
    row("", fmt::format("no device: cuInit says {}", status));
    advice(
        "nvidia-smi tells more; in a container, pass the device on (--gpus all); see CUDA_VISIBLE_DEVICES");
    return false;
  }
  for (int device = 0; device < count; ++device) {
    char name[128] = "?";
    size_t bytes = 0;
    int major = 0, minor = 0;
    call("cuDeviceGetName", name, static_cast<int>(sizeof name), device);
    call("cuDeviceTotalMem_v2", &bytes, device);
    call("cuDeviceGetAttribute", &major, 75, device);  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
    call("cuDeviceGetAttribute", &minor, 76, device);
    row(fmt::format("cuda:{}", device),
        fmt::format("{}, sm_{}{}, {:.0f} GiB", name, major, minor, static_cast<double>(bytes) / (1 << 30)));
  }
  return true;
}

void cuda() {
  const bool drives = driver();
  std::string problem;
  try {
    load_device("cuda");
  } catch (const Error& error) {
    problem = error.what();
  }
  const std::string module = path_of_loaded("libtandem_cuda.so");
  row("CUDA module", module.empty() ? "not loaded" : "loaded", module);
  bool complete = true;
  const auto library = [&complete](const char* name, const char* file, const char* function, size_t major,
                                   size_t minor) {
    const std::string path = path_of_loaded(file);
    const auto number = function_of<size_t()>(path, function);
    row(name, path.empty() ? "not loaded" : number ? version(number(), major, minor) : "loaded", path);
    complete &= !path.empty();
  };
  library("cuBLAS", "libcublasLt.so", "cublasLtGetVersion", 10000, 100);
  library("cuDNN", "libcudnn.so", "cudnnGetVersion", 10000, 100);
  const auto cudnn = function_of<size_t()>(path_of_loaded("libcudnn.so"), "cudnnGetVersion");
  if (cudnn && cudnn() < 91600)  // cuda/dnn.cpp has why
    advice("attention is cuDNN's from 9.16 on, here our own kernels'; pip install nvidia-cudnn-cu13 has it");
  if (problem.empty()) library("NVRTC", "libnvrtc.so", "", 1, 1);
  if (problem.empty()) return row("CUDA", "ready: --device cuda");
  row("CUDA", "not usable", problem);
  if (module.empty() && problem.find("libtandem_cuda.so") == problem.npos) {
    advice("the CUDA Toolkit and cuDNN, or pip install nvidia-cublas nvidia-cudnn-cu13, have the libraries");
    advice("looked for by the dynamic linker (LD_LIBRARY_PATH), then in:");
    const auto folders = detail::cuda_library_folders();
    for (const auto& folder : folders) advice("  " + folder.string());
    if (folders.empty())
      advice("  (no toolkit: set CUDA_HOME; no nvidia packages beside any python3 on PATH)");
  } else if (module.empty()) {
    advice("this build has no CUDA: it needs nvcc and cuDNN when it is built");
  } else if (drives && complete) {
    advice("the driver and the libraries are there; the device says the above");
  }
}

}  // namespace

void add_doctor(Command& root) {
  Command command = root.add("doctor", "what this machine has of what Tandem uses, and what is missing");
  command.examples({"tandem doctor"});
  command.run([] {
    std::error_code ignored;  // a bare system may lack /proc
    row("tandem", TANDEM_VERSION, std::filesystem::read_symlink("/proc/self/exe", ignored).string());
    row("system", fmt::format("glibc {}", gnu_get_libc_version()));
    processor();
    libraries();
    cuda();
  });
}

}  // namespace tandem::command
