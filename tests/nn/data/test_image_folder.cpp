#include "nn/data/image_folder.h"
#include "nn/data/png.h"
#include "tests/files.h"

namespace tandem::data {
using namespace testing;
namespace {

struct Tree : Scratch {
  // A 2x1 image (or of another width) of one value.
  void add(const std::string& name, uint8_t value, int64_t channels = 1, int64_t width = 2) const {
    const std::string path = file(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    Image image{.channels = channels, .height = 1, .width = width, .pixels = {}};
    image.pixels.assign(static_cast<size_t>(channels * width), value);
    write_png(path, image);
  }
  std::string error() const {
    return message_of<IoError>([&] { read_image_folder(path()); });
  }
};

TEST_CASE("image folder: classes and images in sorted order") {
  Tree tree;
  tree.add("shoe/b.png", 3);
  tree.add("shoe/a.PNG", 2);
  tree.add("bag/10.png", 1);
  write_file(tree.file("README.txt"), "not a class");
  write_file(tree.file("bag/notes.txt"), "not an image");
  write_file(tree.file("bag/.hidden.png"), "not an image");
  const ImageSet set = read_image_folder(tree.path());
  CHECK(set.classes == std::vector<std::string>{"bag", "shoe"});
  CHECK(set.labels == std::vector<int64_t>{0, 1, 1});
  CHECK(set.pixels == std::vector<uint8_t>{1, 1, 2, 2, 3, 3});
  CHECK(set.count == 3);
  CHECK(set.channels == 1);
  CHECK(set.height == 1);
  CHECK(set.width == 2);
  CHECK(set.skipped == 2);  // not the hidden one
}

TEST_CASE("image folder: pictures of other formats, and those outside of a class, are named") {
  Tree tree;
  tree.add("cat/1.png", 7);
  for (const char* name :
       {"b.jfif", "c.JPE", "d.pgm", "e.avif", "f.heic", "g.jp2", "h.tga", "i.jpg", "j.Tiff", "k.webp",
        "l.gif", "m.bmp", "n.heif", "o.jxl", "p.ppm", "q.svg", "r.dng"}) {
    const std::string inside = tree.file(std::string("cat/") + name), outside = tree.file(name);
    for (const std::string& file : {inside, outside}) {
      put(file, "picture");
      CHECK_MESSAGE(contains(tree.error(), file + ": a ."), tree.error());
      std::filesystem::remove(file);
    }
  }
  tree.add("stray.png", 7);
  CHECK(contains(tree.error(), tree.file("stray.png") + ": a PNG file outside of a class"));
}

TEST_CASE("image folder: one coloured image makes all RGB") {
  Tree tree;
  tree.add("a/1.png", 7);
  tree.add("b/1.png", 9, 3);
  const ImageSet set = read_image_folder(tree.path());
  CHECK(set.channels == 3);
  CHECK(set.pixels == std::vector<uint8_t>{7, 7, 7, 7, 7, 7, 9, 9, 9, 9, 9, 9});
}

TEST_CASE("image folder: what is wrong is named") {
  Tree tree;
  SUBCASE("no folder") {
    check_throws<IoError>(tree.file("none") + ": No such file",
                          [&] { read_image_folder(tree.file("none")); });
  }
  SUBCASE("no class") {
    CHECK(contains(tree.error(), tree.path() + ": no sub-folder, expected one per class"));
  }
  tree.add("a/1.png", 7);
  SUBCASE("an empty class") {
    tree.folder("b");
    CHECK(contains(tree.error(), tree.file("b") + ": no PNG file in this class"));
  }
  SUBCASE("another size") {
    tree.add("b/1.png", 7, 1, 3);
    CHECK(tree.error() == "read_image_folder: " + tree.file("b/1.png") +
                              ": size is 3x1, expected 2x1 as in " + tree.file("a/1.png"));
  }
  SUBCASE("another format") {
    write_file(tree.file("a/2.jpg"), "");
    CHECK(contains(tree.error(), tree.file("a/2.jpg") + ": a .jpg file, expected PNG files only"));
  }
  SUBCASE("a folder too deep") {
    tree.add("a/b/1.png", 7);
    CHECK(contains(tree.error(), tree.file("a/b") + ": a folder inside a class"));
  }
  SUBCASE("a corrupt file") {
    write_file(tree.file("a/2.png"), "text");
    CHECK(contains(tree.error(), tree.file("a/2.png") + ": not a PNG file"));
  }
}

TEST_CASE("image folder: train and test") {
  Tree tree;
  tree.add("train/a/1.png", 1);
  tree.add("train/b/1.png", 2);
  CHECK(!has_image_splits(tree.path()));
  const auto error = [&] { return message_of<IoError>([&] { read_image_splits(tree.path()); }); };
  CHECK(contains(error(), "expected the sub-folders train and test"));
  tree.add("test/a/1.png", 3);
  CHECK(has_image_splits(tree.path()));
  CHECK(contains(error(), "train has 2 classes and test 1: class b is in one only"));
  SUBCASE("grey in one, RGB in the other: both RGB") {
    tree.add("test/b/1.png", 4, 3);
    const auto [train, test] = read_image_splits(tree.path());
    CHECK(train.channels == 3);
    CHECK(test.channels == 3);
    CHECK(train.pixels == std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2});
    CHECK(test.labels == std::vector<int64_t>{0, 1});
  }
  SUBCASE("different sizes") {
    std::filesystem::remove_all(tree.file("test/a"));
    tree.add("test/a/1.png", 3, 1, 4);
    tree.add("test/b/1.png", 4, 1, 4);
    CHECK(contains(error(), tree.file("test/a/1.png") + ": size is 4x1, expected 2x1"));
  }
}

}  // namespace
}  // namespace tandem::data
