// JPEG over libjpeg-turbo. Its errors leave it by longjmp, so no code with destructors runs inside of it.
#include <algorithm>
#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which needs it
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>

#include "autograd/error.h"
#include "nn/data/photos/formats.h"

namespace tandem::data {
namespace {

constexpr long kMaxMemory = 1L << 30;    // bytes of libjpeg's own, for progressive files
constexpr int kMaxScans = 500;           // of a progressive file: more are there to take time
constexpr int64_t kPixelsPerByte = 512;  // a block of 64 pixels takes a bit at least

// Where libjpeg goes with what is wrong.
struct Errors : jpeg_error_mgr {
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* errors = static_cast<Errors*>(info->err);
  errors->format_message(info, errors->message);
  std::longjmp(errors->escape, 1);
}

// Data that is missing or makes no sense is an error, where libjpeg would go on with grey; what cameras do
// beside the standard is none.
void warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      fail(info);
    default:
      return;
  }
}

void count_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  auto* errors = static_cast<Errors*>(info->err);
  std::snprintf(errors->message, sizeof errors->message, "more than %d scans", kMaxScans);
  std::longjmp(errors->escape, 1);
}

class Jpeg {
 public:
  Jpeg(const std::string& file, std::string_view bytes) : file_(file) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = fail;
    errors_.emit_message = warn;
    errors_.output_message = [](j_common_ptr) {};
    progress_.progress_monitor = count_scans;
    guarded([this, bytes] {
      jpeg_create_decompress(&info_);
      info_.progress = &progress_;
      info_.mem->max_memory_to_use = kMaxMemory;
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()),
                   static_cast<unsigned long>(bytes.size()));
      jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xFFFF);
      jpeg_read_header(&info_, TRUE);
    });
  }

  StoredInfo info(int64_t whole) const {
    const int64_t height = info_.image_height, width = info_.image_width;
    check_photo_size(file_, height, width);
    check<IoError>(info_.arith_code || height * width / kPixelsPerByte <= whole,
                   "{}: corrupt: {} bytes cannot fill {}x{} pixels", file_, whole, width, height);
    StoredInfo found{height, width};
    constexpr std::string_view kExif("Exif\0\0", 6);
    for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (!data.starts_with(kExif)) continue;
      found.orientation = exif_orientation(data.substr(kExif.size()));
      break;
    }
    return found;
  }

  Photo decode(const Region& region, int64_t reduce) {
    const bool cmyk = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
    guarded([&] {
      info_.scale_num = 1, info_.scale_denom = static_cast<unsigned>(reduce);
      info_.out_color_space = cmyk ? JCS_CMYK : JCS_EXT_RGBX;
      jpeg_start_decompress(&info_);
    });
    const int64_t full_height = info_.output_height, full_width = info_.output_width;
    const int64_t top = std::min(region.top / reduce, full_height - 1),
                  left = std::min(region.left / reduce, full_width - 1);
    Photo photo;
    photo.height = std::clamp<int64_t>(region.height / reduce, 1, full_height - top);
    photo.width = std::clamp<int64_t>(region.width / reduce, 1, full_width - left);
    photo.pixels.resize(static_cast<size_t>(photo.height * photo.width * 4));
    // The columns that are decoded: some more, since colour is interpolated from both sides.
    constexpr int64_t kMargin = 4;
    first_ = static_cast<JDIMENSION>(std::max<int64_t>(left - kMargin, 0));
    columns_ = static_cast<JDIMENSION>(std::min(left + photo.width + kMargin, full_width)) - first_;
    if (columns_ < info_.output_width) guarded([&] { jpeg_crop_scanline(&info_, &first_, &columns_); });
    row_.resize(size_t{info_.output_width} * 4);
    const int64_t offset = left - first_;
    guarded([&] {
      if (top > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(top));
      for (int64_t y = 0; y < photo.height; ++y) {
        JSAMPROW row = row_.data();
        jpeg_read_scanlines(&info_, &row, 1);
        std::memcpy(photo.pixels.data() + y * photo.width * 4, row_.data() + offset * 4,
                    static_cast<size_t>(photo.width * 4));
      }
    });
    if (cmyk) to_rgb(photo);
    return photo;
  }

 private:
  struct Info : jpeg_decompress_struct {
    Info() : jpeg_decompress_struct{} {}
    ~Info() { jpeg_destroy_decompress(this); }
    Info(const Info&) = delete;
    Info& operator=(const Info&) = delete;
  };

  // `body` holds nothing that has a destructor.
  template <class Body> void guarded(Body body) {
    if (setjmp(errors_.escape) == 0) {
      body();
      return;
    }
    raise<IoError>("{}: corrupt JPEG: {}", file_, errors_.message);
  }

  // Stored inverted, as Adobe does and others took over.
  static void to_rgb(Photo& photo) {
    for (size_t i = 0; i < photo.pixels.size(); i += 4) {
      uint8_t* pixel = photo.pixels.data() + i;
      const int light = pixel[3];
      for (int c = 0; c < 3; ++c) {
        const int product = (255 - pixel[c]) * light + 128;
        pixel[c] = static_cast<uint8_t>(light - ((product >> 8) + product) / 256);
      }
    }
  }

  std::string file_;
  Errors errors_;
  jpeg_progress_mgr progress_ = {};
  Info info_;
  JDIMENSION first_ = 0, columns_ = 0;
  std::vector<uint8_t> row_;
};

}  // namespace

StoredInfo read_jpeg_header(const std::string& file, std::string_view bytes, int64_t whole) {
  return Jpeg(file, bytes).info(whole);
}

Photo decode_jpeg(const std::string& file, std::string_view bytes, const Region& region, int64_t reduce) {
  return Jpeg(file, bytes).decode(region, reduce);
}

}  // namespace tandem::data
