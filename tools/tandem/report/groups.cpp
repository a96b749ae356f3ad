#include "tools/tandem/report/groups.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "nn/io/text.h"

namespace tandem::report {
namespace {

namespace fs = std::filesystem;

// What a training comes to does not depend on these, but for the seed and what it was begun from.
const std::set<std::string>& without_effect() {
  static const std::set<std::string> names{
      "run",      "seed",       "device", "threads", "plan",         "cuda-graph", "log-every", "save-every",
      "max-time", "measure-kl", "quiet",  "profile", "on-bad-image", "keep",       "accumulate"};
  return names;
}

// Runs of versions that had other options are other settings.
std::string learned_from(const RunRecord& run) {
  std::string key;
  for (const auto& [name, value] : run.settings)
    if (!without_effect().contains(name)) key += name + "=" + value + "\n";
  // Nothing is known of it: not the same as another.
  return run.settings.empty() ? run.folder : key;
}

// Folders without those above that all share.
void name_runs(std::vector<RunRecord>& runs) {
  std::vector<std::vector<std::string>> paths;
  for (const RunRecord& run : runs) {
    std::vector<std::string>& parts = paths.emplace_back();
    for (const fs::path& part : fs::absolute(run.folder).lexically_normal())
      if (!part.empty() && part != "/") parts.push_back(part.string());
  }
  size_t shared = 0;
  const auto is_shared = [&](const auto& parts) {
    return shared + 1 < parts.size() && parts[shared] == paths[0][shared];
  };
  while (std::all_of(paths.begin(), paths.end(), is_shared)) ++shared;
  for (size_t i = 0; i < runs.size(); ++i)
    runs[i].name = data::join({paths[i].begin() + static_cast<ptrdiff_t>(shared), paths[i].end()}, "/");
}

// What the names of its runs begin with, up to the seed: "m2-a1" of m2-a1-s0 and m2-a1-s1.
std::string shared_name(const Group& group) {
  std::string name = group.first().name;
  if (group.runs.size() == 1) return name;
  for (const RunRecord* run : group.runs) {
    const auto differs = std::mismatch(name.begin(), name.end(), run->name.begin(), run->name.end()).first;
    name.erase(differs, name.end());
  }
  name.erase(name.find_last_not_of("0123456789") + 1);
  for (const char* seed : {"seed", "s"})
    if (name.ends_with(seed)) name.erase(name.size() - std::string(seed).size());
  name.erase(name.find_last_not_of("-_/. =") + 1);
  return name;
}

}  // namespace

std::vector<const RunRecord*> Group::seeds() const {
  std::vector<const RunRecord*> different;
  std::set<std::string> seen;
  for (const RunRecord* run : runs)
    if (!run->scores.empty() && seen.insert(run->setting("seed")).second) different.push_back(run);
  return different;
}

std::vector<double> Group::scores(const std::string& wanted) const {
  std::vector<double> found;
  for (const RunRecord* run : seeds())
    for (const auto& [score, value] : run->scores)
      if (score == wanted && std::isfinite(value)) found.push_back(value);
  return found;
}

std::vector<std::string> Groups::scores() const {
  std::vector<std::string> names;
  for (const Group& group : all)
    for (const RunRecord* run : group.runs)
      for (const auto& [name, value] : run->scores)
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

Groups group(std::vector<RunRecord>& runs) {
  name_runs(runs);
  Groups groups;
  std::vector<std::string> keys;
  for (const RunRecord& run : runs) {
    const std::string key = learned_from(run);
    size_t at = 0;
    const auto is_same = [&](const RunRecord& other) {  // a run that has not ended tells no task
      return keys[at] == key && (run.task == other.task || run.task.empty() || other.task.empty());
    };
    while (at < keys.size() && !is_same(groups.all[at].first())) ++at;
    if (at == keys.size()) keys.push_back(key), groups.all.emplace_back();
    groups.all[at].runs.push_back(&run);
  }
  std::set<std::string> names, seen;
  for (Group& each : groups.all) {
    each.name = shared_name(each);
    // A name that is empty or another's says nothing.
    if (each.name.empty() || !seen.insert(each.name).second) each.name = each.first().name;
    for (const auto& [name, value] : each.first().settings)
      if (name != "run" && name != "seed") names.insert(name);
  }
  for (const std::string& name : names) {
    std::set<std::string> values;
    for (const RunRecord& run : runs) {
      // Older runs lack options, plain ones those of passes, of which alpha alone is worth a column.
      const bool has = run.settings.contains(name) || (name == "alpha" && !run.settings.empty());
      if (has) values.insert(run.setting(name));
    }
    if (values.size() > 1) groups.differing.push_back(name);
  }
  return groups;
}

}  // namespace tandem::report
