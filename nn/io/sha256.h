// SHA-256 as 64 hexadecimal digits, as sha256sum prints it.
#pragma once

#include <string>
#include <string_view>

namespace tandem::data {

std::string sha256(std::string_view bytes);  // of all of them

// Of a whole regular file, read piece by piece. IoError when it cannot be read.
std::string sha256_of_file(const std::string& file);

// Of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(const void* bytes, size_t count);  // the next piece
  std::string digest();                       // once, at the end

 private:
  void* state_;
};

}  // namespace tandem::data
