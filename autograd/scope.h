// The path of the module that is being run on this thread, e.g. "encoder.3.attn.q_proj".
// Errors name it, and noise is keyed by it (a dropout site is a module path).
#pragma once

#include <cstdint>
#include <string>

namespace tandem {

class Scope {
 public:
  explicit Scope(const std::string& path);  // `path` must outlive the scope
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // The innermost path on this thread; "" outside of every module.
  static const std::string& current();

 private:
  const std::string* outer_;
};

// FNV-1a, the stable 64-bit hash used to key noise by path.
constexpr uint64_t hash_path(const char* text, size_t size) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<unsigned char>(text[i])) * 0x100000001b3ull;
  return hash;
}
inline uint64_t hash_path(const std::string& path) { return hash_path(path.data(), path.size()); }

}  // namespace tandem
