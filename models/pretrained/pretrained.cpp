#include "models/pretrained/pretrained.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "autograd/grad_mode.h"
#include "models/pretrained/config.h"
#include "models/pretrained/names.h"
#include "ops/indexing.h"
#include "ops/interpolate.h"
#include "ops/join.h"

namespace tandem::models {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *kWeights = "model.safetensors", *kIndex = "model.safetensors.index.json";

// The first pickle of a folder, by the names that are usual; "" for none.
std::string find_pickle(const fs::path& folder) {
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth"})
    if (fs::exists(folder / name)) return (folder / name).string();
  return {};
}

[[noreturn]] void refuse_pickle(const std::string& file) {
  raise<IoError>(
      "{}: a pickle runs code when it is read; expected {}. To convert it:\n"
      "  from transformers import AutoModel\n"
      "  AutoModel.from_pretrained('{}').save_pretrained('converted')",
      file, kWeights, fs::path(file).parent_path().string());
}

// Names of layer norms before 2019.
std::string modern(std::string name) {
  for (const auto& [old, now] :
       {std::pair{"LayerNorm.gamma", "LayerNorm.weight"}, {"LayerNorm.beta", "LayerNorm.bias"}})
    if (name.ends_with(old)) name.replace(name.size() - std::string(old).size(), std::string::npos, now);
  return name;
}

void add(nn::NamedTensors& all, const std::string& file) {
  for (nn::NamedTensor& tensor : nn::load_safetensors(file, nn::Alignment::any).tensors) {
    tensor.name = modern(tensor.name);
    check<IoError>(!nn::find(all, tensor.name), "{}: '{}' is in another shard, too", file, tensor.name);
    all.push_back(std::move(tensor));
  }
}

nn::NamedTensors read_weights(const fs::path& folder) {
  nn::NamedTensors all;
  if (fs::exists(folder / kWeights)) {
    add(all, (folder / kWeights).string());
    return all;
  }
  if (!fs::exists(folder / kIndex)) {
    const std::string pickle = find_pickle(folder);
    if (!pickle.empty()) refuse_pickle(pickle);
    raise<IoError>("{}: expected {} or {}, there is neither", folder.string(), kWeights, kIndex);
  }
  const std::string index = (folder / kIndex).string();
  const Json json = read_json(index);
  const auto map = json.find("weight_map");
  check<IoError>(map != json.end() && map->is_object(), "{}: weight_map: expected names and shards", index);
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    check<IoError>(!file.empty() && fs::path(file).filename() == file && file.ends_with(".safetensors"),
                   "{}: '{}': expected a .safetensors file of the folder", index, name);
    shards.insert(file);
  }
  for (const std::string& shard : shards) {
    check<IoError>(fs::exists(folder / shard), "{}: the shard '{}' is missing in '{}'", index, shard,
                   folder.string());
    add(all, (folder / shard).string());
  }
  for (const auto& [name, shard] : map->items())
    check<IoError>(nn::find(all, modern(name)) != nullptr, "{}: '{}' is not in its shard {}", index, name,
                   shard.get<std::string>());
  return all;
}

std::string family_of(const ConfigReader& config) {
  if (config.has("model_type")) return find_family(config.text("model_type"), config.file()).name;
  const std::string architecture = config.text("architecture", "");
  if (architecture.starts_with("vit_") || architecture.starts_with("deit_") ||
      architecture.starts_with("deit3_"))
    return "timm";
  config.fail("expected a model_type, or timm's architecture vit_* or deit_*, got the architecture '{}'",
              architecture);
}

// What a sentence encoder does to its tokens. Its cosines are those of vectors of any length, so that
// normalizing them changes nothing.
void check_modules(const std::string& file) {
  if (!fs::exists(file)) return;
  const Json json = read_json(file);
  check<IoError>(json.is_array(), "{}: expected a list of modules", file);
  for (const Json& module : json) {
    const ConfigReader entry(module.is_object() ? module : Json::object(), file);
    const std::string type = entry.text("type"), name = type.substr(type.rfind('.') + 1);
    if (name != "Transformer" && name != "Pooling" && name != "Normalize")
      entry.fail("type: expected a Transformer, Pooling or Normalize, got '{}': the model has no such module",
                 type);
  }
}

// Pixels, and how sentences are pooled, where files beside the configuration say so.
void read_companions(Pretrained& from, const ConfigReader& config) {
  const fs::path folder = from.folder;
  if (from.family == "timm") {
    const ConfigReader pixels = config.part("pretrained_cfg");
    from.mean = pixels.numbers("mean"), from.stddev = pixels.numbers("std");
  } else if (const std::string file = (folder / "preprocessor_config.json").string(); fs::exists(file)) {
    const ConfigReader pixels(read_json(file), file);
    from.mean = pixels.numbers("image_mean"), from.stddev = pixels.numbers("image_std");
  }
  if (const std::string file = (folder / "1_Pooling/config.json").string(); fs::exists(file)) {
    const Json json = read_json(file);
    const ConfigReader pooling(json, file);
    from.mean_pooling = pooling.flag("pooling_mode_mean_tokens", false);
    from.cls_pooling = pooling.flag("pooling_mode_cls_token", false);
    for (const auto& [key, value] : json.items())  // several are joined to a longer vector
      if (key.starts_with("pooling_mode_") && key != "pooling_mode_mean_tokens" &&
          key != "pooling_mode_cls_token")
        pooling.only(key.c_str(), false);
    if (from.mean_pooling == from.cls_pooling)
      pooling.fail("expected pooling_mode_mean_tokens or pooling_mode_cls_token, got {}",
                   from.mean_pooling ? "both" : "neither");
    check_modules((folder / "modules.json").string());
  }
}

// positions [1, prefix + h w, D] for a grid of other sides; those of the prefix stay.
Tensor resized(const Tensor& positions, int64_t prefix, std::pair<int64_t, int64_t> from,
               std::pair<int64_t, int64_t> to, bool antialias) {
  const int64_t dim = positions.size(2);
  const Tensor grid = positions.slice(1, prefix, positions.size(1)).view({1, from.first, from.second, dim});
  const Tensor other =
      interpolate(grid.permute({0, 3, 1, 2}),
                  {.size = {to.first, to.second}, .mode = Interpolation::bicubic, .antialias = antialias});
  return cat({positions.slice(1, 0, prefix), other.flatten(2).transpose(1, 2)}, 1);
}

void fit_positions(const Vit& model, const Pretrained& from, nn::NamedTensors& given) {
  const VitConfig to = model.config(), was = vit_config(from);
  for (nn::NamedTensor& tensor : given) {
    if (tensor.name != "positions" || tensor.tensor.dim() != 3 || tensor.tensor.size(1) != was.positions())
      continue;
    if (was.height() == to.height() && was.width() == to.width() && was.patch_size == to.patch_size) continue;
    const auto grid = [](const VitConfig& c) {
      return std::pair{c.height() / c.patch_size, c.width() / c.patch_size};
    };
    if (grid(was) == grid(to)) continue;
    tensor.tensor = resized(tensor.tensor, was.class_position ? was.class_tokens() : 0, grid(was), grid(to),
                            from.family == "timm");
  }
}

bool is_head(const std::string& name) {
  return name.starts_with("head.") || name.starts_with("distillation_head.");
}

// Puts the rows of output layers into the order of `classes`, where they are the model's own in another.
void order_heads(nn::NamedTensors& given, const std::vector<std::string>& own,
                 const std::vector<std::string>& classes) {
  if (own == classes || !same_classes(own, classes)) return;
  std::vector<int64_t> rows;
  for (const std::string& name : classes)
    rows.push_back(std::find(own.begin(), own.end(), name) - own.begin());
  for (nn::NamedTensor& tensor : given)
    if (is_head(tensor.name) && tensor.tensor.dim() > 0 && tensor.tensor.size(0) == std::ssize(rows))
      tensor.tensor = index_select(tensor.tensor, 0, from_values(rows, {std::ssize(rows)}));
}

bool fits_any(const std::vector<const char*>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const char* pattern) { return fnmatch(pattern, name.c_str(), 0) == 0; });
}

}  // namespace

bool same_classes(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const std::set<std::string> names(a.begin(), a.end());
  return a.size() == b.size() && names.size() == a.size() &&
         names == std::set<std::string>(b.begin(), b.end());
}

Pretrained open_pretrained(const std::string& path) {
  const fs::path given(path);
  check<IoError>(fs::exists(given), "{}: no such file or folder; expected a folder with config.json and {}",
                 path, kWeights);
  if (!fs::is_directory(given) && given.extension() != ".safetensors") refuse_pickle(path);
  const fs::path folder = fs::is_directory(given)   ? given
                          : given.has_parent_path() ? given.parent_path()
                                                    : fs::path(".");
  const std::string file = (folder / "config.json").string();
  check<IoError>(fs::exists(file), "{}: there is no config.json in '{}'", path, folder.string());
  Pretrained from;
  from.folder = folder.string();
  Json json = read_json(file);
  from.config = json.dump();
  const ConfigReader config(std::move(json), file);
  from.family = family_of(config);
  from.labels = config.labels();
  read_companions(from, config);
  from.tensors = read_weights(folder);
  return from;
}

nn::Loaded load_pretrained(nn::Module& model, const Pretrained& from, const LoadPretrainedOptions& options) {
  const NoGradGuard no_grad;
  const nn::StateDict own = model.state_dict();
  const auto* vit = dynamic_cast<const Vit*>(&model);
  const bool means = vit != nullptr && vit->config().pooling == Pooling::mean;
  const Family& family = find_family(from.family == "timm" && means ? "timm_mean" : from.family);
  std::set<std::string> used;
  nn::NamedTensors given = to_own(family, from.tensors, own, used);
  if (vit != nullptr) fit_positions(*vit, from, given);
  if (options.new_head) {
    std::erase_if(given, [](const nn::NamedTensor& tensor) { return is_head(tensor.name); });
  }
  order_heads(given, from.labels, options.classes);
  // "weight [1, n]" and "bias [n]": sizes of 1 make no difference.
  for (nn::NamedTensor& tensor : given) {
    const Tensor* mine = nn::find(own, tensor.name);
    if (mine && mine->numel() == tensor.tensor.numel() && mine->dim() != tensor.tensor.dim())
      tensor.tensor = tensor.tensor.reshape(mine->shape());
  }
  for (const nn::NamedTensor& tensor : from.tensors)
    if (!used.contains(tensor.name)) given.push_back({tensor.name, tensor.tensor});
  return nn::load_tensors(model, given, from.folder, [&](const nn::Loaded::Line& line) {
    if (!options.allow.empty() && fnmatch(options.allow.c_str(), line.name.c_str(), 0) == 0) return true;
    return (line.state == "unused" && fits_any(family.unused, line.name)) ||
           (line.state == "new" && fits_any(family.fresh, line.name));
  });
}

}  // namespace tandem::models
