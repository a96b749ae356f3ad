#include "tools/corpora/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "autograd/error.h"

namespace tandem::data {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

struct FileActions {
  FileActions() { posix_spawn_file_actions_init(&actions); }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t actions;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment() {
  std::vector<std::string> variables{"LC_ALL=C.UTF-8"};
  for (char** variable = environ; *variable != nullptr; variable++) {
    if (!std::string_view(*variable).starts_with("LC_ALL=")) variables.emplace_back(*variable);
  }
  return variables;
}

}  // namespace

bool has_program(const std::string& program) {
  if (program.find('/') != std::string::npos) return access(program.c_str(), X_OK) == 0;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

ProcessResult run_process(const std::vector<std::string>& args, const std::string& folder) {
  check<ValueError>(!args.empty(), "run_process: no arguments, expected a program");
  std::array<int, 2> ends{};
  check<IoError>(pipe2(ends.data(), O_CLOEXEC) == 0, "run_process: {}: no pipe: {}", args[0],
                 std::strerror(errno));
  Descriptor from_child(ends[0]), to_parent(ends[1]);

  FileActions files;
  posix_spawn_file_actions_addopen(&files.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files.actions, to_parent.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files.actions, to_parent.get(), STDERR_FILENO);
  if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&files.actions, folder.c_str());

  std::vector<std::string> arguments = args, variables = environment();
  pid_t child = 0;
  const int failure = posix_spawnp(&child, args[0].c_str(), &files.actions, nullptr,
                                   pointers(arguments).data(), pointers(variables).data());
  check<IoError>(failure == 0, "run_process: {} cannot be started: {}", args[0], std::strerror(failure));
  to_parent.close();

  ProcessResult result;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = read(from_child.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    result.output.append(buffer.data(), static_cast<size_t>(got));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace tandem::data
