#include "nn/data/photos/photo_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "autograd/error.h"
#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "nn/data/image_folder.h"
#include "nn/data/photos/list_file.h"
#include "nn/data/text_files.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepest = 32;  // folders: more are a loop of links

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_photo_name(const fs::path& file) {
  static const std::set<std::string> endings{".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".webp"};
  return endings.contains(lower(file.extension().string()));
}

// A photo that was found, before its bytes were looked at.
struct Found {
  std::string name, label;
};
using FoundPhotos = std::vector<Found>;

// What is known of a data set while it is being read.
struct Reading {
  std::string root;
  bool skip_bad = false;
  int64_t skipped = 0;
  std::vector<std::string> bad;

  std::string name(const fs::path& file) const { return file.lexically_relative(root).string(); }
  void found_bad(const std::string& message) { bad.push_back(message); }
};

std::vector<fs::path> entries(const fs::path& dir) {
  std::error_code failure;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(dir, failure), end; !failure && entry != end; entry.increment(failure)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(".") && name != "__MACOSX") found.push_back(entry->path());
  }
  check<IoError>(!failure, "photos: {}: {}, expected a folder with photos", dir.string(), failure.message());
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> folders(const fs::path& dir) {
  std::vector<fs::path> found = entries(dir);
  std::erase_if(found, [](const fs::path& path) { return !fs::is_directory(path); });
  return found;
}

// All photos below a folder, as of the class.
void collect(Reading& reading, const fs::path& dir, const std::string& label, int depth,
             FoundPhotos& photos) {
  check<IoError>(depth < kDeepest, "photos: {}: more than {} folders in each other; a loop of links?",
                 dir.string(), kDeepest);
  for (const fs::path& entry : entries(dir)) {
    if (fs::is_directory(entry)) {
      collect(reading, entry, label, depth + 1, photos);
    } else if (is_photo_name(entry)) {
      photos.push_back({reading.name(entry), label});
    } else if (picture_endings().contains(lower(entry.extension().string()))) {
      reading.found_bad(fmt::format("{}: a {} file, expected JPEG, PNG or WebP", entry.string(),
                                    entry.extension().string()));
    } else {
      ++reading.skipped;
    }
  }
}

// The classes' folders below one, each with a photo where they are to be trained on.
FoundPhotos collect_classes(Reading& reading, const fs::path& dir, bool all) {
  FoundPhotos photos;
  for (const fs::path& entry : entries(dir)) {
    if (fs::is_directory(entry)) {
      check<IoError>(invalid_utf8(entry.filename().string()) == std::string::npos,
                     "photos: {}: a class whose name is not UTF-8, expected one that is", entry.string());
      const size_t before = photos.size();
      collect(reading, entry, entry.filename().string(), 0, photos);
      check<IoError>(!all || photos.size() > before, "photos: {}: no photo in this class", entry.string());
    } else {
      check<IoError>(!is_photo_name(entry),
                     "photos: {}: a photo outside of a class, expected in a sub-folder", entry.string());
      ++reading.skipped;
    }
  }
  return photos;
}

// Names that a file system, or an eye, takes for the same.
void check_classes(const std::string& data, const std::vector<std::string>& classes) {
  std::map<std::string, std::string> seen;
  for (const std::string& name : classes) {
    const auto [other, is_new] = seen.emplace(lower(name), name);
    check<IoError>(is_new, "photos: {}: the classes '{}' and '{}' differ by case alone", data, other->second,
                   name);
  }
}

std::vector<std::string> classes_of(const FoundPhotos& photos) {
  std::set<std::string> names;
  for (const Found& photo : photos) names.insert(photo.label);
  return {names.begin(), names.end()};
}

// The photos whose bytes are those of one. `infos`, where given, has what their headers say.
PhotoList inspect(Reading& reading, const FoundPhotos& photos, const std::vector<std::string>& classes,
                  std::vector<PhotoInfo>* infos = nullptr) {
  std::vector<PhotoInfo> headers(photos.size());
  std::vector<std::string> errors(photos.size());
  std::vector<int64_t> bytes(photos.size());
  parallel_for(std::ssize(photos), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::string file = reading.root + "/" + photos[i].name;
      try {
        headers[i] = inspect_photo(file);
        bytes[i] = checked_file_size("photo", file);
      } catch (const IoError& error) {
        errors[i] = error.what();
      }
    }
  });
  PhotoList list{reading.root, {}, {}, {}, classes};
  for (size_t i = 0; i < photos.size(); ++i) {
    if (!errors[i].empty()) {
      reading.found_bad(errors[i]);
      continue;
    }
    const auto label = std::lower_bound(classes.begin(), classes.end(), photos[i].label);
    check<IoError>(label != classes.end() && *label == photos[i].label,
                   "photos: {}/{}: class '{}' is not one of the training photos'", reading.root,
                   photos[i].name, photos[i].label);
    list.names.push_back(photos[i].name);
    list.labels.push_back(label - classes.begin());
    list.bytes.push_back(bytes[i]);
    if (infos) infos->push_back(headers[i]);
  }
  return list;
}

void check_bad(const Reading& reading) {
  if (reading.skip_bad || reading.bad.empty()) return;
  const size_t more = reading.bad.size() - 1;
  raise<IoError>("{}{} (skip_bad leaves out what is no picture)", reading.bad.front(),
                 more > 0 ? fmt::format("; {} more files are no good either", more) : "");
}

// The training photos of which none is left are told from those that never were.
void check_every_class(const std::string& data, const PhotoList& train) {
  std::vector<int64_t> counts(train.classes.size());
  for (const int64_t label : train.labels) ++counts[label];
  for (size_t i = 0; i < counts.size(); ++i)
    check<IoError>(counts[i] > 0, "photos: {}: class '{}' has no photo to train on", data, train.classes[i]);
}

// Of every class as large a part as of all: about `first` and `second` of them, at random, and the rest. A
// class of three photos or more has one in each.
struct Parts {
  std::vector<int64_t> first, second, rest;
};
Parts split(const PhotoList& all, double first, double second, uint64_t seed) {
  Parts parts;
  for (size_t label = 0; label < all.classes.size(); ++label) {
    std::vector<int64_t> own;
    for (int64_t i = 0; i < all.size(); ++i)
      if (all.labels[i] == static_cast<int64_t>(label)) own.push_back(i);
    const int64_t n = std::ssize(own);
    const auto order = permutation(
        noise_key(seed, 0, site_hash("photos"), static_cast<uint32_t>(label), Purpose::shuffle), n);
    const auto count = [&](double share) {
      if (share == 0 || n < 3) return int64_t{0};
      return std::clamp<int64_t>(std::llround(share * static_cast<double>(n)), 1, (n - 1) / 2);
    };
    const int64_t a = count(first), b = a + count(second);
    for (int64_t i = 0; i < n; ++i)
      (i < a ? parts.first : i < b ? parts.second : parts.rest).push_back(own[order[i]]);
  }
  for (auto* part : {&parts.first, &parts.second, &parts.rest}) std::sort(part->begin(), part->end());
  return parts;
}

double held_out_share(int64_t photos, int64_t valid) {
  const double n = static_cast<double>(photos);
  return valid > 0 ? std::min(static_cast<double>(valid) / n, 0.5) : std::min(0.1, 2000 / n);
}

// DIR/train and what is beside it.
struct Folders {
  fs::path train, valid, test;  // or empty
};
Folders folders_of(const fs::path& dir) {
  const auto first_of = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (fs::is_directory(dir / name)) return dir / name;
    return fs::path();
  };
  const Folders usual{first_of({"train"}), first_of({"val", "valid", "validation"}), first_of({"test"})};
  if (!usual.train.empty() && !(usual.valid.empty() && usual.test.empty())) return usual;
  // By other names where there is nothing else: a class may be called so.
  std::map<std::string, std::vector<fs::path>> called;
  for (const fs::path& folder : folders(dir))
    called[split_called(folder.filename().string())].push_back(folder);
  if (called.contains("") || called["train"].empty() || (called["valid"].empty() && called["test"].empty()))
    return {};
  const auto one = [&](const char* split) {
    const std::vector<fs::path>& found = called[split];
    if (found.empty()) return fs::path();
    check<IoError>(found.size() < 2, "photos: {}: expected one folder called {}, got '{}' and '{}'",
                   dir.string(), split, found[0].filename().string(), found.back().filename().string());
    return found[0];
  };
  return {one("train"), one("valid"), one("test")};
}

// Below folders that hold nothing but the next.
fs::path unwrapped(fs::path dir) {
  for (int depth = 0; depth < kDeepest; ++depth) {
    const std::vector<fs::path> inside = entries(dir), below = folders(dir);
    if (below.size() != 1 || std::any_of(inside.begin(), inside.end(), is_photo_name)) break;
    dir = below.front();
  }
  return dir;
}

// What each part has, before the bytes were looked at.
struct FoundParts {
  FoundPhotos train, valid, test;
  bool has_split = false;
};

FoundParts read_parts(Reading& reading, const std::string& data) {
  FoundParts parts;
  if (fs::is_regular_file(data)) {
    reading.root = fs::path(data).has_parent_path() ? fs::path(data).parent_path().string() : ".";
    for (ListedPhoto& photo : read_photo_list(data)) {
      FoundPhotos& part = photo.split == "test"    ? parts.test
                          : photo.split == "valid" ? parts.valid
                                                   : parts.train;
      parts.has_split = parts.has_split || !photo.split.empty();
      part.push_back({std::move(photo.name), std::move(photo.label)});
    }
    return parts;
  }
  check<IoError>(fs::is_directory(data), "photos: {}: expected a folder, or a file that lists photos", data);
  const fs::path dir = unwrapped(data);
  reading.root = dir.string();
  const Folders folders = folders_of(dir);
  parts.has_split = !folders.train.empty();
  if (!parts.has_split) {
    parts.train = collect_classes(reading, dir, true);
    return parts;
  }
  parts.train = collect_classes(reading, folders.train, true);
  if (!folders.valid.empty()) parts.valid = collect_classes(reading, folders.valid, false);
  if (!folders.test.empty()) parts.test = collect_classes(reading, folders.test, false);
  return parts;
}

}  // namespace

PhotoList PhotoList::subset(const std::vector<int64_t>& indices) const {
  PhotoList part{root, {}, {}, {}, classes};
  for (const int64_t i : indices) {
    part.names.push_back(names[i]);
    part.bytes.push_back(bytes[i]);
    part.labels.push_back(labels[i]);
  }
  return part;
}

PhotoSplits find_photos(const std::string& data, const PhotoOptions& options) {
  Reading reading{.root = {}, .skip_bad = options.skip_bad, .bad = {}};
  FoundParts found = read_parts(reading, data);
  check<IoError>(!found.train.empty(),
                 "photos: {}: no photo to train on, expected one folder of JPEG, PNG or "
                 "WebP files per class",
                 data);
  FoundPhotos named = found.train;
  if (options.label_sets)
    for (const FoundPhotos* part : {&found.valid, &found.test})
      named.insert(named.end(), part->begin(), part->end());
  const std::vector<std::string> classes = classes_of(named);
  check_classes(data, classes);
  PhotoSplits splits;
  std::vector<PhotoInfo> infos;
  PhotoList train = inspect(reading, found.train, classes, &infos);
  splits.valid = inspect(reading, found.valid, classes, &infos);
  splits.test = inspect(reading, found.test, classes, &infos);
  check_bad(reading);
  if (!options.label_sets) check_every_class(data, train);
  check<IoError>(train.size() > 0, "photos: {}: no photo to train on is left: {} cannot be read{}", data,
                 reading.bad.size(), reading.bad.empty() ? "" : ", the first: " + reading.bad.front());
  const PhotoInfo& one = infos.front();
  splits.equal_pngs = std::all_of(infos.begin(), infos.end(), [&](const PhotoInfo& info) {
    return info.format == PhotoFormat::png && info.height == one.height && info.width == one.height;
  });
  infos.resize(train.names.size());
  std::vector<int64_t> sides;
  for (const PhotoInfo& info : infos) sides.push_back(std::min(info.height, info.width));
  std::nth_element(sides.begin(), sides.begin() + std::ssize(sides) / 2, sides.end());
  splits.side = sides[sides.size() / 2];

  const double share = held_out_share(train.size(), options.valid);
  const bool no_valid = splits.valid.size() == 0, no_test = splits.test.size() == 0;
  if (no_valid) {
    PhotoList by_class = train;
    if (options.label_sets) by_class.labels.assign(train.labels.size(), 0);
    const Parts parts = split(by_class, share, no_test ? share : 0, options.seed);
    splits.valid = train.subset(parts.first);
    if (no_test) splits.test = train.subset(parts.second);
    train = train.subset(parts.rest);
    splits.parts = no_test ? "validation and test photos are held out of one folder"
                           : "validation photos are held out of the training photos";
    check<IoError>(splits.valid.size() > 0 && splits.test.size() > 0,
                   "photos: {}: no class has three photos, of which one each could validate and test", data);
  } else if (no_test) {
    splits.test = splits.valid;
    splits.parts = "test scores are of the validation photos: there are no others";
  }
  splits.train = std::move(train);
  splits.skipped = reading.skipped, splits.bad = std::move(reading.bad);
  return splits;
}

PhotoSplits find_test_photos(const std::string& data, const std::vector<std::string>& classes,
                             bool skip_bad) {
  Reading reading{.root = {}, .skip_bad = skip_bad, .bad = {}};
  FoundParts found = read_parts(reading, data);
  if (found.has_split) found.train = std::move(found.test.empty() ? found.valid : found.test);
  check<IoError>(!found.train.empty(), "photos: {}: no photo to test on", data);
  PhotoSplits splits;
  splits.test = inspect(reading, found.train, classes.empty() ? classes_of(found.train) : classes);
  check_bad(reading);
  check<IoError>(splits.test.size() > 0, "photos: {}: no photo to test on is left: {} cannot be read{}", data,
                 reading.bad.size(), reading.bad.empty() ? "" : ", the first: " + reading.bad.front());
  splits.skipped = reading.skipped, splits.bad = std::move(reading.bad);
  return splits;
}

}  // namespace tandem::data
