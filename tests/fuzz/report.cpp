#include <filesystem>
#include <fstream>

#include "nn/io/files.h"
#include "nn/train/manifest.h"
#include "tests/fuzz/fuzz.h"
#include "tools/tandem/report/page.h"
#include "tools/tandem/step_log.h"
#include "tools/tandem/train_report.h"

using namespace tandem;

// The files of a run, one behind the other with a byte 30 between, and the page of it and of another one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const data::TemporaryFolder folder(
      std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path().string());
  std::string_view rest = fuzz::text_of(data, size);
  const std::string run = folder.path() + "/run";
  std::filesystem::create_directories(run);
  for (const char* name : {nn::kMetricsFile, command::kStepsFile, command::kScoresFile, nn::kSettingsFile}) {
    const std::string_view content = rest.substr(0, rest.find('\x1e'));
    std::ofstream(run + "/" + name, std::ios::binary) << content;
    rest.remove_prefix(std::min(rest.size(), content.size() + 1));
  }
  fuzz::read_or_refuse([&] {
    report::RunRecord other;
    other.folder = folder.path() + "/other";
    std::vector<report::RunRecord> runs{report::read_record(run), other, report::read_record(run)};
    runs[2].settings["seed"] += "0";
    const report::Groups groups = report::group(runs);
    const std::string page = report::make_page(runs, groups, {}, "fuzz");
    const size_t script = page.find("<script>");
    fuzz::require(page.find("</html>") == page.size() - 8 && page.find("<script>", script + 1) == page.npos,
                  "a page is whole, and has no script of another's");
  });
  return 0;
}
