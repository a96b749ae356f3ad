#include "tools/tandem/report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "nn/train/progress.h"
#include "tools/tandem/report/curve_data.h"
#include "tools/tandem/report/html.h"
#include "tools/tandem/report/page_files.h"
#include "tools/tandem/statistics.h"

namespace tandem::report {
namespace {

using command::four_digits;

// As in page.js: 8 colours, and other dashes where there are more groups.
std::string style(size_t group) { return fmt::format("c{} d{}", group % 8, group / 8 % 4); }

std::string swatch(size_t group) {
  return fmt::format(
      "<svg class=\"swatch {}\" viewBox=\"0 0 24 12\" aria-hidden=\"true\"><line x1=\"0\" x2=\"24\" "
      "y1=\"6\" y2=\"6\"/></svg>",
      style(group));
}

std::string several(size_t n, const std::string& what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string section(const std::string& id, const std::string& title, const std::string& body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n{2}</section>\n",
      id, escape(title), body);
}

// Where each seed, the mean and its interval are between the least and the most of all groups.
std::string whisker(size_t group, const std::vector<double>& values, double low, double high) {
  if (values.empty() || !(high > low)) return "";
  const auto x = [&](double value) { return 6 + 132 * (std::clamp(value, low, high) - low) / (high - low); };
  const double middle = command::mean(values), half = command::half_interval(values);
  std::string out =
      fmt::format("<svg class=\"whisker {}\" viewBox=\"0 0 144 24\" aria-hidden=\"true\">", style(group));
  if (std::isfinite(half))
    out += fmt::format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"12\" y2=\"12\"/>", x(middle - half),
                       x(middle + half));
  if (values.size() > 1)
    for (const double value : values)
      out += fmt::format("<circle class=\"seed\" cx=\"{:.1f}\" cy=\"12\" r=\"3\"/>", x(value));
  return out + fmt::format("<circle cx=\"{:.1f}\" cy=\"12\" r=\"5\"/></svg>", x(middle));
}

// "80.71 ± 0.32", and below the interval.
std::string measured(const std::vector<double>& values) {
  if (values.empty()) return "–";
  const double middle = command::mean(values), half = command::half_interval(values);
  const int decimals = four_digits(middle);
  std::string out = fmt::format("{:.{}f}", middle, decimals);
  if (values.size() < 2) return out;
  out += fmt::format(" <span class=\"spread\">± {:.{}f}</span>", command::deviation(values), decimals);
  return out + fmt::format(" <span class=\"interval\">{:.{}f} to {:.{}f}</span>", middle - half, decimals,
                           middle + half, decimals);
}

// Each run alone, where the other tables have several as one.
std::string every_run(const std::vector<RunRecord>& runs, const Groups& groups) {
  if (groups.all.size() == runs.size()) return "";
  const std::vector<std::string> names = groups.scores();
  Table table{.caption = "Every run"};
  table.head = {"run", "seed"};
  for (const std::string& name : names) table.head.push_back(escape(name));
  for (const Group& group : groups.all) {
    for (const RunRecord* run : group.runs) {
      std::vector<std::string> row{escape(run->name), escape(run->setting("seed"))};
      for (const std::string& name : names) {
        const auto found = std::find_if(run->scores.begin(), run->scores.end(),
                                        [&](const auto& s) { return s.first == name; });
        row.push_back(
            found == run->scores.end() || !std::isfinite(found->second) ? "–" : measured({found->second}));
      }
      table.rows.push_back(row);
    }
  }
  return "<details><summary>Every run</summary>\n" + html(table) + "</details>\n";
}

// From the least to the most of what whisker() draws; low > high where there is nothing.
std::pair<double, double> range_of(const Groups& groups, const std::string& score) {
  double low = INFINITY, high = -INFINITY;
  for (const Group& group : groups.all) {
    const std::vector<double> values = group.scores(score);
    for (const double value : values) low = std::min(low, value), high = std::max(high, value);
    if (values.size() < 2) continue;
    const double middle = command::mean(values), half = command::half_interval(values);
    low = std::min(low, middle - half), high = std::max(high, middle + half);
  }
  return {low, high};
}

std::string scores_section(const std::vector<RunRecord>& runs, const Groups& groups) {
  const std::vector<std::string> names = groups.scores();
  const bool seeds = std::any_of(groups.all.begin(), groups.all.end(),
                                 [](const Group& group) { return group.seeds().size() > 1; });
  const auto [low, high] = range_of(groups, names.empty() ? "" : names[0]);
  const bool drawn = seeds && groups.all.size() > 1 && high > low;  // of single numbers it would say nothing
  Table table{.caption = "Scores of the best weights on the test data"};
  table.head = {"setting", "seeds"};
  for (const std::string& name : names) {
    table.head.push_back(escape(name));
    if (drawn && &name == &names[0])
      table.head.push_back("<span class=\"hidden\">picture of " + escape(name) + "</span>");
  }
  std::set<std::string> measures;
  for (const Group& group : groups.all)
    for (const RunRecord* run : group.runs)
      if (!run->measure.empty()) measures.insert(run->measure);
  for (const std::string& measure : measures) table.head.push_back("validation " + escape(measure));
  for (size_t i = 0; i < groups.all.size(); ++i) {
    const Group& group = groups.all[i];
    const size_t measurements = group.seeds().size();
    std::vector<std::string> row{swatch(i) + " " + escape(group.name),
                                 measurements > 0 ? std::to_string(measurements) : "–"};
    for (const std::string& name : names) {
      row.push_back(measured(group.scores(name)));
      if (drawn && &name == &names[0]) row.push_back(whisker(i, group.scores(name), low, high));
    }
    for (const std::string& measure : measures) {
      std::vector<double> values;
      for (const RunRecord* run : group.seeds())
        if (run->measure == measure && std::isfinite(run->validated)) values.push_back(run->validated);
      row.push_back(measured(values));
    }
    table.rows.push_back(row);
  }
  std::string body;
  if (seeds)
    body +=
        "<p>Of several seeds: the mean, ± the standard deviation over the seeds, and below them the\n"
        "95 % interval of the mean (Student’s t).</p>\n";
  return section("scores", "Scores", body + html(table) + every_run(runs, groups));
}

std::string curves_section(const Groups& groups, const nlohmann::json& charts) {
  std::string body =
      "<div class=\"legends\">\n<div class=\"legend\" role=\"group\" aria-label=\"Curves that are shown\">\n";
  for (size_t i = 0; i < groups.all.size(); ++i)
    body += fmt::format("<button type=\"button\" aria-pressed=\"true\" data-group=\"{}\">{}{}</button>\n", i,
                        swatch(i), escape(groups.all[i].name));
  if (groups.all.size() > 3)
    body +=
        "<button type=\"button\" data-all=\"true\">all</button>\n"
        "<button type=\"button\" data-all=\"false\">none</button>\n";
  body +=
      "</div>\n<div class=\"legend\" role=\"group\" aria-label=\"Parts of the curves\">\n"
      "<button type=\"button\" aria-pressed=\"true\" data-split=\"train\">training (thin)</button>\n"
      "<button type=\"button\" aria-pressed=\"true\" data-split=\"valid\">validation (thick)</button>\n"
      "</div>\n</div>\n"
      "<noscript><p class=\"lacks\">The curves need JavaScript; everything else is here.</p></noscript>\n"
      "<div class=\"charts\">\n";
  for (const auto& chart : charts) {
    const std::string title = escape(chart.at("title").get<std::string>()), unit = chart.at("unit");
    body += fmt::format(
        "<figure class=\"chart\" data-chart=\"{}\"><figcaption>{}{}</figcaption>"
        "<div class=\"plot\" tabindex=\"0\" role=\"slider\" aria-label=\"{}: values at an optimizer step\" "
        "aria-valuenow=\"0\"></div></figure>\n",
        chart.at("key").get<std::string>(), title, unit.empty() ? "" : " <span>" + unit + "</span>", title);
  }
  body +=
      "</div>\n<p class=\"note\">By optimizer steps. A band is from the least to the most of a setting’s "
      "runs,\n"
      "its line their mean; long trainings are drawn as means of neighbouring steps. Point at a chart,\n"
      "or reach it by Tab and go along it by the arrow keys, for its values.</p>\n";
  return section("curves", "Curves", body);
}

std::string settings_section(const Groups& groups) {
  if (groups.differing.empty()) return "";
  Table table{.caption = "Settings that are not the same in all runs", .style = "words"};
  table.head = {"setting"};
  for (const std::string& name : groups.differing) table.head.push_back(escape(name));
  for (size_t i = 0; i < groups.all.size(); ++i) {
    const Group& group = groups.all[i];
    std::vector<std::string> row{swatch(i) + " " + escape(group.name)};
    for (const std::string& name : groups.differing) {
      std::vector<std::string> values;
      for (const RunRecord* run : group.runs) {
        const std::string value = run->settings.contains(name) ? run->setting(name) : "–";
        if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
      }
      std::string cell;
      for (const std::string& value : values) cell += (cell.empty() ? "" : " / ") + escape(value);
      row.push_back(cell.empty() ? "–" : cell);
    }
    table.rows.push_back(row);
  }
  return section("settings", "Settings that differ", html(table));
}

std::string cost_section(const Groups& groups) {
  Table table{.caption = "What training cost: means over the runs of a setting"};
  table.head = {"setting", "time", "updates", "epochs", "samples per second", "memory"};
  for (size_t i = 0; i < groups.all.size(); ++i) {
    const Group& group = groups.all[i];
    std::vector<double> seconds, updates, epochs, rates;
    double memory = NAN;
    for (const RunRecord* run : group.runs) {
      seconds.push_back(run->seconds), updates.push_back(static_cast<double>(run->updates));
      epochs.push_back(static_cast<double>(run->epochs));
      if (std::isfinite(run->samples_per_s)) rates.push_back(run->samples_per_s);
      memory = std::fmax(memory, run->memory_mb);
    }
    const double time = command::mean(seconds);
    table.rows.push_back({swatch(i) + " " + escape(group.name),
                          time < 60 || time > 1e9 ? fmt::format("{:.1f} s", time) : nn::clock_text(time),
                          whole(command::mean(updates)), fmt::format("{:.4g}", command::mean(epochs)),
                          rates.empty() ? "–" : whole(command::mean(rates)),
                          std::isnan(memory) ? "–" : whole(memory) + " MB"});
  }
  return section(
      "cost", "Training cost",
      html(table) +
          "<p class=\"note\">Time is of training and validation; memory is the most that the process "
          "held at a step, on the host.</p>\n");
}

std::string lacks_box(const std::vector<RunRecord>& runs) {
  std::string items;
  for (const RunRecord& run : runs)
    for (const std::string& lack : run.lacks) items += "<li>" + escape(run.name + ": " + lack) + "</li>\n";
  return items.empty() ? "" : "<div class=\"lacks\" role=\"note\"><ul>\n" + items + "</ul></div>\n";
}

void fill(std::string& page, const std::string& place, std::string_view with) {
  page.replace(page.find(place), place.size(), with);
}

}  // namespace

std::string make_page(const std::vector<RunRecord>& runs, const Groups& groups,
                      const std::vector<ExamplesSection>& examples, const std::string& maker) {
  const std::string curves = curves_to_json(groups);
  const auto charts = nlohmann::json::parse(curves).at("charts");
  std::set<std::string> tasks;
  for (const RunRecord& run : runs)
    if (!run.task.empty()) tasks.insert(run.task);
  std::string task_names;
  for (const std::string& task : tasks) task_names += (task_names.empty() ? "" : ", ") + task;
  const std::string title =
      runs.size() == 1 ? "Report of " + runs[0].name : fmt::format("Report of {} runs", runs.size());

  std::string nav = "<a href=\"#scores\">Scores</a>\n";
  std::string sections = lacks_box(runs) + scores_section(runs, groups);
  if (!charts.empty()) {
    nav += "<a href=\"#curves\">Curves</a>\n";
    sections += curves_section(groups, charts);
  }
  if (!groups.differing.empty()) nav += "<a href=\"#settings\">Settings</a>\n";
  nav += "<a href=\"#cost\">Cost</a>\n";
  sections += settings_section(groups) + cost_section(groups);
  for (const ExamplesSection& each : examples) {
    nav += fmt::format("<a href=\"#{}\">{}</a>\n", each.id, escape(each.title));
    sections += section(each.id, each.title, each.body);
  }
  const std::string about = fmt::format(
      "{}{}{}", task_names.empty() ? "" : "tandem train " + task_names + " · ",
      several(groups.all.size(), "setting"), runs.size() == 1 ? "" : ", " + several(runs.size(), "run"));
  const std::string body = fmt::format(
      "<header>\n<h1>{}</h1>\n<p class=\"about\">{}</p>\n<nav "
      "aria-label=\"Sections\">\n{}</nav>\n</header>\n<main>\n{}</main>\n"
      "<footer>Made by {}</footer>",
      escape(title), escape(about), nav, sections, escape(maker));
  // From the end on: what comes from files may hold the name of a place, too, but behind it.
  std::string page{kPageHtml};
  fill(page, "@SCRIPT@", kPageJs);
  fill(page, "@DATA@", curves);
  fill(page, "@BODY@", body);
  fill(page, "@STYLE@", kPageCss);
  fill(page, "@TITLE@", escape(title));
  fill(page, "@GENERATOR@", escape(maker));
  return page;
}

}  // namespace tandem::report
