// Whether ops are recorded on this thread.
#pragma once

namespace tandem {

bool grad_enabled();  // true unless a guard says otherwise

class GradMode {  // sets the mode for a scope
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool outer_;
};

// Nothing is recorded while it lives: torch.no_grad().
struct NoGradGuard : GradMode {
  NoGradGuard() : GradMode(false) {}
};

}  // namespace tandem
