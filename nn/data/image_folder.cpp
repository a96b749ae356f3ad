#include "nn/data/image_folder.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "autograd/error.h"
#include "nn/data/png.h"
#include "nn/data/text_files.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

// Entries of a folder that are not hidden, sorted, so that no file system's own order shows through.
std::vector<fs::path> sorted_entries(const fs::path& dir) {
  std::error_code failure;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(dir, failure), end; !failure && entry != end; entry.increment(failure)) {
    if (!entry->path().filename().string().starts_with(".")) entries.push_back(entry->path());
  }
  check<IoError>(!failure, "read_image_folder: {}: {}, expected a folder with one sub-folder per class",
                 dir.string(), failure.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_png(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& letter : extension) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  // Leaving such a file out in silence would train on less than the folder holds.
  check<IoError>(!picture_endings().contains(extension),
                 "read_image_folder: {}: a {} file, expected PNG files only", file.string(), extension);
  return extension == ".png";
}

// What will be read: found and checked by header before memory is taken.
struct Listing {
  std::vector<std::string> classes, files;
  std::vector<int64_t> labels;
  PngInfo first;
  bool is_gray = true;
  int64_t skipped = 0;
};

void add_class(Listing& listing, const fs::path& dir) {
  check<IoError>(invalid_utf8(dir.filename().string()) == std::string::npos,
                 "read_image_folder: {}: a class whose name is not UTF-8, expected one that is",
                 dir.string());
  const auto label = static_cast<int64_t>(listing.classes.size());
  const size_t before = listing.files.size();
  listing.classes.push_back(dir.filename().string());
  for (const fs::path& entry : sorted_entries(dir)) {
    check<IoError>(!fs::is_directory(entry),
                   "read_image_folder: {}: a folder inside a class, expected PNG files", entry.string());
    if (!is_png(entry)) {
      ++listing.skipped;
      continue;
    }
    const PngInfo info = read_png_info(entry.string());
    if (listing.files.empty()) listing.first = info;
    listing.files.push_back(entry.string());
    check<IoError>(info.width == listing.first.width && info.height == listing.first.height,
                   "read_image_folder: {}: size is {}x{}, expected {}x{} as in {}", entry.string(),
                   info.width, info.height, listing.first.width, listing.first.height, listing.files.front());
    listing.is_gray = listing.is_gray && info.is_gray;
    listing.labels.push_back(label);
  }
  check<IoError>(listing.files.size() > before, "read_image_folder: {}: no PNG file in this class",
                 dir.string());
}

Listing list_images(const std::string& dir) {
  Listing listing;
  for (const fs::path& entry : sorted_entries(dir)) {
    if (fs::is_directory(entry)) {
      add_class(listing, entry);
    } else {
      check<IoError>(!is_png(entry),
                     "read_image_folder: {}: a PNG file outside of a class, expected in a sub-folder",
                     entry.string());
      ++listing.skipped;
    }
  }
  check<IoError>(!listing.classes.empty(),
                 "read_image_folder: {}: no sub-folder, expected one per class with PNG files inside", dir);
  return listing;
}

ImageSet load(const Listing& listing, bool gray) {
  const auto [height, width, first_is_gray] = listing.first;
  ImageSet set{.count = static_cast<int64_t>(listing.files.size()),
               .channels = gray ? 1 : 3,
               .height = height,
               .width = width,
               .pixels = {},
               .labels = listing.labels,
               .classes = listing.classes,
               .skipped = listing.skipped};
  set.pixels.reserve(static_cast<size_t>(set.count * set.channels * height * width));
  for (const std::string& file : listing.files) {
    const Image image = read_png(file, gray ? PngColor::kGray : PngColor::kRgb);
    check<IoError>(image.width == width && image.height == height,
                   "read_image_folder: {}: changed while it was read", file);
    set.pixels.insert(set.pixels.end(), image.pixels.begin(), image.pixels.end());
  }
  return set;
}

}  // namespace

const std::set<std::string>& picture_endings() {
  static const std::set<std::string> endings{
      ".apng", ".arw", ".avif", ".bmp",  ".cr2",  ".cr3",  ".cur",  ".dcm",  ".dds", ".dib",  ".dng",
      ".emf",  ".eps", ".exr",  ".fits", ".gif",  ".hdr",  ".heic", ".heif", ".hif", ".icns", ".ico",
      ".j2c",  ".j2k", ".jfif", ".jif",  ".jp2",  ".jpc",  ".jpe",  ".jpeg", ".jpf", ".jpg",  ".jpx",
      ".jxl",  ".jxr", ".mng",  ".nef",  ".orf",  ".pam",  ".pbm",  ".pcx",  ".pfm", ".pgm",  ".pict",
      ".pnm",  ".ppm", ".psd",  ".qoi",  ".raf",  ".ras",  ".raw",  ".rgb",  ".rw2", ".sgi",  ".svg",
      ".svgz", ".tga", ".tif",  ".tiff", ".wbmp", ".webp", ".wmf",  ".xbm",  ".xcf", ".xpm"};
  return endings;
}

ImageSet read_image_folder(const std::string& dir) {
  const Listing listing = list_images(dir);
  return load(listing, listing.is_gray);
}

bool has_image_splits(const std::string& dir) {
  return fs::is_directory(fs::path(dir) / "train") && fs::is_directory(fs::path(dir) / "test");
}

ImageSplits read_image_splits(const std::string& dir) {
  check<IoError>(has_image_splits(dir), "read_image_splits: {}: expected the sub-folders train and test",
                 dir);
  const Listing train = list_images((fs::path(dir) / "train").string());
  const Listing test = list_images((fs::path(dir) / "test").string());
  std::vector<std::string> only_one;
  std::set_symmetric_difference(train.classes.begin(), train.classes.end(), test.classes.begin(),
                                test.classes.end(), std::back_inserter(only_one));
  check<IoError>(only_one.empty(),
                 "read_image_splits: {}: train has {} classes and test {}: class {} is in one only", dir,
                 train.classes.size(), test.classes.size(), only_one.empty() ? "" : only_one.front());
  check<IoError>(train.first.width == test.first.width && train.first.height == test.first.height,
                 "read_image_splits: {}: size is {}x{}, expected {}x{} as in {}", test.files.front(),
                 test.first.width, test.first.height, train.first.width, train.first.height,
                 train.files.front());
  const bool gray = train.is_gray && test.is_gray;
  return {load(train, gray), load(test, gray)};
}

}  // namespace tandem::data
