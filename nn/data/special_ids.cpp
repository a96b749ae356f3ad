#include "nn/data/special_ids.h"

#include <algorithm>

#include "autograd/error.h"

namespace tandem::data {

bool SpecialIds::contains(int64_t id) const { return std::binary_search(all.begin(), all.end(), id); }

Ids SpecialIds::row(const Ids& a) const {
  check<ConfigError>(bos >= 0 && eos >= 0,
                     "texts: expected a vocabulary with a begin and an end of a text, got the ids {} and {}",
                     bos, eos);
  Ids row{bos};
  row.insert(row.end(), a.begin(), a.end());
  row.push_back(eos);
  return row;
}

Ids SpecialIds::row(const Ids& a, const Ids& b, int64_t& first) const {
  Ids both = row(a);
  first = static_cast<int64_t>(both.size());
  both.insert(both.end(), between - 1, eos);
  both.insert(both.end(), b.begin(), b.end());
  both.push_back(eos);
  if (!segments) first = static_cast<int64_t>(both.size());
  return both;
}

Ids SpecialIds::side(const Ids& a) const {
  Ids side = a;
  if (pairs_with_bos) side.insert(side.begin(), bos);
  return side;
}

int64_t SpecialIds::padding(const char* reader) const {
  check<ConfigError>(pad >= 0, "{}: expected a vocabulary with an id of padding, it has none", reader);
  return pad;
}

}  // namespace tandem::data
