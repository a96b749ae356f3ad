// Files that list photos and their labels.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::data {

// The split that a folder or a list calls so, in letters of any case: "train" (train, training), "valid"
// (val, valid, validation), "test" (test, testing, evaluation); "" for another name.
std::string split_called(std::string name);

// A line of a list.
struct ListedPhoto {
  std::string name;   // of the file, relative to the list's folder
  std::string label;  // not empty
  std::string split;  // "train", "valid", "test", or "" where the list says none
};

// Reads image<TAB>label lines; CSV (.csv) whose first line names its columns; or JSON lines (.jsonl): an
// object a line. The columns and keys are "image" (or "file", "path", "filename"), "label" (or "class"), and
// perhaps "split". IoError naming file and line for what is none of these, a split of another name, a list in
// which only some lines have one, and an image that is not below the list's folder.
std::vector<ListedPhoto> read_photo_list(const std::string& file);
// The same of a file's text and the end of its name: ".csv".
std::vector<ListedPhoto> parse_photo_list(const std::string& file, std::string_view text,
                                          std::string_view ending);

}  // namespace tandem::data
