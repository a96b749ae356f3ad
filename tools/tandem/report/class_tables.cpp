#include "tools/tandem/report/class_tables.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/tandem/report/html.h"

namespace tandem::report {
namespace {

constexpr size_t kMostClasses = 25;  // of a matrix that can be read
constexpr size_t kPairs = 20;

std::string percent(double share, int digits = 1) {
  return fmt::format("{:.{}f}\u00A0%", 100 * share, digits);
}

std::string confused_pairs(const metrics::Confusion& confusion, const std::vector<std::string>& classes) {
  struct Pair {
    size_t target, predicted;
    int64_t count, of;
  };
  std::vector<Pair> pairs;
  const std::vector<metrics::ClassScores> scores = metrics::class_scores(confusion);
  for (size_t i = 0; i < confusion.size(); ++i)
    for (size_t j = 0; j < confusion.size(); ++j)
      if (i != j && confusion[i][j] > 0) pairs.push_back({i, j, confusion[i][j], scores[i].target});
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& a, const Pair& b) { return a.count > b.count; });
  pairs.resize(std::min(pairs.size(), kPairs));
  Table table{.caption = fmt::format("The classes that are confused most, of {}", classes.size()),
              .style = "words"};
  table.head = {"right class", "taken for", "times", "of the class"};
  for (const Pair& p : pairs)
    table.rows.push_back({escape(classes[p.target]), escape(classes[p.predicted]), count(p.count),
                          percent(static_cast<double>(p.count) / static_cast<double>(p.of))});
  return pairs.empty() ? "<p>No class is taken for another.</p>\n" : html(table);
}

}  // namespace

std::string confusion_html(const metrics::Confusion& confusion, const std::vector<std::string>& classes) {
  if (classes.size() > kMostClasses) return confused_pairs(confusion, classes);
  const std::vector<metrics::ClassScores> scores = metrics::class_scores(confusion);
  std::string out =
      "<div class=\"scroll confusion\" role=\"region\" tabindex=\"0\" aria-label=\"Confusion matrix\"><table>"
      "<caption>Rows: the right class; columns: what it was taken for</caption>\n<thead><tr><th "
      "scope=\"col\">"
      "<span class=\"hidden\">right class</span></th>";
  for (const std::string& name : classes) out += "<th scope=\"col\"><span>" + escape(name) + "</span></th>";
  out += "</tr></thead>\n<tbody>\n";
  for (size_t i = 0; i < classes.size(); ++i) {
    out += "<tr><th scope=\"row\">" + escape(classes[i]) + "</th>";
    for (size_t j = 0; j < classes.size(); ++j) {
      const int64_t count = confusion[i][j];
      if (count == 0) {
        out += "<td class=\"none\">0</td>";
        continue;
      }
      const double share = static_cast<double>(count) / static_cast<double>(scores[i].target);
      out += fmt::format("<td class=\"{}\" style=\"--share:{:.3f}\">{}</td>", i == j ? "hit" : "miss", share,
                         count);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string class_scores_html(const metrics::Confusion& confusion, const std::vector<std::string>& classes) {
  Table table{.caption = "Precision, recall and F1 of each class"};
  table.head = {"class", "precision", "recall", "F1", "of it", "taken for it"};
  const std::vector<metrics::ClassScores> scores = metrics::class_scores(confusion);
  double precision = 0, recall = 0, f1 = 0, present = 0;
  for (size_t i = 0; i < classes.size(); ++i) {
    const metrics::ClassScores& s = scores[i];
    table.rows.push_back({escape(classes[i]), percent(s.precision()), percent(s.recall()), percent(s.f1()),
                          count(s.target), count(s.predicted)});
    if (s.target + s.predicted == 0) continue;
    precision += s.precision(), recall += s.recall(), f1 += s.f1(), ++present;
  }
  if (present > 0)
    table.rows.insert(table.rows.begin(), {"<strong>mean</strong>", percent(precision / present),
                                           percent(recall / present), percent(f1 / present), "", ""});
  return html(table);
}

std::string reliability_html(const std::vector<metrics::ReliabilityBin>& bins) {
  const double ece = metrics::expected_calibration_error(bins), size = static_cast<double>(bins.size());
  int64_t samples = 0, most = 0;
  double confidence = 0, accuracy = 0;
  for (const metrics::ReliabilityBin& bin : bins) {
    samples += bin.samples, most = std::max(most, bin.samples);
    confidence += static_cast<double>(bin.samples) * bin.confidence;
    accuracy += static_cast<double>(bin.samples) * bin.accuracy;
  }
  const double all = static_cast<double>(std::max<int64_t>(samples, 1));
  confidence /= all, accuracy /= all;
  const std::string words = fmt::format("The predictions are {} confident and {} right on average: {}.",
                                        percent(confidence), percent(accuracy),
                                        std::abs(confidence - accuracy) < 0.005 ? "well balanced"
                                        : confidence > accuracy                 ? "too sure of themselves"
                                                                                : "not sure enough");
  // A square of 252 units above a strip of 40 for the counts.
  constexpr double kLeft = 44, kTop = 8, kSide = 252, kStrip = 40, kStripTop = kTop + kSide + 14;
  std::string out = fmt::format(
      "<figure class=\"reliability\"><svg viewBox=\"0 0 320 336\" role=\"img\" aria-label=\"Reliability "
      "diagram: "
      "expected calibration error {}. {}\">\n",
      percent(ece, 2), words);
  for (int i = 0; i <= 4; ++i) {
    const double share = i / 4.0, y = kTop + kSide * (1 - share), x = kLeft + kSide * share;
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/><text x=\"{3}\" y=\"{4}\" "
        "text-anchor=\"end\">{5:.0f} %</text>\n",
        kLeft, kLeft + kSide, y, kLeft - 6, y + 4, 100 * share);
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{:.0f} %</text>\n", x,
                       kStripTop + kStrip + 15, 100 * share);
  }
  for (size_t i = 0; i < bins.size(); ++i) {
    const metrics::ReliabilityBin& bin = bins[i];
    if (bin.samples == 0) continue;
    const double x = kLeft + kSide * static_cast<double>(i) / size + 1, width = kSide / size - 2,
                 height = std::max(1.0, kSide * bin.accuracy),
                 high = std::max(1.0, kStrip * static_cast<double>(bin.samples) / static_cast<double>(most));
    out += fmt::format(
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>"
        "<rect class=\"count\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>\n",
        x, kTop + kSide - height, width, height, x, kStripTop + kStrip - high, width, high);
  }
  out += fmt::format(
      "<line class=\"ideal\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{3}\"/>\n"
      "<line class=\"axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/>\n"
      "<line class=\"axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{4}\" y2=\"{4}\"/>\n</svg>\n",
      kLeft, kLeft + kSide, kTop + kSide, kTop, kStripTop + kStrip);
  out += fmt::format(
      "<figcaption>Accuracy by confidence in {} bins, dashed where they would be equal; below, how many "
      "predictions are in each. Expected calibration error {}. {}</figcaption></figure>\n",
      bins.size(), percent(ece, 2), words);
  Table table{.caption = "Bins of the reliability diagram"};
  table.head = {"confidence", "mean confidence", "accuracy", "predictions"};
  for (size_t i = 0; i < bins.size(); ++i) {
    const bool any = bins[i].samples > 0;
    table.rows.push_back({fmt::format("{:.0f} to {:.0f} %", 100 * static_cast<double>(i) / size,
                                      100 * static_cast<double>(i + 1) / size),
                          any ? percent(bins[i].confidence) : "–", any ? percent(bins[i].accuracy) : "–",
                          count(bins[i].samples)});
  }
  return out + "<details><summary>The bins as a table</summary>\n" + html(table) + "</details>\n";
}

}  // namespace tandem::report
