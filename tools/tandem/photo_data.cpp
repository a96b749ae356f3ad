#include "tools/tandem/photo_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "autograd/error.h"
#include "nn/data/image_folder.h"

namespace tandem::command {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kImageNetSize = 224;

// IDX files, which read_images reads.
bool has_idx(const std::string& data) {
  if (!fs::is_directory(data)) return false;
  return std::any_of(fs::directory_iterator(data), fs::directory_iterator(), [](const auto& entry) {
    return entry.path().filename().string().find("-ubyte") != std::string::npos;
  });
}

// Whether all images are where data::read_image_splits looks for them, and each class is in both parts.
bool are_plain_splits(const std::string& data, const data::PhotoSplits& photos) {
  if (!photos.equal_pngs || !data::has_image_splits(data)) return false;
  std::vector<bool> seen(photos.train.classes.size());
  for (const int64_t label : photos.test.labels) seen[label] = true;
  for (const data::PhotoList* part : {&photos.train, &photos.valid, &photos.test})
    for (const std::string& name : part->names)
      if (std::count(name.begin(), name.end(), '/') != 2 ||
          !(name.starts_with("train/") || name.starts_with("test/")))
        return false;
  return std::find(seen.begin(), seen.end(), false) == seen.end();
}

// Memory that programs can still have, in bytes; 0 where that is not known.
int64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string name, unit; in >> name; std::getline(in, unit)) {
    int64_t kilobytes = 0;
    if (name == "MemAvailable:" && in >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

data::PhotoView PhotoSpec::view(int64_t size) const {
  return {size, data::parse_interpolation(interpolation), crop_pct};
}

data::PhotoOptions PhotoSpec::split(bool skip_bad) const {
  return {.valid = valid,
          .seed = static_cast<uint64_t>(split_seed),
          .skip_bad = skip_bad,
          .label_sets = label_sets};
}

void add_metadata(nn::Metadata& metadata, const PhotoSpec& spec) {
  metadata["photos.interpolation"] = spec.interpolation;
  metadata["photos.crop_pct"] = to_json(spec.crop_pct);
  metadata["photos.split_seed"] = to_json(spec.split_seed);
  metadata["photos.valid"] = to_json(spec.valid);
  if (spec.label_sets) metadata["photos.label_sets"] = "1";
}

std::optional<PhotoSpec> photo_spec(const Run& run) {
  if (!run.metadata.contains("photos.interpolation")) return std::nullopt;
  PhotoSpec spec{.interpolation = run.entry("photos.interpolation"),
                 .crop_pct = run.entry_as<double>("photos.crop_pct"),
                 .split_seed = run.entry_as<int64_t>("photos.split_seed"),
                 .valid = run.entry_as<int64_t>("photos.valid"),
                 .label_sets = run.metadata.contains("photos.label_sets")};
  check<IoError>(spec.interpolation == "bilinear" || spec.interpolation == "bicubic",
                 "{}: photos.interpolation: expected bilinear or bicubic, got '{}'", run.file,
                 spec.interpolation);
  check<IoError>(spec.crop_pct >= 0.1 && spec.crop_pct <= 1,
                 "{}: photos.crop_pct: expected a number from 0.1 to 1, got {}", run.file, spec.crop_pct);
  return spec;
}

void PhotoChoice::declare(Command& to) {
  to.flag(
      "--multi-label", label_sets_,
      "several labels of a photo: '|' between them in the class ('|' alone: none), each with a probability "
      "of its own");
  image_size_option_ =
      to.option("--image-size", image_size_, integer(0, data::kMaxViewSize),
                "photos, and others with --init: side in pixels of what the model sees; 0: as fits");
  to.option("--interpolation", interpolation_, one_of({"bilinear", "bicubic"}),
            "photos: how they are resized, bilinear or bicubic");
  to.option("--crop-pct", crop_pct_, number_in(0.1, 1),
            "photos: part of the shorter side that evaluation sees");
  to.option("--crop-scale", augmentation_.crop_scale, number_in(0.01, 1),
            "photos: least part of the area that a random crop has; 1: crops as in evaluation");
  to.option("--hflip", augmentation_.flip, number_in(0, 1), "photos: probability of a left-right flip");
  to.option("--rand-augment", rand_augment_, integer(0, 16), "photos: operations of RandAugment; 0: none");
  to.option("--magnitude", augmentation_.magnitude, number_in(0, 30), "photos: of these operations");
  to.option("--color-jitter", augmentation_.color_jitter, number_in(0, 1),
            "photos: largest change of brightness, contrast and saturation");
  to.option("--erasing", augmentation_.erasing, number_in(0, 1),
            "photos: probability that a rectangle is erased");
  to.flag("--augment-passes", augment_passes_,
          "photos: augment each differently in every pass, so that consistency is over views too");
  to.option("--split-seed", split_seed_, integer(0, INT64_MAX),
            "photos: seed of what is held out of one folder");
  to.option("--on-bad-image", on_bad_, one_of({"stop", "skip"}),
            "photos: stop at a file that is no whole picture, or skip and count it");
}

void PhotoChoice::find_options(const Command& command) { batch_size_option_ = command.find("--batch-size"); }

bool PhotoChoice::asked(bool pretrained) const {
  return (image_size_ > 0 && !pretrained) || rand_augment_ > 0 || augmentation_.color_jitter > 0 ||
         augmentation_.erasing > 0 || augment_passes_ || label_sets_;
}

std::optional<data::PhotoSplits> PhotoChoice::find(const std::string& data, int64_t valid, bool pretrained) {
  augmentation_.rand_augment = static_cast<int>(rand_augment_);
  const bool images = data == "fashion-mnist" || !fs::exists(data) || has_idx(data);
  if (images) {
    check<ConfigError>(!asked(pretrained),
                       "--data: '{}' holds no photos, which --image-size, --rand-augment, "
                       "--color-jitter, --erasing, --multi-label and --augment-passes are for",
                       data);
    return std::nullopt;
  }
  try {
    data::PhotoSplits photos = data::find_photos(data, spec(valid).split(on_bad_ == "skip"));
    if (!asked(pretrained) && are_plain_splits(data, photos)) return std::nullopt;
    return photos;
  } catch (const IoError& error) {
    constexpr std::string_view name = "skip_bad";
    std::string message = error.what();
    if (const size_t at = message.find(name); at != message.npos)
      message.replace(at, name.size(), "--on-bad-image skip");
    raise<IoError>("{}", message);
  }
}

int64_t PhotoChoice::choose_size(const data::PhotoSplits& photos, const models::VitConfig& preset,
                                 bool pretrained) {
  if (image_size_ > 0) return image_size_;
  const int64_t side = photos.side;
  const int64_t size = pretrained || preset.image_size == kImageNetSize ? preset.image_size
                       : side >= 32 ? std::min<int64_t>(side / 16 * 16, 128)
                                    : std::max<int64_t>(side / 4 * 4, 4);
  image_size_option_.default_to(static_cast<double>(size));
  return size;
}

void PhotoChoice::choose_batch(int64_t photos, int64_t bytes_of_sample) {
  constexpr int64_t kUsual = 64, kFewest = 8, kSteps = 8;
  int64_t batch = kUsual;
  while (batch > kFewest && photos / batch < kSteps) batch /= 2;
  const int64_t memory = available_memory() / 2;
  while (batch > 1 && memory > 0 && batch * bytes_of_sample > memory) batch /= 2;
  batch_size_option_.default_to(static_cast<double>(batch));
}

std::unique_ptr<data::PhotoDataset> PhotoChoice::dataset(data::PhotoList photos, int64_t size,
                                                         const data::Normalization& normalization) const {
  return std::make_unique<data::PhotoDataset>(std::move(photos),
                                              data::PhotoDatasetOptions{.view = spec(0).view(size),
                                                                        .normalization = normalization,
                                                                        .augmentation = augmentation_,
                                                                        .augment_passes = augment_passes_,
                                                                        .skip_bad = on_bad_ == "skip"});
}

PhotoSpec PhotoChoice::spec(int64_t valid) const {
  return {.interpolation = interpolation_,
          .crop_pct = crop_pct_,
          .split_seed = split_seed_,
          .valid = valid,
          .label_sets = label_sets_};
}

std::string PhotoChoice::describe(const data::PhotoSplits& photos, int64_t size) const {
  std::string text = fmt::format(
      "{} training, {} validation and {} test photos of {} classes, {} pixels on their shorter side (median)",
      photos.train.size(), photos.valid.size(), photos.test.size(), photos.train.classes.size(), photos.side);
  if (!photos.parts.empty()) text += "\n" + photos.parts;
  if (photos.skipped > 0) text += fmt::format("\n{} files that are no images were left out", photos.skipped);
  text += describe_bad(photos.bad);
  return text + fmt::format(
                    "\nImages of {0}x{0} pixels: random crops of {1:.0f} % of the area and more to "
                    "train, the middle {2:.1f} % of the shorter side to evaluate, {3}",
                    size, 100 * augmentation_.crop_scale, 100 * crop_pct_, interpolation_);
}

std::string describe_bad(const std::vector<std::string>& bad) {
  constexpr size_t kNamed = 10;
  if (bad.empty()) return "";
  std::string text = fmt::format("\n{} pictures that cannot be read were left out:", bad.size());
  for (size_t i = 0; i < std::min(bad.size(), kNamed); ++i) text += "\n  " + bad[i];
  return text + (bad.size() > kNamed ? "\n  ..." : "");
}

int64_t fitting_patch(int64_t image_size, const models::VitConfig& preset) {
  const bool imagenet = preset.image_size == kImageNetSize;
  if (image_size % preset.patch_size == 0 && (imagenet || image_size == preset.image_size))
    return preset.patch_size;
  const double wanted =
      imagenet ? static_cast<double>(preset.patch_size) : std::max(static_cast<double>(image_size) / 8, 1.0);
  int64_t best = 1;
  for (int64_t patch = 1; patch <= image_size; ++patch) {
    const auto distance = [&](int64_t p) { return std::abs(std::log(static_cast<double>(p) / wanted)); };
    if (image_size % patch == 0 && distance(patch) < distance(best)) best = patch;
  }
  return best;
}

int64_t activation_bytes(const models::VitConfig& c) {
  const int64_t patches = c.image_size / c.patch_size, tokens = patches * patches + 1;
  return 4 * tokens * c.depth * (10 * c.dim + 3 * c.mlp_dim);
}

}  // namespace tandem::command
