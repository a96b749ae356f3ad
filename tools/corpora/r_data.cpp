// Character vectors out of an R lazy-load database (NAME.rdx, NAME.rdb): serialised R objects (R Internals,
// section 1.8), compressed by zlib. As much of the format as data sets of text need.
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "autograd/error.h"
#include "tools/corpora/corpus.h"

namespace tandem::data {
namespace {

constexpr size_t kMostBytes = size_t{1} << 28;

// zlib or gzip.
std::string inflate_all(const std::string& name, std::string_view bytes) {
  z_stream stream{};
  check<IoError>(inflateInit2(&stream, 15 + 32) == Z_OK, "{}: zlib cannot be started", name);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  int status = Z_OK;
  while (status == Z_OK && out.size() < kMostBytes) {
    char buffer[1 << 16];
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    status = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - stream.avail_out);
  }
  inflateEnd(&stream);
  check<IoError>(status == Z_STREAM_END, "{}: the compressed data is damaged", name);
  return out;
}

struct Value {
  std::vector<std::string> strings;  // of a character vector
  std::vector<double> numbers;       // of a logical, integer or real vector
  std::vector<Value> items;          // of a list
  std::map<std::string, Value> attributes;

  const std::vector<std::string>& names() const {
    static const std::vector<std::string> none;
    const auto found = attributes.find("names");
    return found == attributes.end() ? none : found->second.strings;
  }
};

class Reader {
 public:
  Reader(std::string name, std::string bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {}

  Value read() {
    const std::string_view format = take(2);  // binary, big-endian
    check<IoError>(format[0] == 'X' && format[1] == '\n', "{}: not a serialised R object", name_);
    const int32_t version = integer();
    integer(), integer();
    check<IoError>(version == 2 || version == 3, "{}: R's format {}, expected 2 or 3", name_, version);
    if (version == 3) take(integer());  // the native encoding
    return item(0);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    raise<IoError>("{}: byte {}: {}", name_, at_, what);
  }

  std::string_view take(int64_t count) {
    if (count < 0 || static_cast<size_t>(count) > bytes_.size() - at_)
      fail(fmt::format("{} bytes are missing", count));
    at_ += count;
    return std::string_view(bytes_).substr(at_ - count, count);
  }
  int32_t integer() {
    uint32_t value = 0;
    for (char c : take(4)) value = value << 8 | static_cast<unsigned char>(c);
    return static_cast<int32_t>(value);
  }
  double real() {
    uint64_t value = 0;
    for (char c : take(8)) value = value << 8 | static_cast<unsigned char>(c);
    double number = 0;
    std::memcpy(&number, &value, sizeof number);
    return number;
  }
  int64_t length(int64_t size) {
    const int32_t count = integer();
    if (count < 0 || static_cast<uint64_t>(count) * size > bytes_.size() - at_)
      fail(fmt::format("a vector of {} elements", count));
    return count;
  }

  // A pairlist's tags and values.
  void pairs(int32_t flags, int depth, std::map<std::string, Value>& into) {
    while (true) {
      if ((flags & 255) == 254) return;  // the end
      if ((flags & 255) != 2) fail(fmt::format("type {} in a pairlist", flags & 255));
      if (flags & 512) item(depth + 1);
      const std::string tag = (flags & 1024) ? symbol(integer(), depth) : "";
      into[tag] = item(depth + 1);
      flags = integer();
    }
  }

  std::string symbol(int32_t flags, int depth) {
    if ((flags & 255) == 255) {
      const auto index = static_cast<size_t>(flags >> 8);
      if (index < 1 || index > symbols_.size()) fail(fmt::format("a reference to object {}", index));
      return symbols_[index - 1];
    }
    if ((flags & 255) != 1) fail(fmt::format("type {}, expected a symbol", flags & 255));
    const Value name = item(depth + 1);
    symbols_.push_back(name.strings.empty() ? "" : name.strings[0]);
    return symbols_.back();
  }

  Value item(int depth) {
    if (depth > 100) fail("objects inside of each other, more than 100");
    const int32_t flags = integer();
    const int type = flags & 255;
    Value value;
    switch (type) {
      case 254:
      case 253:
      case 252:
      case 251:
      case 242:
      case 241:  // nil and the constant environments
        return value;
      case 255:
      case 1:
        value.strings.push_back(symbol(flags, depth));
        return value;
      case 2:
        pairs(flags, depth, value.attributes);
        return value;
      case 9: {
        const int32_t size = integer();
        value.strings.push_back(size < 0 ? "" : std::string(take(size)));
        return value;
      }
      case 10:
      case 13:
        value.numbers.resize(length(4));
        for (double& x : value.numbers) x = integer();
        break;
      case 14:
        value.numbers.resize(length(8));
        for (double& x : value.numbers) x = real();
        break;
      case 16: {
        const int64_t count = length(4);
        for (int64_t i = 0; i < count; ++i) {
          const Value one = item(depth + 1);
          value.strings.push_back(one.strings.empty() ? "" : one.strings[0]);
        }
        break;
      }
      case 19:
      case 20: {
        const int64_t count = length(4);
        for (int64_t i = 0; i < count; ++i) value.items.push_back(item(depth + 1));
        break;
      }
      default:
        fail(fmt::format("an object of type {}, which no data set of text has", type));
    }
    if (flags & 512) pairs(integer(), depth, value.attributes);
    return value;
  }

  std::string name_, bytes_;
  size_t at_ = 0;
  std::vector<std::string> symbols_;
};

}  // namespace

std::vector<std::string> r_lines(const std::string& rdx, const std::string& rdb) {
  Reader index_reader("Rdata.rdx", inflate_all("Rdata.rdx", rdx));
  const Value index = index_reader.read();
  const auto& parts = index.names();
  const auto place = std::find(parts.begin(), parts.end(), "variables") - parts.begin();
  check<IoError>(place < std::ssize(index.items), "Rdata.rdx: it lists no variables");
  const Value& variables = index.items[place];
  std::vector<std::string> lines;
  for (size_t i = 0; i < variables.items.size(); ++i) {
    const std::string name = "Rdata.rdb: " + (i < variables.names().size() ? variables.names()[i] : "?");
    const std::vector<double>& where = variables.items[i].numbers;
    // At an offset so many bytes: their size unpacked (4 bytes), then zlib's.
    check<IoError>(where.size() == 2 && where[0] >= 0 && where[1] > 5 &&
                       where[0] + where[1] <= static_cast<double>(rdb.size()),
                   "{}: it is not where Rdata.rdx says", name);
    const std::string_view packed =
        std::string_view(rdb).substr(static_cast<size_t>(where[0]) + 4, static_cast<size_t>(where[1]) - 4);
    Reader reader(name, inflate_all(name, packed));
    const Value text = reader.read();
    lines.insert(lines.end(), text.strings.begin(), text.strings.end());
  }
  check<IoError>(!lines.empty(), "Rdata.rdb: no lines of text");
  return lines;
}

}  // namespace tandem::data
