#include "autograd/error.h"

#include "autograd/scope.h"
#include "autograd/thread_scope.h"

namespace tandem {
namespace {

const std::string kNoPath;
thread_local const std::string* current_path = &kNoPath;
constexpr const char* no_op = "tensor";
thread_local const char* current_op = no_op;

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

void detail::closed_on_another_thread(const char* scope) noexcept {
  raise<AutogradError>("{}: closed on another thread than the one that opened it, whose scope it is", scope);
}

Scope::Scope(const std::string& path) : outer_(current_path) { current_path = &path; }
Scope::~Scope() { current_path = outer_; }
const std::string& Scope::current() { return *current_path; }

OpScope::OpScope(const char* op) : outer_(current_op) { current_op = op; }
OpScope::~OpScope() { current_op = outer_; }
const char* OpScope::current() { return current_op; }
bool OpScope::none() { return current_op == no_op; }

}  // namespace tandem
