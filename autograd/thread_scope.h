// What scopes that are of one thread have in common (PassContext, GradMode, SeedScope, InitScope, Profiler):
// the last one that a thread has opened is its current one. They may close in any order, on their thread.
#pragma once

namespace tandem {

namespace detail {
// Ends the program with an AutogradError's message: the thread that opened it would go on in a scope that is
// gone.
[[noreturn]] void closed_on_another_thread(const char* scope) noexcept;
}  // namespace detail

// Takes a scope out of this thread's; `outer` is its member that leads to the one around it.
template <class S> void close_scope(S*& innermost, S* scope, S* S::*outer, const char* name) noexcept {
  for (S** at = &innermost; *at; at = &((*at)->*outer)) {
    if (*at != scope) continue;
    *at = scope->*outer;
    return;
  }
  detail::closed_on_another_thread(name);
}

}  // namespace tandem
