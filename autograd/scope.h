// The path of the module that is being run on this thread, e.g. "encoder.3.attn.q_proj".
// Errors name it, and noise is keyed by it (a dropout site is a module path).
#pragma once

#include <string>

namespace tandem {

class Scope {
 public:
  explicit Scope(const std::string& path);      // `path` must outlive the scope
  explicit Scope(std::string&& path) = delete;  // no temporary, and so no literal
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // The innermost path on this thread; "" outside of every module.
  static const std::string& current();

 private:
  const std::string* outer_;
};

// The op that is being run on this thread, forward or backward: what an error about its memory names.
class OpScope {
 public:
  explicit OpScope(const char* op);  // must outlive the scope
  ~OpScope();
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

  // The innermost op; "tensor" outside of every op.
  static const char* current();
  static bool none();  // outside of every op

 private:
  const char* outer_;
};

}  // namespace tandem
