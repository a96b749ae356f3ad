#include "models/pretrained/names.h"

#include <algorithm>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "ops/join.h"

namespace tandem::models {
namespace {

// A row for one layer and one suffix.
struct Rule {
  std::string theirs;
  std::vector<std::string> ours;
  Stored stored;
  bool body;
};

std::string replaced(std::string text, std::string_view what, const std::string& by) {
  if (const size_t at = text.find(what); at != std::string::npos) text.replace(at, what.size(), by);
  return text;
}

// "a.(b c).d": a.b.d and a.c.d.
std::vector<std::string> alternatives(const std::string& name) {
  const size_t open = name.find('('), close = name.find(')');
  if (open == std::string::npos) return {name};
  std::vector<std::string> all;
  for (size_t at = open + 1; at < close;) {
    const size_t end = std::min(name.find(' ', at), close);
    all.push_back(name.substr(0, open) + name.substr(at, end - at) + name.substr(close + 1));
    at = end + 1;
  }
  return all;
}

void add_rules(std::vector<Rule>& rules, std::span<const NameRow> rows, bool body, const nn::StateDict& own) {
  for (const NameRow& row : rows) {
    const std::string theirs = row.theirs, ours = row.ours;
    const bool layers = ours.find("{}") != std::string::npos;
    const bool both = theirs.ends_with('*');
    for (int64_t layer = 0;; ++layer) {
      bool any = false;
      for (const char* suffix : {"weight", "bias"}) {
        Rule rule{replaced(theirs, "{}", std::to_string(layer)), {}, row.stored, body};
        rule.ours = alternatives(replaced(ours, "{}", std::to_string(layer)));
        if (both) {
          rule.theirs = replaced(rule.theirs, "*", suffix);
          for (std::string& name : rule.ours) name = replaced(name, "*", suffix);
        }
        if (nn::find(own, rule.ours[0])) rules.push_back(rule), any = true;
        if (!both) break;
      }
      if (!layers || !any) break;
    }
  }
}

std::vector<Rule> rules_of(const Family& family, const nn::StateDict& own) {
  std::vector<Rule> rules;
  add_rules(rules, family.body, true, own);
  add_rules(rules, family.heads, false, own);
  return rules;
}

// Biases have no other form.
bool is_transposed(const Rule& rule, const Tensor& x) {
  return rule.stored == Stored::transposed && x.dim() == 2;
}

}  // namespace

nn::NamedTensors to_own(const Family& family, const nn::NamedTensors& theirs, const nn::StateDict& own,
                        std::set<std::string>& used) {
  nn::NamedTensors result;
  for (const Rule& rule : rules_of(family, own)) {
    std::string name = (rule.body ? family.prefix : "") + rule.theirs;
    const Tensor* found = nn::find(theirs, name);
    if (!found && rule.body) found = nn::find(theirs, name = rule.theirs);
    if (!found) continue;
    used.insert(name);
    Tensor x = is_transposed(rule, *found) ? found->t() : *found;
    if (rule.stored == Stored::leading_one && x.dim() == 2 && x.size(0) == 1) x = x.squeeze(0);
    const int64_t count = std::ssize(rule.ours), rows = x.dim() > 0 ? x.size(0) / count : 0;
    const bool even = count == 1 || (x.dim() > 0 && x.size(0) % count == 0);
    for (int64_t i = 0; i < count; ++i)
      result.push_back({rule.ours[i], count == 1 || !even ? x : x.slice(0, i * rows, (i + 1) * rows)});
  }
  return result;
}

nn::NamedTensors to_theirs(const Family& family, const nn::StateDict& own, bool bare) {
  const NoGradGuard no_grad;
  nn::NamedTensors result;
  std::set<std::string> named;
  for (const Rule& rule : rules_of(family, own)) {
    named.insert(rule.ours.begin(), rule.ours.end());
    if (rule.stored == Stored::once) continue;
    Tensors parts;
    for (const std::string& name : rule.ours) parts.push_back(*nn::find(own, name));
    Tensor x = parts.size() == 1 ? parts[0] : cat(parts, 0);
    if (is_transposed(rule, x)) x = x.t();
    if (rule.stored == Stored::leading_one) x = x.unsqueeze(0);
    result.push_back(
        {(rule.body && !bare ? family.prefix : "") + rule.theirs, x.to(DType::f32).contiguous()});
  }
  for (const auto& [name, tensor] : own)
    check<ConfigError>(named.contains(name), "save_pretrained: {} has no name for '{}' {}", family.name, name,
                       describe(tensor));
  return result;
}

}  // namespace tandem::models
