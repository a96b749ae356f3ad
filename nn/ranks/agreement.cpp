#include "nn/ranks/agreement.h"

#include <nlohmann/json.hpp>

#include "autograd/error.h"
#include "nn/io/sha256.h"

namespace tandem::nn {

void check_agreement(Ranks& ranks, const std::map<std::string, std::string>& entries) {
  using Entries = std::map<std::string, std::string>;
  const auto encoded = nlohmann::json(entries).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::vector<Entries> all;
  for (const std::string& text : ranks.gather(encoded))
    all.push_back(nlohmann::json::parse(text).get<Entries>());
  for (int rank = 1; rank < ranks.size(); ++rank) {
    Entries names = all[0];  // of either
    names.insert(all[rank].begin(), all[rank].end());
    for (const auto& [name, unused] : names) {
      const auto value = [&, &name = name](const Entries& of) {
        const auto found = of.find(name);
        return found == of.end() ? "(none)" : found->second;
      };
      check<ConfigError>(value(all[rank]) == value(all[0]),
                         "rank {} differs from rank 0 in its {}: {}, not {}", rank, name, value(all[rank]),
                         value(all[0]));
    }
  }
}

std::string weights_digest(const StateDict& weights) {
  data::Sha256 sum;
  for (const auto& [name, tensor] : weights) {
    const Tensor host = tensor.to(kCpu).contiguous();
    sum.add(host.raw(), host.numel() * host.passes() * size_of(host.dtype()));
  }
  return sum.digest();
}

}  // namespace tandem::nn
