// Whether ops are recorded on this thread.
#pragma once

namespace tandem {

bool grad_enabled();  // true unless a guard says otherwise

class GradMode {  // sets the mode for a scope
 public:
  [[nodiscard("it acts while it lives: give it a name")]] explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  friend bool grad_enabled();
  bool enabled_;
  GradMode* outer_;
};

// Nothing is recorded while it lives: torch.no_grad(). Example:
//
//   Tensor w = ones({3}).requires_grad_();
//   {
//     const NoGradGuard no_grad;
//     w.mul_(0.5);  // in place: an error where it is recorded
//   }
struct NoGradGuard : GradMode {
  [[nodiscard("it acts while it lives: give it a name")]] NoGradGuard() : GradMode(false) {}
};

}  // namespace tandem
