// Preloaded into a program (LD_PRELOAD), ends it or fails a call at a chosen moment: BREAK_AT=N is the N-th
// of the calls below that change files, counted from 1; BREAK_BY=kill sends SIGKILL in its place (half of a
// write is written first), a number is the errno it fails with. BREAK_LOG names a file that gets a line for
// each call. BREAK_ALLOC=BYTES: no block of memory of more bytes is to be had.
#undef _FILE_OFFSET_BITS  // open and open64 under their own names
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

template <class F> F* next(const char* name) { return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name)); }

// By the kernel's own calls, which are not counted.
void log(const char* name) {
  const char* file = std::getenv("BREAK_LOG");
  if (file == nullptr) return;
  const auto out =
      static_cast<int>(syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  syscall(SYS_write, out, name, std::strlen(name));
  syscall(SYS_write, out, "\n", 1);
  syscall(SYS_close, out);
}

enum class Fate { goes_on, dies, fails };

Fate fate_of(const char* name) {
  static std::atomic<long> calls{0};
  log(name);
  const char *at = std::getenv("BREAK_AT"), *by = std::getenv("BREAK_BY");
  if (at == nullptr || by == nullptr || ++calls != std::atol(at)) return Fate::goes_on;
  if (std::strcmp(by, "kill") == 0) return Fate::dies;
  errno = std::atoi(by);
  return Fate::fails;
}

// Whether the call is to fail instead of being made.
bool breaks(const char* name) {
  const Fate fate = fate_of(name);
  if (fate == Fate::dies) raise(SIGKILL);
  return fate == Fate::fails;
}

}  // namespace

extern "C" {

int open(const char* file, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_CREAT) != 0 && breaks("open")) return -1;
  return next<int(const char*, int, ...)>("open")(file, flags, mode);
}

int open64(const char* file, int flags, ...) {  // of programs built with _FILE_OFFSET_BITS=64
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open(file, flags, mode);
}

ssize_t write(int fd, const void* bytes, size_t count) {
  static auto* const real = next<ssize_t(int, const void*, size_t)>("write");
  if (fd <= STDERR_FILENO) return real(fd, bytes, count);
  const Fate fate = fate_of("write");
  if (fate == Fate::dies) {
    real(fd, bytes, count / 2);
    raise(SIGKILL);
  }
  return fate == Fate::fails ? -1 : real(fd, bytes, count);
}

int posix_memalign(void** block, size_t alignment, size_t size) {
  static auto* const real = next<int(void**, size_t, size_t)>("posix_memalign");
  static const char* const most = std::getenv("BREAK_ALLOC");
  return most != nullptr && size > std::strtoul(most, nullptr, 10) ? ENOMEM : real(block, alignment, size);
}

int fsync(int fd) { return breaks("fsync") ? -1 : next<int(int)>("fsync")(fd); }

int rename(const char* from, const char* to) {
  return breaks("rename") ? -1 : next<int(const char*, const char*)>("rename")(from, to);
}

int link(const char* from, const char* to) {
  return breaks("link") ? -1 : next<int(const char*, const char*)>("link")(from, to);
}

int unlink(const char* file) { return breaks("unlink") ? -1 : next<int(const char*)>("unlink")(file); }

int remove(const char* file) { return breaks("unlink") ? -1 : next<int(const char*)>("remove")(file); }

}  // extern "C"
