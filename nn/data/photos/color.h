// Changes of a photo that leave its size: RandAugment, colour jitter, random erasing.
#pragma once

#include "nn/data/photos/transform.h"

namespace tandem::data {

// `operations` drawn from identity, shear, translation, rotation, brightness, saturation, contrast,
// sharpness, posterize, solarize, autocontrast and equalize, as torchvision's RandAugment does at a magnitude
// of 0 to 30; what moves in from outside has the colour `fill`.
void rand_augment(Photo& photo, int operations, double magnitude, const uint8_t (&fill)[3], Draws& draws);
// Brightness, contrast and saturation, in an order that is drawn, times 1 - strength to 1 + strength.
void color_jitter(Photo& photo, double strength, Draws& draws);
// A rectangle of 2 to 33 % of the area, 0.3 to 3.3 as high as wide, becomes `fill`.
void erase(Photo& photo, const uint8_t (&fill)[3], Draws& draws);

// The parts of both. A factor of 1 changes nothing, 0 leaves black (brightness), grey (saturation), the mean
// grey (contrast) or a blurred picture (sharpness).
void change_brightness(Photo& photo, double factor);
void change_saturation(Photo& photo, double factor);
void change_contrast(Photo& photo, double factor);
void change_sharpness(Photo& photo, double factor);
void posterize(Photo& photo, int bits);      // of each channel that are kept
void solarize(Photo& photo, int threshold);  // channels from it on are inverted
void autocontrast(Photo& photo);             // each channel is stretched to 0 to 255
void equalize(Photo& photo);                 // each channel's values become equally frequent

// Pixel (x, y) of the result is that at (a x + b y + c, d x + e y + f), to the nearest, or `fill`: x and y
// from the middle.
struct Affine {
  double a = 1, b = 0, c = 0, d = 0, e = 1, f = 0;
};
void transform(Photo& photo, const Affine& affine, const uint8_t (&fill)[3]);

}  // namespace tandem::data
