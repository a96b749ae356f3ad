// By libcrypto, which uses the CPU's instructions for it: a checkpoint is hashed about as fast as it is
// written.
#include "nn/io/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "autograd/error.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

EVP_MD_CTX* context(void* state) { return static_cast<EVP_MD_CTX*>(state); }

void check_crypto(bool done) { check<Error>(done, "sha256: libcrypto failed"); }

}  // namespace

Sha256::Sha256() : state_(EVP_MD_CTX_new()) {
  check_crypto(state_ != nullptr && EVP_DigestInit_ex(context(state_), EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context(state_)); }

void Sha256::add(const void* bytes, size_t count) {
  check_crypto(EVP_DigestUpdate(context(state_), bytes, count) == 1);
}

std::string Sha256::digest() {
  std::array<unsigned char, 32> bytes{};
  check_crypto(EVP_DigestFinal_ex(context(state_), bytes.data(), nullptr) == 1);
  std::string hex;
  for (const unsigned char byte : bytes) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string sha256(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes.data(), bytes.size());
  return sum.digest();
}

std::string sha256_of_file(const std::string& file) {
  int64_t left = checked_file_size("sha256", file);
  std::ifstream in(file, std::ios::binary);
  check<IoError>(in.is_open(), "sha256: {}: cannot be opened: {}", file, std::strerror(errno));
  Sha256 sum;
  for (std::vector<char> piece(1 << 20); left > 0; left -= in.gcount()) {
    in.read(piece.data(), std::min<int64_t>(left, std::ssize(piece)));
    check<IoError>(in.gcount() > 0, "sha256: {}: reading stopped {} bytes before its end", file, left);
    sum.add(piece.data(), static_cast<size_t>(in.gcount()));
  }
  return sum.digest();
}

}  // namespace tandem::data
