#include "nn/data/photos/photo_list.h"

#include <set>

#include "nn/data/photos/list_file.h"
#include "tests/files.h"
#include "tests/nn/data/photo_files.h"

namespace tandem::data {
using namespace testing;
namespace {

struct Tree : Scratch {
  void add(const std::string& name, const std::string& photo = "baseline") const {
    write(name, photo_bytes(photo));
  }
  void write(const std::string& name, const std::string& bytes) const {
    const std::string path = file(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    put(path, bytes);
  }
  void fill(const std::string& folder, int count) const {
    for (int i = 0; i < count; ++i) add(fmt::format("{}/{:03}.jpg", folder, i), i % 2 ? "WebP" : "grey JPEG");
  }
  std::string error(const PhotoOptions& options = {}, const std::string& name = "") const {
    return message_of<IoError>([&] { find_photos(name.empty() ? path() : file(name), options); });
  }
};

std::vector<int64_t> counts(const PhotoList& list) {
  std::vector<int64_t> result(list.classes.size());
  for (const int64_t label : list.labels) ++result[label];
  return result;
}

using Counts = std::vector<int64_t>;

}  // namespace

TEST_CASE("photo list: train, val and test, at any depth, of any kind") {
  Tree tree;
  tree.add("data/photos/train/cat/2021/may/a.JPG");
  tree.add("data/photos/train/cat/b.webp", "WebP");
  tree.add("data/photos/train/dog/c.png", "palette PNG");
  tree.add("data/photos/train/dog/d.jfif");
  tree.add("data/photos/val/cat/e.jpeg", "turned 6 JPEG");
  tree.add("data/photos/test/dog/wrong.png", "CMYK");  // the bytes tell
  tree.write("data/photos/train/dog/notes.txt", "x");
  tree.write("data/photos/train/dog/.hidden.jpg", "x");
  tree.write("data/photos/__MACOSX/x.jpg", "x");
  const PhotoSplits found = find_photos(tree.path(), {});
  CHECK(found.train.classes == std::vector<std::string>{"cat", "dog"});
  CHECK(found.train.names == std::vector<std::string>{"train/cat/2021/may/a.JPG", "train/cat/b.webp",
                                                      "train/dog/c.png", "train/dog/d.jfif"});
  CHECK(found.train.labels == Counts{0, 0, 1, 1});
  CHECK(found.train.root == tree.file("data/photos"));
  CHECK(std::filesystem::exists(found.train.file(1)));
  CHECK(counts(found.valid) == Counts{1, 0});
  CHECK(counts(found.test) == Counts{0, 1});
  CHECK(found.skipped == 1);
  CHECK(found.parts.empty());
  CHECK(found.side == 37);
  CHECK(!found.equal_pngs);
  CHECK(counts(find_test_photos(tree.path(), {"bird", "cat", "dog"}, false).test) == Counts{0, 0, 1});
}

TEST_CASE("photo list: one folder is split, of every class as large a part, by seed") {
  Tree tree;
  tree.fill("cat", 40), tree.fill("dog", 20), tree.fill("eel", 3), tree.fill("fox", 2);
  const PhotoSplits found = find_photos(tree.path(), {});
  CHECK(counts(found.train) == Counts{32, 16, 1, 2});
  CHECK(counts(found.valid) == Counts{4, 2, 1, 0});
  CHECK(counts(found.test) == Counts{4, 2, 1, 0});
  std::set<std::string> all;
  for (const PhotoList* list : {&found.train, &found.valid, &found.test})
    all.insert(list->names.begin(), list->names.end());
  CHECK(all.size() == 65);
  CHECK(find_photos(tree.path(), {}).test.names == found.test.names);
  CHECK(find_photos(tree.path(), {.seed = 1}).test.names != found.test.names);
  CHECK(counts(find_photos(tree.path(), {.valid = 13}).valid) == Counts{8, 4, 1, 0});
  CHECK(contains(found.parts, "held out of one folder"));
  CHECK(find_test_photos(tree.path(), found.train.classes, false).test.size() == 65);
}

TEST_CASE("photo list: train beside val or test alone; a class may be called train") {
  Tree tree;
  tree.fill("a/train/cat", 20), tree.fill("a/train/dog", 20), tree.fill("a/test/cat", 3),
      tree.fill("a/test/dog", 3);
  PhotoSplits found = find_photos(tree.file("a"), {});
  CHECK(counts(found.train) == Counts{18, 18});
  CHECK(counts(found.valid) == Counts{2, 2});
  CHECK(counts(found.test) == Counts{3, 3});
  std::filesystem::rename(tree.file("a/test"), tree.file("a/valid"));
  found = find_photos(tree.file("a"), {});
  CHECK(counts(found.train) == Counts{20, 20});
  CHECK(found.test.names == found.valid.names);
  CHECK(contains(found.parts, "test scores are of the validation photos"));
  tree.fill("b/train", 4), tree.fill("b/bus", 4);
  CHECK(find_photos(tree.file("b"), {}).train.classes == std::vector<std::string>{"bus", "train"});
}

TEST_CASE("photo list: splits by other names, in letters of any case") {
  for (const auto& [train, valid, test] :
       {std::tuple{"Training", "Val", "Testing"}, std::tuple{"TRAIN", "Validation", "evaluation"}}) {
    Tree tree;
    for (const std::string name : {"cat", "dog"})
      tree.fill(fmt::format("{}/{}", train, name), 4), tree.fill(fmt::format("{}/{}", valid, name), 2),
          tree.fill(fmt::format("{}/{}", test, name), 1);
    const PhotoSplits found = find_photos(tree.path(), {});
    CHECK(found.train.classes == std::vector<std::string>{"cat", "dog"});
    CHECK(counts(found.train) == Counts{4, 4});
    CHECK(counts(found.valid) == Counts{2, 2});
    CHECK(counts(found.test) == Counts{1, 1});
    tree.fill("TESTING/cat", 1);
    CHECK(contains(tree.error(), "expected one folder called test, got '"));
  }
  Tree tree;
  // A class may be called so.
  tree.fill("c/train", 4), tree.fill("c/evaluation", 4), tree.fill("c/bus", 4);
  CHECK(find_photos(tree.file("c"), {}).train.classes ==
        std::vector<std::string>{"bus", "evaluation", "train"});
  tree.fill("p", 3);
  tree.write("list.csv", "image,label,split\np/000.jpg,a,Training\np/001.jpg,b,TEST\n");
  const std::vector<ListedPhoto> listed = read_photo_list(tree.file("list.csv"));
  CHECK(listed[0].split == "train");
  CHECK(listed[1].split == "test");
}

TEST_CASE("photo list: files that list photos") {
  Tree tree;
  tree.fill("p", 6);
  const auto lines = [&](const std::string& name, const std::string& text) {
    tree.write(name, text);
    return read_photo_list(tree.file(name));
  };
  const auto expect = [](const std::vector<ListedPhoto>& photos) {
    REQUIRE(photos.size() == 2);
    CHECK(photos[0].name == "p/000.jpg");
    CHECK(photos[0].label == "cat");
    CHECK(photos[1].name == "p/001.jpg");
    CHECK(photos[1].label == "my dog, \"Rex\"");
    CHECK(photos[1].split.empty());
  };
  expect(lines("a.tsv", "p/000.jpg\tcat\r\n\n./p/x/../001.jpg\tmy dog, \"Rex\""));
  expect(lines("a.csv",
               "\xef\xbb\xbflabel,score,image\ncat,1,p/000.jpg\n\"my dog, \"\"Rex\"\"\",2,p/001.jpg\n"));
  expect(lines("a.jsonl",
               "{\"image\": \"p/000.jpg\", \"label\": \"cat\", \"box\": [1]}\n"
               "{\"path\": \"p/001.jpg\", \"class\": \"my dog, \\\"Rex\\\"\"}\n"));
  std::string list = "filename,label,split\n";
  for (int i = 0; i < 6; ++i)
    list += fmt::format("p/00{}.jpg,{},{}\n", i, i % 2, std::vector{"train", "val", "test"}[i / 2]);
  tree.write("split.csv", list);
  const PhotoSplits found = find_photos(tree.file("split.csv"), {});
  CHECK(found.train.names == std::vector<std::string>{"p/000.jpg", "p/001.jpg"});
  CHECK(found.valid.names == std::vector<std::string>{"p/002.jpg", "p/003.jpg"});
  CHECK(found.test.labels == Counts{0, 1});

  const auto fails = [&](const std::string& name, const std::string& text, const std::string& message) {
    tree.write(name, text);
    const std::string found = message_of<IoError>([&] { read_photo_list(tree.file(name)); });
    CHECK_MESSAGE(contains(found, tree.file(name) + ": " + message), found);
  };
  for (const char* outside : {"../a.jpg", "/etc/a.jpg", "p/../../a.jpg", ".."})
    fails("a.tsv", fmt::format("p/000.jpg\tcat\n{}\tcat", outside),
          fmt::format("line 2: the image '{}' leads outside of the list's folder", outside));
  fails("a.tsv", "p/000.jpg", "line 1: expected image<TAB>label");
  fails("a.tsv", "p/000.jpg\tcat\tdog", "line 1: expected image<TAB>label");
  fails("a.tsv", "\tcat", "line 1: expected an image and a label");
  fails("a.tsv", "p/000.jpg\tc\xe4t", "line 1: a label that is not UTF-8");
  fails("a.csv", "name,label\nx,y", "line 2: expected an image and a label");
  fails("a.csv", "image,label\nx", "line 2: 1 fields, expected 2");
  fails("a.csv", "image,label\n\"x,y", "line 2: a quote that is not closed");
  fails("a.csv", "image,label,split\nx,y,dev", "line 2: split: expected train, val or test, got 'dev'");
  fails("a.csv", "image,label,split\nx,y,test\nx,y,", "1 of 2 photos have no split");
  fails("a.jsonl", "{\"image\": \"x\"", "line 1: expected a JSON object");
  fails("a.jsonl", "{\"image\": \"x\", \"label\": null}", "line 1: expected an image and a label");
}

TEST_CASE("photo list: what is no picture stops, or is skipped and counted") {
  Tree tree;
  tree.fill("cat", 6), tree.fill("dog", 6);
  const std::string jpeg = photo_bytes("baseline");
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"cat/empty.jpg", ""},
      {"cat/half.jpg", jpeg.substr(0, jpeg.size() / 2)},
      {"dog/text.png", "hello"},
      {"dog/old.bmp", "BM"},
      {"dog/cut.webp", photo_bytes("WebP").substr(0, 300)}};
  for (const auto& [name, bytes] : bad) {
    tree.write(name, bytes);
    const std::string message = tree.error();
    CHECK_MESSAGE(contains(message, tree.file(name)), message);
    std::filesystem::remove(tree.file(name));
  }
  for (const auto& [name, bytes] : bad) tree.write(name, bytes);
  CHECK(contains(tree.error(), "4 more files are no good either"));
  const PhotoSplits found = find_photos(tree.path(), {.skip_bad = true});
  CHECK(found.bad.size() == 5);
  CHECK(counts(found.train) == Counts{4, 4});
  const PhotoSplits test = find_test_photos(tree.path(), {"cat", "dog"}, true);
  CHECK(test.bad.size() == 5);
  CHECK(counts(test.test) == Counts{6, 6});
}

TEST_CASE("photo list: where no picture is left, that is said") {
  Tree tree;
  for (const std::string name : {"cat", "dog"})
    for (int i = 0; i < 4; ++i) tree.write(fmt::format("{}/{}.png", name, i), "hello");
  for (const bool sets : {false, true}) {
    const std::string message = tree.error({.skip_bad = true, .label_sets = sets});
    CHECK_MESSAGE(contains(message, "has no photo to train on") != sets, message);
    CHECK_MESSAGE(contains(message, "no photo to train on is left: 8 cannot be read, the first: ") == sets,
                  message);
  }
  check_throws<IoError>("no photo to test on is left: 8 cannot be read", [&] {
    find_test_photos(tree.path(), {"cat", "dog"}, true);
  });
}

TEST_CASE("photo list: folders that cannot be trained on") {
  Tree tree;
  CHECK(contains(tree.error(), "no photo to train on"));
  CHECK(contains(tree.error({}, "none"), "expected a folder, or a file that lists photos"));
  tree.fill("cat", 3);
  tree.add("stray.jpg");
  CHECK(contains(tree.error(), tree.file("stray.jpg") + ": a photo outside of a class"));
  std::filesystem::remove(tree.file("stray.jpg"));
  tree.fill("Cat", 3);
  CHECK(contains(tree.error(), "the classes 'Cat' and 'cat' differ by case alone"));
  std::filesystem::rename(tree.file("Cat"), tree.file("dog"));
  std::filesystem::create_directory(tree.file("eel"));
  CHECK(contains(tree.error(), tree.file("eel") + ": no photo in this class"));
  std::filesystem::rename(tree.file("eel"), tree.file("\xe4l"));  // Latin-1
  CHECK(contains(tree.error(), tree.file("\xe4l") + ": a class whose name is not UTF-8"));
  std::filesystem::remove(tree.file("\xe4l"));
  tree.fill("train/cat", 3), tree.fill("train/dog", 3), tree.fill("test/cow", 1);
  CHECK(contains(tree.error(), "class 'cow' is not one of the training photos'"));
  std::filesystem::create_directory_symlink(tree.path(), tree.file("train/cat/loop"));
  CHECK(contains(tree.error(), "a loop of links?"));
}

}  // namespace tandem::data
