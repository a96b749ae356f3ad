#include "nn/io/files.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "nn/io/sha256.h"
#include "tests/files.h"

namespace tandem::data {
using namespace testing;
namespace {

namespace fs = std::filesystem;

// Files of more than `bytes` cannot be written in this scope: a disk that is full.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) : old_action_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, old_action_);
  }

 private:
  rlimit old_ = {};
  void (*old_action_)(int);
};

TEST_CASE("files: what cannot be written whole leaves the old file and nothing else") {
  const Scratch scratch;
  const std::string file = scratch.file("x");
  write_file(file, "old");
  {
    const FileLimit limit(1000);
    check_throws<IoError>(file + ": writing failed: File too large",
                          [&] { write_file(file, std::string(2000, 'x')); });
  }
  CHECK(bytes_of(file) == "old");
  CHECK(std::distance(fs::directory_iterator(scratch.path()), {}) == 1);
  scratch.folder("folder/inside");
  check_throws<IoError>("folder: cannot be replaced", [&] { write_file(scratch.file("folder"), "x"); });
  CHECK(std::distance(fs::directory_iterator(scratch.path()), {}) == 2);
  check_throws<IoError>("no/x: cannot be written: No such file",
                        [&] { write_file(scratch.file("no/x"), ""); });
}

TEST_CASE("files: written over a link, the link is replaced, not followed") {
  const Scratch scratch;
  put(scratch.file("target"), "mine");
  fs::create_symlink(scratch.file("target"), scratch.file("x"));
  write_file(scratch.file("x"), "new");
  CHECK(bytes_of(scratch.file("target")) == "mine");
  CHECK(bytes_of(scratch.file("x")) == "new");
  CHECK(!fs::is_symlink(scratch.file("x")));
}

TEST_CASE("files: a new file has the rights that the user's mask leaves") {
  const Scratch scratch;
  const mode_t mask = umask(027);
  write_file(scratch.file("x"), "");
  umask(mask);
  struct stat about = {};
  REQUIRE(stat(scratch.file("x").c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0640);
}

TEST_CASE("files: what a killed writer left is known by its name") {
  CHECK(is_partial("last.safetensors.next.tmp-0123456789abcdef"));
  for (const char* name : {"x", "x.tmp", "x.tmp-", "x.tmp-0123456789abcde", "x.tmp-0123456789abcdefg",
                           "x.tmp-0123456789abcdeX", ".tmp-0123456789abcdef"})
    CHECK_MESSAGE(!is_partial(name), name);
}

TEST_CASE("files: temporary folders of processes that were killed are removed by the next one") {
  const Scratch scratch;
  const auto folders = [&] {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(scratch.path())) count += entry.is_directory();
    return count;
  };
  const pid_t killed = fork();
  if (killed == 0) {
    const TemporaryFolder left(scratch.path());
    put(left.path() + "/x", "half");
    _exit(0);  // as by SIGKILL: no destructor runs
  }
  REQUIRE(waitpid(killed, nullptr, 0) == killed);
  CHECK(folders() == 1);
  scratch.folder("own");
  const TemporaryFolder first(scratch.path()), second(scratch.path());
  CHECK(folders() == 3);
  CHECK(fs::is_directory(first.path()));
}

TEST_CASE("SHA-256: the standard's examples, from memory and from a file") {
  const std::string many(1'000'000, 'a');
  const std::pair<std::string, const char*> cases[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {many, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  const Scratch scratch;
  for (const auto& [text, expected] : cases) {
    CHECK(sha256(text) == expected);
    put(scratch.file("x"), text);
    CHECK(sha256_of_file(scratch.file("x")) == expected);
  }
  put(scratch.file("x"), many + many);
  CHECK(sha256_of_file(scratch.file("x")) == sha256(many + many));  // more than one piece
  check_throws<IoError>("there is no such file", [&] { sha256_of_file(scratch.file("none")); });
}

}  // namespace
}  // namespace tandem::data
