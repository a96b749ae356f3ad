// Photos with labels, in folders as people nest them, or in a file that lists them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/data/photos/photo.h"

namespace tandem::data {

// Files and their labels.
struct PhotoList {
  std::string root;                  // what the names are relative to
  std::vector<std::string> names;    // of files
  std::vector<int64_t> bytes;        // of each file
  std::vector<int64_t> labels;       // of each, in 0..classes.size()-1
  std::vector<std::string> classes;  // names, sorted

  int64_t size() const { return static_cast<int64_t>(names.size()); }                       // files
  std::string file(int64_t i) const { return root + "/" + names[static_cast<size_t>(i)]; }  // its path
  // Those files, in that order.
  PhotoList subset(const std::vector<int64_t>& indices) const;
};

// What find_photos() may decide.
struct PhotoOptions {
  int64_t valid = 0;      // photos held out for validation where no folder has them; 0: a tenth, at most 2000
  uint64_t seed = 0;      // of what is held out
  bool skip_bad = false;  // leaves out what is no whole picture, and counts it; else it is an error
  // Classes are sets of labels (data::labels_in): all that are there, in training or not.
  bool label_sets = false;
};

// A data set in its parts.
struct PhotoSplits {
  PhotoList train, valid, test;  // of the same classes; test may be the same as valid
  std::string parts;             // where they are from, in words
  int64_t skipped = 0;           // files beside the photos that are none
  std::vector<std::string> bad;  // what is wrong with those left out by skip_bad
  int64_t side = 0;              // of training photos: the median of their shorter sides, in pixels
  bool equal_pngs = false;       // all are PNG files of one size, and square
};

// Finds the photos of `data`:
//   DIR/train/CLASS/...  with val/ or test/ or both beside it, by any name of split_called(): Training/
//   DIR/CLASS/...        one folder, of which a tenth is held out for testing and a tenth for validation, of
//                        every class as large a part
//   FILE                 a list, a photo a line: image<TAB>label, CSV or JSON lines (.jsonl) with "image" and
//                        "label", and perhaps "split" (train, val, test); images relative to its folder
// Photos may lie at any depth below the folder of their class, and the whole in folders that hold nothing
// else. Hidden files are ignored. Where there is val/ but no test/, test scores are of val/ too.
// Every photo's header is read. IoError naming the file for one that is no whole JPEG, PNG or WebP, or is of
// another kind of picture (unless skip_bad), and for a list that leads outside of its folder; IoError for no
// photos (or none that can be read), two folders of one split, a class of val/ or test/ that train/ lacks,
// and classes whose names differ by case alone.
PhotoSplits find_photos(const std::string& data, const PhotoOptions& options);

// The photos to evaluate on, as `test`, where a trained model has the classes: test/, or val/, or all of
// DIR/CLASS/... and of a list without a split. IoError as above, and for a class that the model does not
// have; without classes, they are those of the photos.
PhotoSplits find_test_photos(const std::string& data, const std::vector<std::string>& classes, bool skip_bad);

}  // namespace tandem::data
