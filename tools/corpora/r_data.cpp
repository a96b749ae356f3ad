// Character vectors out of an R lazy-load database (NAME.rdb): one object after the other, each its size
// (4 bytes), then the object in R's serialisation (R Internals, section 1.8), compressed by zlib.
#include <zlib.h>

#include <string_view>

#include "autograd/error.h"
#include "tools/corpora/corpus.h"

namespace tandem::data {
namespace {

// Reads big-endian numbers and bytes off the front of `bytes`.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::string_view take(int64_t count) {
    check<IoError>(count >= 0 && count <= std::ssize(bytes_), "Rdata.rdb: {} bytes, expected {}",
                   bytes_.size(), count);
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  int32_t integer() {
    uint32_t value = 0;
    for (const unsigned char c : take(4)) value = value << 8 | c;
    return static_cast<int32_t>(value);
  }
  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

// The next object of a database.
std::string unpack(Reader& database) {
  constexpr int32_t kMostBytes = 1 << 28;
  constexpr int64_t kDeflateRatio = 1032;  // deflate cannot shrink data further
  const int32_t size = database.integer();
  check<IoError>(size > 0 && size <= kMostBytes && size / kDeflateRatio <= std::ssize(database.rest()),
                 "Rdata.rdb: an object of {} bytes, packed in at most {}", size, database.rest().size());
  std::string object(size, '\0');
  uLongf unpacked = size;
  uLong packed = database.rest().size();
  const int status = uncompress2(reinterpret_cast<Bytef*>(object.data()), &unpacked,
                                 reinterpret_cast<const Bytef*>(database.rest().data()), &packed);
  check<IoError>(status == Z_OK && unpacked == static_cast<uLongf>(size),
                 "Rdata.rdb: the compressed data is damaged");
  database.take(static_cast<int64_t>(packed));
  return object;
}

// Appends the strings of an object that is a character vector (without its attributes); others have none.
void append_strings(Reader object, std::vector<std::string>& lines) {
  constexpr int kStrings = 16, kString = 9;  // types, the low byte of an item's flags
  check<IoError>(object.take(2) == "X\n", "Rdata.rdb: not a serialised R object");  // big-endian
  const int32_t version = object.integer();
  check<IoError>(version == 2 || version == 3, "Rdata.rdb: R's format {}, expected 2 or 3", version);
  object.take(8);                                   // R's own versions
  if (version == 3) object.take(object.integer());  // the native encoding
  if ((object.integer() & 255) != kStrings) return;
  for (int64_t left = object.integer(); left > 0; --left) {
    check<IoError>((object.integer() & 255) == kString, "Rdata.rdb: not a string in a character vector");
    const int32_t size = object.integer();  // -1: not available
    lines.emplace_back(size < 0 ? "" : object.take(size));
  }
}

}  // namespace

std::vector<std::string> r_lines(const std::string& rdb) {
  Reader database(rdb);
  std::vector<std::string> lines;
  while (!database.rest().empty()) {
    const std::string object = unpack(database);
    append_strings(Reader(object), lines);
  }
  check<IoError>(!lines.empty(), "Rdata.rdb: no lines of text");
  return lines;
}

}  // namespace tandem::data
