#include "autograd/error.h"

#include "autograd/scope.h"

namespace tandem {
namespace {

const std::string kNoPath;
thread_local const std::string* current_path = &kNoPath;

std::string with_scope(const std::string& message) {
  return current_path->empty() ? message : message + "; in " + *current_path;
}

}  // namespace

Error::Error(const std::string& message) : std::runtime_error(with_scope(message)) {}

Scope::Scope(const std::string& path) : outer_(current_path) { current_path = &path; }
Scope::~Scope() { current_path = outer_; }
const std::string& Scope::current() { return *current_path; }

}  // namespace tandem
