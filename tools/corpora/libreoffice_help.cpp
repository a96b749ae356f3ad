// Sentence pairs (translation, English to German) from LibreOffice's help pages, whose paragraphs have names.
#include <map>

#include "autograd/error.h"
#include "tools/corpora/corpus.h"
#include "tools/corpora/unicode.h"

namespace tandem::data {
namespace {

using Paragraphs = std::map<std::pair<std::string, std::string>, std::string>;  // (page, id) to text

bool is_name(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The text between tags, with the three entities that the pages use.
std::string plain_text(const std::string& html) {
  std::string text;
  for (size_t i = 0; i < html.size(); ++i) {
    const size_t end = html[i] == '<' ? html.find('>', i) : std::string::npos;
    if (end != std::string::npos && end > i + 1) {
      i = end;
    } else {
      text += html[i];
    }
  }
  for (const auto& [entity, character] :
       {std::pair{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&amp;", "&"}}) {
    for (size_t at = 0; (at = text.find(entity, at)) != std::string::npos; ++at)
      text.replace(at, std::string_view(entity).size(), character);
  }
  return collapse_spaces(text);
}

// The page's source, "/text/....xhp", which is the same in all languages.
std::string source_page(const std::string& path, const std::string& html) {
  for (size_t at = 0; (at = html.find("/text/", at)) != std::string::npos; ++at) {
    const size_t stop = html.find_first_of("\"<", at);
    const size_t end = html.substr(at, stop == std::string::npos ? stop : stop - at).rfind(".xhp");
    if (end != std::string::npos) return html.substr(at, end + 4);
  }
  const size_t text = path.rfind("/text/");
  return text == std::string::npos ? path : path.substr(text + 6);
}

// Paragraphs and headings with the ids par_id... and hd_id...; of two with one name, the first.
void read_paragraphs(const std::string& path, const std::string& html, Paragraphs& all) {
  const std::string page = source_page(path, html);
  for (size_t at = 0; (at = html.find('<', at)) != std::string::npos; ++at) {
    const bool heading =
        html.compare(at, 2, "<h") == 0 && at + 2 < html.size() && html[at + 2] >= '1' && html[at + 2] <= '6';
    if (!heading && html.compare(at, 2, "<p") != 0) continue;
    const size_t name_end = at + (heading ? 3 : 2);
    if (name_end >= html.size() || is_name(html[name_end])) continue;
    const size_t close = html.find('>', at);
    if (close == std::string::npos) return;
    std::string id;
    for (size_t from = name_end; (from = html.find("id=\"", from)) < close; ++from) {
      size_t end = from + 4;
      while (end < close && is_name(html[end])) ++end;
      const std::string value = html.substr(from + 4, end - from - 4);
      const bool wanted = (value.starts_with("par_id") && value.size() > 6) ||
                          (value.starts_with("hd_id") && value.size() > 5);
      if (wanted && html[end] == '"') {
        id = value;
        break;
      }
    }
    const std::string end_tag = "</" + html.substr(at + 1, name_end - at - 1) + ">";
    const size_t end = html.find(end_tag, close);
    if (id.empty() || end == std::string::npos) continue;
    const std::string text = plain_text(html.substr(close + 1, end - close - 1));
    if (!text.empty()) all.emplace(std::pair(page, id), text);
    at = end + end_tag.size() - 1;
  }
}

Paragraphs read_pages(const Pages& pages) {
  Paragraphs all;
  for (const auto& [path, html] : pages) read_paragraphs(path, html, all);
  return all;
}

// Cut behind . ? or ! where a blank and one of `openers` (UTF-8 characters) follow.
std::vector<std::string> sentences(const std::string& text, const std::vector<std::string>& openers) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] != ' ' || (text[i - 1] != '.' && text[i - 1] != '?' && text[i - 1] != '!')) continue;
    bool opens = text[i + 1] >= 'A' && text[i + 1] <= 'Z';
    for (const std::string& opener : openers)
      opens = opens || text.compare(i + 1, opener.size(), opener) == 0;
    if (!opens) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

}  // namespace

// The sentences of paragraphs that both languages have and cut into as many sentences, of those that end as
// sentences do: 3-40 words in English and 2-60 in German, not identical, the first of each source text
// (letters only); keyed by page. Pairs of valid and test whose target is in train are left out. Of the rest
// the short ones: at most 16 and 20 words.
Splits help_pairs(const Pages& english, const Pages& german) {
  const Paragraphs from = read_pages(english), to = read_pages(german);
  check<IoError>(!from.empty() && !to.empty(), "libreoffice-help: no paragraphs in {} pages",
                 english.size() + german.size());
  const std::vector<std::string> german_openers{"Ä", "Ö", "Ü", "É", "À", "Ê", "Î", "Ç", "«", "„", "\""};
  Splits splits;
  std::map<std::string, bool> seen, in_train;
  for (const auto& [key, source] : from) {
    const auto found = to.find(key);
    if (found == to.end() || found->second == source) continue;
    if (std::string_view(".?!:").find(source.back()) == std::string_view::npos) continue;
    const auto a = sentences(source, {}), b = sentences(found->second, german_openers);
    if (a.size() != b.size()) continue;
    for (size_t i = 0; i < a.size(); ++i) {
      const int64_t words = count_words(a[i]), target_words = count_words(b[i]);
      if (a[i] == b[i] || words < 3 || words > 40 || target_words < 2 || target_words > 60) continue;
      const std::string letters = letters_only(a[i]);
      if (letters.empty() || seen[letters]) continue;
      seen[letters] = true;
      std::vector<std::string>& split = splits.of(key.first);
      split.push_back(a[i] + "\t" + b[i]);
      if (&split == &splits.train) in_train[letters_only(b[i])] = true;
    }
  }
  for (auto* split : {&splits.valid, &splits.test}) {
    std::erase_if(*split, [&](const std::string& line) {
      return in_train.contains(letters_only(line.substr(line.find('\t') + 1)));
    });
  }
  for (auto* split : {&splits.train, &splits.valid, &splits.test}) {
    std::erase_if(*split, [](const std::string& line) {
      const size_t tab = line.find('\t');
      return count_words(line.substr(0, tab)) > 16 || count_words(line.substr(tab + 1)) > 20;
    });
  }
  return splits;
}

}  // namespace tandem::data
