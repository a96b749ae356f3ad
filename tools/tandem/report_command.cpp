// `tandem report RUN…`: one page on trainings.
#include <fmt/format.h>

#include <filesystem>
#include <future>
#include <set>

#include "autograd/tell.h"
#include "nn/io/files.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/report/examples_section.h"
#include "tools/tandem/train_report.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  std::vector<std::string> runs;
  std::string output, device = "auto";
  int64_t examples = -1;
};

constexpr int64_t kUsualExamples = 10'000;
constexpr size_t kFewRuns = 2;  // whose examples are shown unless asked otherwise

void make_report(const ReportOptions& o) {
  std::vector<std::future<report::RunRecord>> read;  // long trainings have large files
  std::set<fs::path> seen;
  for (const std::string& path : o.runs)
    for (const std::string& folder : report::folders_of(path))
      if (seen.insert(fs::canonical(folder)).second)
        read.push_back(std::async(std::launch::async, report::read_record, folder));
  std::vector<report::RunRecord> runs;
  for (auto& run : read) runs.push_back(run.get());
  const report::Groups groups = report::group(runs);
  const int64_t examples = o.examples >= 0 ? o.examples : runs.size() <= kFewRuns ? kUsualExamples : 0;
  std::vector<report::ExamplesSection> sections;
  const nn::InitScope scope({.device = examples > 0 ? load_device(o.device) : kCpu});
  for (report::RunRecord& run : runs) {
    if (examples == 0) break;
    try {
      const auto section = report::examples_of(run, examples, fmt::format("examples-{}", sections.size()));
      if (!section.body.empty()) sections.push_back(section);
    } catch (const Error& error) {  // its data may be gone, or its weights; the rest is worth a page
      if (o.examples > 0) throw;
      tell("warning: {}: no test examples: {}", run.folder, error.what());
      run.lacks.push_back(fmt::format("its test examples cannot be shown: {}.", error.what()));
    }
  }
  const std::string output = o.output.empty() ? (fs::path(o.runs.front()) / kReportFile).string() : o.output;
  data::write_file(output, report::make_page(runs, groups, sections, "tandem " TANDEM_VERSION));
  fmt::print("Report: {}\n", output);
}

}  // namespace

void add_report(Command& root) {
  const auto o = std::make_shared<ReportOptions>();
  Command command = root.add("report", "one page on trainings: curves, scores, settings, mistakes");
  command.argument("RUN", o->runs, "run folders, also of a --compare or a sweep").required();
  command.option("--output,-o", o->output, not_empty(),
                 "the page (default: report.html in the first folder)");
  command.option(
      "--examples", o->examples, integer(-1),
      fmt::format("test samples that each run's best weights predict, for confusion, calibration and "
                  "the worst mistakes; -1: {} of up to {} runs, none of more",
                  kUsualExamples, kFewRuns));
  command.device(o->device);
  command.examples({"tandem report runs/vit", "tandem report sweep -o sweep.html",
                    "tandem report runs/first runs/second --examples 2000"});
  command.run([o] { make_report(*o); });
}

}  // namespace tandem::command
