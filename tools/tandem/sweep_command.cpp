// `tandem sweep TASK`: trainings over a grid of passes, alphas and seeds, each by `tandem train` in a folder
// of its own, and what they come to: a table, a picture, and the settings that validated best.
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "autograd/error.h"
#include "autograd/parallel.h"
#include "autograd/tell.h"
#include "nn/io/files.h"
#include "nn/io/text.h"
#include "nn/ranks/join.h"
#include "nn/train/progress.h"
#include "nn/train/run_folder.h"
#include "tools/corpora/process.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/train_report.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct SweepOptions {
  std::string task, run;
  std::vector<int64_t> passes{1, 2};
  std::vector<double> alphas{0.3, 1, 3};
  int64_t seeds = 3, jobs = 1;
  std::vector<std::string> train;  // the options of every training
};

// A place of the grid: plain training has no alpha.
struct Setting {
  int64_t passes;
  double alpha;
  std::string name() const { return passes == 1 ? "plain" : fmt::format("m{}-a{}", passes, alpha); }
};

struct Outcomes {
  std::string score, measure;  // names: of the first test score, and of what validation was judged by
  bool higher_is_better = true;
  std::vector<double> scores, validated;  // one for each seed that came to its end
};

std::string folder_of(const SweepOptions& o, const Setting& setting, int64_t seed) {
  return fmt::format("{}/{}-s{}", o.run, setting.name(), seed);
}

std::vector<Setting> grid(const SweepOptions& o) {
  std::vector<Setting> settings;
  for (const int64_t m : o.passes) {
    if (m == 1) settings.push_back({1, 0});
    for (size_t i = 0; m > 1 && i < o.alphas.size(); ++i) settings.push_back({m, o.alphas[i]});
  }
  return settings;
}

// A sweep goes on with the options that it was begun with.
void claim_folder(const SweepOptions& o) {
  const Json wanted{{"task", o.task}, {"options", o.train}};
  const std::string file = o.run + "/" + kSweepFile;
  nn::make_run_folder(o.run);
  if (!fs::exists(file)) return data::write_file(file, wanted.dump(2) + "\n");
  const Json begun = Json::parse(data::read_file("sweep", file, 1 << 20), nullptr, false);
  check<ConfigError>(begun == wanted, "--run: the sweep in '{}' was begun with {}, got {}", o.run,
                     begun.dump(), wanted.dump());
}

// Trains what is not done yet. What went wrong, or "".
std::string train(const SweepOptions& o, const Setting& setting, int64_t seed, int threads) {
  const std::string folder = folder_of(o, setting, seed);
  if (fs::exists(folder + "/" + kScoresFile)) return "";
  std::vector<std::string> args{
      fs::read_symlink("/proc/self/exe").string(), "train", o.task, "--run", folder, "--quiet"};
  if (fs::exists(folder + "/" + nn::kLastFile)) {
    args.push_back("--resume");
  } else {
    args.insert(args.end(), o.train.begin(), o.train.end());
    for (const auto& [name, value] :
         {std::pair("--passes", fmt::format("{}", setting.passes)),
          std::pair("--alpha", fmt::format("{}", setting.alpha)), std::pair("--seed", std::to_string(seed))})
      args.insert(args.end(), {name, value});
  }
  if (threads > 0) args.insert(args.end(), {"--threads", std::to_string(threads)});
  const data::ProcessResult result = data::run_process(args);
  return result.status == 0 ? "" : fmt::format("{}: status {}: {}", folder, result.status, result.output);
}

void read_scores(const std::string& folder, Outcomes& into) {
  const std::string file = folder + "/" + kScoresFile;
  try {
    const Json json = Json::parse(data::read_file("sweep", file, 1 << 20));
    const Json& valid = json.at("validation");
    check<IoError>(!json.at("scores").empty(), "{}: expected the scores of a training", file);
    const auto first = json.at("scores").items().begin();
    into.score = first.key(), into.measure = valid.at("name"),
    into.higher_is_better = valid.at("higher_is_better");
    into.scores.push_back(first.value());
    into.validated.push_back(valid.at("value"));
  } catch (const Json::exception&) {
    raise<IoError>("{}: expected the scores of a training", file);
  }
}

// Test scores by alpha, a line for each number of passes above 1, plain training's across.
void draw(const SweepOptions& o, const std::vector<Setting>& settings,
          const std::vector<Outcomes>& outcomes) {
  if (!data::has_program("gnuplot"))
    return tell("No picture was drawn: gnuplot is not installed (Debian: gnuplot-nox).");
  std::map<int64_t, std::string> lines;  // by passes
  double low = INFINITY, high = 0;
  for (size_t i = 0; i < settings.size(); ++i) {
    if (outcomes[i].scores.empty()) continue;
    const auto [m, alpha] = settings[i];
    if (m > 1) low = std::min(low, alpha), high = std::max(high, alpha);
    const double beside = std::pow(1.02, static_cast<double>(m - 2));  // so that no bar hides another
    lines[m] +=
        fmt::format("{} {} {}\n", alpha * beside, mean(outcomes[i].scores), deviation(outcomes[i].scores));
  }
  if (high == 0) return;
  std::string data, plots;
  constexpr const char* kColors[] = {"#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"};
  size_t color = 0;
  for (const auto& [m, points] : lines) {
    if (m == 1) {
      const std::vector<double>& scores =
          outcomes[std::find_if(settings.begin(), settings.end(),
                                [](const Setting& s) { return s.passes == 1; }) -
                   settings.begin()]
              .scores;
      const double middle = mean(scores), spread = deviation(scores);
      plots += fmt::format(
          "{} with filledcurves lc '#0072B2' fs transparent solid 0.15 notitle, {} with lines lw 2.5 lc "
          "'#0072B2' title 'plain', ",
          fmt::format("'+' using 1:({}):({})", middle - spread, middle + spread), middle);
      continue;
    }
    data += fmt::format("$m{} << EOD\n{}EOD\n", m, points);
    plots += fmt::format(
        "$m{0} using 1:2:3 with yerrorlines lw 2.5 pt 7 ps 1.2 lc '{1}' title 'R-Drop, m = {0}', ", m,
        kColors[color++ % std::size(kColors)]);
  }
  std::string score;
  for (const Outcomes& each : outcomes) score = each.score.empty() ? score : each.score;
  const double margin = high > 10 * low ? std::pow(high / low, 0.06) : 1 + 0.06 * (high - low) / high;
  data::write_file(
      o.run + "/sweep.gp",
      fmt::format("{}set terminal pngcairo noenhanced size 1000,700 font 'Sans,13' background '#ffffff'\nset "
                  "output 'sweep.png'\n"
                  "set encoding utf8\nset grid lc '#d0d0d0'\nset border 3 lc '#555555'\nset tics nomirror\n"
                  "set key outside top center horizontal\nset xlabel 'alpha'\nset ylabel \"{}, mean and "
                  "deviation of {} seeds\"\n"
                  "set xtics ({})\n{}set xrange [{}:{}]\nplot {}\n",
                  data, score, o.seeds, fmt::join(o.alphas, ", "),
                  high > 10 * low && low > 0 ? "set logscale x\n" : "", low / margin,
                  low == high ? low * 1.1 : high * margin, plots.substr(0, plots.size() - 2)));
  const data::ProcessResult result = data::run_process({"gnuplot", "sweep.gp"}, o.run);
  check<IoError>(result.status == 0, "gnuplot: {}", result.output);
}

void sweep(const SweepOptions& o) {
  const std::optional<nn::Launch> launch = nn::find_launch();
  check<ConfigError>(!launch, "sweep: {} started {} of it, expected one, which starts trainings (--jobs)",
                     launch ? launch->launcher : "", launch ? launch->size : 1);
  check<ConfigError>(
      std::any_of(tasks().begin(), tasks().end(), [&](const Task& t) { return t.name == o.task; }),
      "sweep: there is no task '{}'; `tandem train --help` lists them", o.task);
  for (const char* given : {"--run", "--seed", "--passes", "--alpha", "--compare", "--resume", "--overwrite"})
    check<ConfigError>(std::find(o.train.begin(), o.train.end(), given) == o.train.end(),
                       "sweep: {} is the sweep's own, and not for its trainings", given);
  claim_folder(o);
  const std::vector<Setting> settings = grid(o);
  const int64_t all = std::ssize(settings) * o.seeds;
  std::atomic<int64_t> next = 0, done = 0;
  std::mutex told;
  std::vector<std::string> failures;
  const int threads = o.jobs > 1 ? std::max<int>(1, num_threads() / static_cast<int>(o.jobs)) : 0;
  const auto work = [&] {
    for (int64_t i; (i = next++) < all;) {
      // Seed by seed, so that a sweep that is stopped has some of every setting.
      const Setting& setting = settings[i % settings.size()];
      const int64_t seed = i / std::ssize(settings);
      const auto start = Clock::now();
      std::string failure;
      try {
        failure = train(o, setting, seed, threads);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      const std::lock_guard lock(told);
      tell("[{:>3}/{}] {}, seed {}: {}", ++done, all, setting.name(), seed,
           failure.empty() ? nn::clock_text(std::chrono::duration<double>(Clock::now() - start).count())
                           : failure);
      if (!failure.empty()) failures.push_back(failure);
    }
  };
  std::vector<std::jthread> workers;
  for (int64_t job = 1; job < o.jobs; ++job) workers.emplace_back(work);
  work();
  workers.clear();  // waits

  std::vector<Outcomes> outcomes(settings.size());
  std::optional<size_t> best;
  for (size_t i = 0; i < settings.size(); ++i) {
    Outcomes& of = outcomes[i];
    for (int64_t seed = 0; seed < o.seeds; ++seed) {
      const std::string folder = folder_of(o, settings[i], seed);
      if (fs::exists(folder + "/" + kScoresFile)) read_scores(folder, of);
    }
    if (of.scores.empty()) continue;
    const double sign = of.higher_is_better ? 1 : -1;
    if (!best || sign * mean(of.validated) > sign * mean(outcomes[*best].validated)) best = i;
  }
  check<ConfigError>(best.has_value(), "sweep: no training came to its end; {}", failures.front());
  std::vector<std::vector<std::string>> rows{{"training", "passes", "alpha", "seeds", outcomes[*best].score,
                                              "valid " + outcomes[*best].measure, ""}};
  for (size_t i = 0; i < settings.size(); ++i) {
    if (outcomes[i].scores.empty()) continue;
    const auto [m, alpha] = settings[i];
    rows.push_back({m == 1 ? "plain" : "R-Drop", std::to_string(m), m == 1 ? "-" : fmt::format("{}", alpha),
                    std::to_string(outcomes[i].scores.size()), summary(outcomes[i].scores),
                    summary(outcomes[i].validated), i == *best ? "best in validation" : ""});
  }
  print_table(rows);
  data::write_file(
      o.run + "/best.toml",
      data::read_file("sweep", folder_of(o, settings[*best], 0) + "/" + nn::kSettingsFile, 1 << 20));
  draw(o, settings, outcomes);
  fmt::print("Best settings: {}/best.toml, for `tandem train {} --config`; picture: {}/sweep.png\n", o.run,
             o.task, o.run);
  check<ConfigError>(failures.empty(), "sweep: {} of {} trainings failed", failures.size(), all);
}

}  // namespace

void add_sweep(Command& root) {
  const auto o = std::make_shared<SweepOptions>();
  Command command = root.add("sweep", "train over a grid of passes, alphas and seeds, and compare");
  command.argument("TASK", o->task, "what is trained, as of `tandem train`").required();
  command.argument("OPTIONS", o->train, "of every training, behind --");
  command.option("--passes", o->passes, integer(1, kMaxPasses), "numbers of passes; 1: plain training");
  command.option("--alpha", o->alphas, non_negative(), "weights of the KL term");
  command.option("--seeds", o->seeds, integer(1), "trainings of each setting, with seeds from 0");
  command.option("--jobs", o->jobs, integer(1, 1024), "trainings at once, which share the cores");
  command
      .option("--run", o->run, not_empty(), "folder of the trainings; a sweep that was stopped goes on there")
      .required();
  command.examples({"tandem sweep vit --seeds 5 --jobs 2 --run sweep -- --limit 500",
                    "tandem sweep lm --passes 1,2 --alpha 0.3,1 --run sweep -- --epochs 3"});
  command.run([o] { sweep(*o); });
}

}  // namespace tandem::command
