// What was found: reports, where in a kernel they come from, and the error that the device has since.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>

#include "ptx/interpreter.h"
#include "runtime/runtime.h"

namespace cudasim {
namespace {

std::vector<Report>& filed() {
  static auto& reports = *new std::vector<Report>;
  return reports;
}

constexpr std::string_view anonymous = "(anonymous namespace)";

std::string whole_name(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  if (text == nullptr) return name;
  std::string result = text;
  std::free(text);
  return result;
}

}  // namespace

std::string demangled(const std::string& name) {
  std::string result = whole_name(name);
  // A parenthesis inside of <> belongs to a template's argument.
  int depth = 0;
  for (size_t i = 0; i < result.size(); ++i) {
    if (result[i] == '<') ++depth;
    if (result[i] == '>') --depth;
    if (result[i] == '(' && depth == 0 && result.compare(i, anonymous.size(), anonymous) != 0) {
      result.resize(i);
      break;
    }
  }
  return result.starts_with("void ") ? result.substr(5) : result;
}

std::string variable_name(const std::string& name) {
  const std::string whole = whole_name(name);
  const size_t at = whole.rfind("::");
  return at == std::string::npos ? whole : whole.substr(at + 2);
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string source_of(const Function& function, const Instruction& in) {
  const auto name = [&](int file, uint32_t line) {
    const auto it = function.module->files.find(file);
    if (line == 0 || it == function.module->files.end()) return std::string();
    const size_t slash = it->second.rfind('/');
    return it->second.substr(slash == std::string::npos ? 0 : slash + 1) + ":" + std::to_string(line);
  };
  const std::string inner = name(in.file, in.source_line), outer = name(in.caller_file, in.caller_line);
  if (inner.empty()) return "PTX line " + std::to_string(in.line);
  return outer.empty() ? inner : inner + " < " + outer;
}

void report(const std::string& kind, const std::string& message, cudaError_t error) {
  set_sticky_error(error);
  if (options().print) std::fprintf(stderr, "cudasim: %s: %s\n", kind.c_str(), message.c_str());
  filed().push_back({kind, message});
}

const std::vector<Report>& reports() { return filed(); }

void reset_reports() {
  filed().clear();
  clear_sticky_error();
}

void Warp::report(const std::string& kind, const std::string& message, uint32_t lane, cudaError_t error) {
  set_sticky_error(error);
  if (!launch->reported.insert({kind, executing}).second) return;
  if (launch->reported.size() > static_cast<size_t>(options().max_reports)) return;
  std::string where = "; in " + demangled(launch->kernel->name);
  if (executing != nullptr && current.function != nullptr)
    where += " at " + source_of(*current.function, *executing);
  where += ", " + block->thread_name(thread(lane));
  if (launch->order == Order::random) where += ", seed " + std::to_string(options().seed);
  cudasim::report(kind, message + where, error);
}

void Warp::abort(const std::string& kind, const std::string& message, uint32_t lane, cudaError_t error) {
  report(kind, message, lane, error);
  throw LaunchAborted{};
}

}  // namespace cudasim
