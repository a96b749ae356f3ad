#include "nn/train/report.h"

#include <fmt/format.h>

#include "nn/train/progress.h"

namespace tandem::nn {

std::string epoch_label(const TrainerOptions& options, int64_t epoch) {
  const std::string count = std::to_string(options.epochs);
  return fmt::format("{}{}epoch {:>{}}/{}", options.name, options.name.empty() ? "" : " ", epoch + 1,
                     count.size(), count);
}

std::string progress_text(const Metrics& epoch) {
  return fmt::format("loss {:.3f} ce {:.3f} kl {:.4f}", epoch.loss, epoch.ce, epoch.kl) +
         (epoch.accuracy >= 0 ? fmt::format(" acc {:.1f}%", 100 * epoch.accuracy) : "");
}

std::string epoch_line(const TrainerOptions& options, const Metrics& train, const Metrics& valid, bool best) {
  const std::string label =
      epoch_label(options, valid.epoch) + (options.eval_steps > 0 ? fmt::format(" step {}", valid.step) : "");
  const auto accuracy = [&](const char* space) {
    if (!options.metric.name.empty())
      return fmt::format("{}{} {:.4g}", space, options.metric.name, valid.metric);
    return valid.accuracy >= 0 ? fmt::format("{}acc {:.2f}%", space, 100 * valid.accuracy) : "";
  };
  const std::string line =
      fmt::format("{}  loss {:.4f}  ce {:.4f}  kl {:.4f} | valid ce {:.4f}{}  {:6.0f} {}/s{}", label,
                  train.loss, train.ce, train.kl, valid.ce, accuracy("  "), train.samples_per_second,
                  options.unit, best ? "  best" : "");
  if (line.size() <= terminal_width()) return line;
  return fmt::format("{} loss {:.3f} ce {:.3f} kl {:.4f}  valid ce {:.3f}{}{}", label, train.loss, train.ce,
                     train.kl, valid.ce, accuracy(" "), best ? " *" : "");
}

}  // namespace tandem::nn
