#include "nn/data/photos/list_file.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "autograd/error.h"
#include "nn/data/text_files.h"
#include "nn/io/files.h"

namespace tandem::data {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 30;

// Where something in a list is, for messages.
struct Place {
  const std::string& file;
  int64_t line;
};

using Fields = std::map<std::string, std::string>;

// The name of the field that holds what we call `name`.
const std::string* find(const Fields& fields, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = fields.find(name);
    if (found != fields.end()) return &found->second;
  }
  return nullptr;
}

ListedPhoto listed(const Place& place, const Fields& fields) {
  const std::string *name = find(fields, {"image", "file", "path", "filename"}),
                    *label = find(fields, {"label", "class"}), *split = find(fields, {"split"});
  check<IoError>(name && label && !name->empty() && !label->empty(),
                 "{}: line {}: expected an image and a label", place.file, place.line);
  check<IoError>(invalid_utf8(*label) == std::string::npos,
                 "{}: line {}: a label that is not UTF-8, expected one that is", place.file, place.line);
  ListedPhoto photo{std::filesystem::path(*name).lexically_normal().string(), *label,
                    split ? split_called(*split) : ""};
  check<IoError>(!photo.name.starts_with("/") && photo.name != ".." && !photo.name.starts_with("../") &&
                     photo.name.find('\0') == photo.name.npos,
                 "{}: line {}: the image '{}' leads outside of the list's folder", place.file, place.line,
                 *name);
  check<IoError>(!split || split->empty() || !photo.split.empty(),
                 "{}: line {}: split: expected train, val or test, got '{}'", place.file, place.line,
                 split ? *split : "");
  return photo;
}

// The fields of a line of CSV; quotes around one may hold commas, and quotes twice.
std::vector<std::string> csv_fields(const Place& place, std::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += line[++i];
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += line[i];
    }
  }
  check<IoError>(!quoted, "{}: line {}: a quote that is not closed", place.file, place.line);
  return fields;
}

Fields json_fields(const Place& place, std::string_view line) {
  const auto object = nlohmann::json::parse(line, nullptr, false);
  check<IoError>(object.is_object(), "{}: line {}: expected a JSON object with \"image\" and \"label\"",
                 place.file, place.line);
  Fields fields;
  for (const auto& [key, value] : object.items())
    if (value.is_string() || value.is_number_integer())
      fields[key] = value.is_string() ? value.get<std::string>() : value.dump();
  return fields;
}

}  // namespace

std::string split_called(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (name == "train" || name == "training") return "train";
  if (name == "val" || name == "valid" || name == "validation") return "valid";
  if (name == "test" || name == "testing" || name == "evaluation") return "test";
  return "";
}

std::vector<ListedPhoto> read_photo_list(const std::string& file) {
  return parse_photo_list(file, read_file("photos", file, kMaxBytes),
                          std::filesystem::path(file).extension().string());
}

std::vector<ListedPhoto> parse_photo_list(const std::string& file, std::string_view text,
                                          std::string_view ending) {
  std::vector<ListedPhoto> photos;
  std::vector<std::string> columns;
  int64_t number = 0;
  for (size_t begin = text.starts_with("\xef\xbb\xbf") ? 3 : 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const Place place{file, ++number};
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (ending == ".jsonl" || ending == ".json") {
      photos.push_back(listed(place, json_fields(place, line)));
    } else if (ending == ".csv") {
      const std::vector<std::string> cells = csv_fields(place, line);
      if (columns.empty()) {
        columns = cells;
        continue;
      }
      check<IoError>(cells.size() == columns.size(),
                     "{}: line {}: {} fields, expected {} as in the first line", file, number, cells.size(),
                     columns.size());
      Fields fields;
      for (size_t i = 0; i < cells.size(); ++i) fields[columns[i]] = cells[i];
      photos.push_back(listed(place, fields));
    } else {
      const size_t tab = line.find('\t');
      check<IoError>(tab != line.npos && line.find('\t', tab + 1) == line.npos,
                     "{}: line {}: expected image<TAB>label", file, number);
      photos.push_back(listed(place, {{"image", std::string(line.substr(0, tab))},
                                      {"label", std::string(line.substr(tab + 1))}}));
    }
  }
  const auto unsplit = std::count_if(photos.begin(), photos.end(),
                                     [](const ListedPhoto& photo) { return photo.split.empty(); });
  check<IoError>(unsplit == 0 || unsplit == std::ssize(photos),
                 "{}: {} of {} photos have no split, expected all or none", file, unsplit, photos.size());
  return photos;
}

}  // namespace tandem::data
