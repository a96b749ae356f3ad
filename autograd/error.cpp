#include "autograd/error.h"

#include "autograd/scope.h"

namespace tandem {
namespace {

const std::string kNoPath;
thread_local const std::string* current_path = &kNoPath;

std::string with_scope(const std::string& message) {
  if (current_path->empty()) return message;
  std::string text;
  text.reserve(message.size() + current_path->size() + 5);
  return text.append(message).append("; in ").append(*current_path);
}

}  // namespace

Error::Error(const std::string& message) : std::runtime_error(with_scope(message)) {}

std::string detail::format_message(fmt::string_view format, fmt::format_args args) {
  return fmt::vformat(format, args);
}

Scope::Scope(const std::string& path) : outer_(current_path) { current_path = &path; }
Scope::~Scope() { current_path = outer_; }
const std::string& Scope::current() { return *current_path; }

}  // namespace tandem
