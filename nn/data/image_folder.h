// A folder of PNG files with one sub-folder per class: DIR/boot/0001.png  DIR/coat/a.png ...
#pragma once

#include <set>
#include <string>

#include "nn/data/images.h"

namespace tandem::data {

// How the names of pictures end that are no PNG: ".jpg". Leaving such a file out in silence would train on
// less than a folder holds.
const std::set<std::string>& picture_endings();

// Classes are the sub-folders' names, sorted; images are ordered by class, then by name. All must have one
// size; they are grey if every file is, else RGB. Hidden files are ignored; files that are no images are
// counted in `skipped`. IoError: no class, a class without PNG files, an image of another size or another
// format, an image outside of a class, a corrupt file.
ImageSet read_image_folder(const std::string& dir);

// True if dir has both train/ and test/.
bool has_image_splits(const std::string& dir);

// Reads DIR/train and DIR/test, each as above; both must have the same classes and one image size.
ImageSplits read_image_splits(const std::string& dir);

}  // namespace tandem::data
