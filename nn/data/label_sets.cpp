#include "nn/data/label_sets.h"

#include <algorithm>
#include <set>

#include "autograd/error.h"
#include "ops/indexing.h"

namespace tandem::data {

std::vector<std::string> labels_in(std::string_view set) {
  std::vector<std::string> labels;
  for (size_t begin = 0; begin < set.size();) {
    const size_t end = std::min(set.find('|', begin), set.size());
    if (end > begin) labels.emplace_back(set.substr(begin, end - begin));
    begin = end + 1;
  }
  return labels;
}

std::vector<std::string> labels_of(const std::vector<std::string>& sets) {
  std::set<std::string> found;
  for (const std::string& set : sets)
    for (const std::string& label : labels_in(set)) found.insert(label);
  return {found.begin(), found.end()};
}

Tensor label_table(const std::vector<std::string>& sets, const std::vector<std::string>& labels,
                   const std::string& where) {
  const Tensor table = zeros({std::ssize(sets), std::ssize(labels)});
  float* row = table.data<float>();
  for (const std::string& set : sets) {
    for (const std::string& label : labels_in(set)) {
      const auto found = std::lower_bound(labels.begin(), labels.end(), label);
      check<IoError>(found != labels.end() && *found == label,
                     "{}: label '{}' is none of the {} that training has", where, label, labels.size());
      row[found - labels.begin()] = 1;
    }
    row += labels.size();
  }
  return table;
}

Batch LabelSetDataset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  Batch batch = samples_->batch(indices, context);
  batch.target = index_select(table_, 0, batch.target);
  return batch;
}

}  // namespace tandem::data
