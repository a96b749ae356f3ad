// Small files for the readers to read, and what each reader must do with damaged ones.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "nn/io/files.h"
#include "tests/testing.h"

namespace tandem::testing {

struct Scratch : data::TemporaryFolder {
  Scratch() : TemporaryFolder(place()) {}
  // In memory where that can be: no disk to wait for.
  static std::string place() {
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
  }
  std::string file(const std::string& name) const { return path() + "/" + name; }
  std::string folder(const std::string& name) const {
    std::filesystem::create_directories(file(name));
    return file(name);
  }
};

inline std::string bytes_of(const std::string& file) { return data::read_file("test", file, 1 << 30); }

// As data::write_file, without waiting for a disk.
inline void put(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

// Every prefix of the file must be an IoError that names it; with any byte changed it is read or is an
// IoError. Returns how many changed bytes were noticed.
template <class F> int damage(const std::string& file, F read) {
  const std::string whole = bytes_of(file);
  for (size_t size = 0; size < whole.size(); size++) {
    put(file, whole.substr(0, size));
    const std::string message = message_of<IoError>(read);
    CHECK_MESSAGE(contains(message, file), "cut to ", size, " of ", whole.size(), " bytes: ", message);
  }
  int noticed = 0;
  for (size_t at = 0; at < whole.size(); at++) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      put(file, bytes);
      noticed += message_of<IoError>(read) != kNothingThrown;
    }
  }
  put(file, whole);
  return noticed;
}

}  // namespace tandem::testing
