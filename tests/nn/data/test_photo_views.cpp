#include <set>

#include "nn/data/photos/color.h"
#include "tests/files.h"
#include "tests/nn/data/photo_files.h"

namespace tandem::data {
using namespace testing;
namespace {

Draws draws_of(uint64_t sample, uint32_t pass = 0) {
  return Draws(noise_key(1, 2, site_hash("photo"), 0, Purpose::augmentation), sample, pass);
}

Photo small_photo(const char* name = "small") {
  const Json& photo = golden_photos().at(name);
  return photo_of(photo.at("size"), photo.at("pixels"));
}

constexpr uint8_t kFill[3] = {1, 2, 3};

bool is_fill(const Photo& photo, int64_t pixel) {
  return std::equal(kFill, kFill + 3, photo.pixels.begin() + pixel * 4);
}

}  // namespace

TEST_CASE("photos: evaluation sees what torchvision's resize and centre crop leave") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  int cases = 0;
  for (const Json& c : golden_photos().at("viewed")) {
    put(file, from_hex(c.at("bytes")));
    const int64_t size = c.at("size");
    CAPTURE(cases);
    const Photo seen = evaluation_view(PhotoFile(file), {.size = size, .crop_pct = c.at("crop_pct")});
    CHECK(largest_difference(seen, photo_of({size, size}, c.at("pixels"))) == 0);
    ++cases;
  }
  CHECK(cases == 16);
}

TEST_CASE("photos: of any shape, a view has its size") {
  const Scratch scratch;
  const std::string file = scratch.file("photo");
  for (const Region& shape :
       {Region{0, 0, 1, 1}, Region{0, 0, 1, 9000}, Region{0, 0, 9000, 1}, Region{0, 0, 3, 700}}) {
    const int64_t height = shape.height, width = shape.width;
    CAPTURE(height);
    write_png(file, {3, height, width, std::vector<uint8_t>(static_cast<size_t>(3 * height * width), 77)});
    const PhotoFile photo(file);
    const Photo seen = evaluation_view(photo, {.size = 224});
    Draws draws = draws_of(1);
    const Photo trained = training_view(photo, {.size = 224}, {}, kFill, draws);
    for (const Photo* one : {&seen, &trained}) {
      CHECK((one->height == 224 && one->width == 224));
      CHECK((one->pixels[0] == 77 && one->pixels[223 * 224 * 4] == 77));
    }
  }
}

TEST_CASE("photos: colours change as in Pillow") {
  int cases = 0;
  for (const Json& c : golden_photos().at("colored")) {
    const std::string change = c.at("change");
    const double by = c.at("by");
    CAPTURE(change);
    CAPTURE(by);
    const Photo old = small_photo(change == "equalize" ? "photo" : "small");
    Photo photo = old;
    if (change == "brightness") change_brightness(photo, by);
    if (change == "saturation") change_saturation(photo, by);
    if (change == "contrast") change_contrast(photo, by);
    if (change == "sharpness") change_sharpness(photo, by);
    if (change == "posterize") posterize(photo, static_cast<int>(by));
    if (change == "solarize") solarize(photo, static_cast<int>(by));
    if (change == "autocontrast") autocontrast(photo);
    if (change == "equalize") equalize(photo);
    const Photo expected = photo_of({photo.height, photo.width}, c.at("pixels"));
    CHECK(largest_difference(photo, expected) <= 1);
    if (by != 1) CHECK(largest_difference(photo, old) > 0);
    ++cases;
  }
  CHECK(cases == 21);
}

TEST_CASE("photos: moving by whole pixels, and turning") {
  const Photo old = small_photo();
  Photo moved = old;
  transform(moved, {.c = 2, .f = -1}, kFill);
  for (int64_t y = 0; y < old.height; ++y) {
    for (int64_t x = 0; x < old.width; ++x) {
      if (x + 2 >= old.width || y < 1) {
        CHECK(is_fill(moved, y * old.width + x));
      } else {
        CHECK(moved.pixels[(y * old.width + x) * 4] == old.pixels[((y - 1) * old.width + x + 2) * 4]);
      }
    }
  }
  Photo turned = old;
  transform(turned, {.a = -1, .e = -1}, kFill);
  const int64_t last = old.height * old.width - 1;
  CHECK(turned.pixels[0] == old.pixels[last * 4]);
  CHECK(turned.pixels[last * 4] == old.pixels[0]);
}

TEST_CASE("photos: random crops lie inside, have their area and shape, and reach everywhere") {
  double areas = 0;
  int64_t first = 100, last = 0;
  for (uint64_t sample = 0; sample < 1000; ++sample) {
    Draws draws = draws_of(sample);
    const Region crop = random_crop(60, 80, 0.25, draws);
    CHECK((crop.top >= 0 && crop.left >= 0 && crop.top + crop.height <= 60 && crop.left + crop.width <= 80));
    const double area = static_cast<double>(crop.height * crop.width) / (60 * 80),
                 shape = static_cast<double>(crop.width) / static_cast<double>(crop.height);
    CHECK((area > 0.23 && shape > 0.72 && shape < 1.4));
    areas += area, first = std::min(first, crop.left), last = std::max(last, crop.left + crop.width);
  }
  CHECK(std::abs(areas / 1000 - 0.53) < 0.05);  // large ones do not fit as often
  CHECK(first == 0);
  CHECK(last == 80);
  Draws draws = draws_of(0);
  const Region middle = random_crop(10, 1000, 0.9, draws);  // none fits
  CHECK((middle.height == 10 && middle.width == 13 && std::abs(middle.left - 493) <= 1));
}

TEST_CASE("photos: what is drawn is a function of sample and pass") {
  std::set<double> seen;
  for (uint64_t sample = 0; sample < 50; ++sample) {
    for (uint32_t pass = 0; pass < 4; ++pass) {
      Draws a = draws_of(sample, pass), b = draws_of(sample, pass);
      const double one = a.uniform(), two = a.uniform();
      CHECK((one >= 0 && one < 1 && one != two));
      CHECK(one == b.uniform());
      CHECK(two == b.uniform());
      seen.insert(one), seen.insert(two);
    }
  }
  CHECK(seen.size() == 400);
  Draws draws = draws_of(0);
  std::vector<int> counts(7);
  for (int i = 0; i < 7000; ++i) ++counts.at(static_cast<size_t>(draws.integer(7)));
  for (const int count : counts) CHECK(std::abs(count - 1000) < 180);  // six standard deviations
  CHECK(draws.integer(1) == 0);
}

TEST_CASE("photos: erasing covers a rectangle of its area, RandAugment and jitter change pictures") {
  int augmented = 0, jittered = 0;
  for (uint64_t sample = 0; sample < 200; ++sample) {
    Photo photo{32, 32, std::vector<uint8_t>(32 * 32 * 4, 200)};
    Draws draws = draws_of(sample);
    erase(photo, kFill, draws);
    int64_t erased = 0;
    for (int64_t i = 0; i < 32 * 32; ++i) erased += is_fill(photo, i);
    CHECK((erased > 8 && erased < 0.37 * 32 * 32));
    Photo other = small_photo();
    rand_augment(other, 2, 9, kFill, draws);
    augmented += largest_difference(other, small_photo()) > 0;
    other = small_photo();
    color_jitter(other, 0.4, draws);
    jittered += largest_difference(other, small_photo()) > 0;
  }
  CHECK((augmented > 180 && augmented < 200));  // two identities are one of 196
  CHECK(jittered == 200);
}

TEST_CASE("photos: options of augmentation that are out of range") {
  const auto fails = [](const PhotoAugmentation& augmentation, const std::string& message) {
    check_throws<ConfigError>(message, [&] { check_augmentation(augmentation); });
  };
  fails({.crop_scale = 0}, "crop_scale: expected a number above 0 and at most 1, got 0");
  fails({.flip = 2}, "flip: expected a number from 0 to 1, got 2");
  fails({.rand_augment = 17}, "rand_augment: expected 0 to 16 operations, got 17");
  fails({.magnitude = -1}, "magnitude: expected a number from 0 to 30, got -1");
  fails({.color_jitter = 1.5}, "color_jitter: expected");
  fails({.erasing = std::nan("")}, "erasing: expected");
}

}  // namespace tandem::data
