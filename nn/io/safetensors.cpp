#include "nn/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "nn/io/files.h"

namespace tandem::nn {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

using Json = nlohmann::json;

constexpr const char* kReader = "safetensors";
constexpr const char* kMetadata = "__metadata__";
constexpr int64_t kMaxHeader = 100'000'000;  // of the reference implementation
constexpr int kMaxDepth = 3;                 // header, tensor, shape

struct DTypeName {
  std::string_view name;
  DType dtype;
};
constexpr DTypeName kDTypeNames[] = {{"F32", DType::f32},     {"F64", DType::f64}, {"BF16", DType::bf16},
                                     {"I32", DType::i32},     {"I64", DType::i64}, {"U8", DType::u8},
                                     {"BOOL", DType::boolean}};

std::string_view safetensors_name(DType dtype) {
  return std::find_if(std::begin(kDTypeNames), std::end(kDTypeNames),
                      [&](const DTypeName& entry) { return entry.dtype == dtype; })
      ->name;
}

// Published weights may be halves, which are read as the f32 that they are.
constexpr const char* kHalf = "F16";

float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
  if (rest < 0x400)
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(rest) * 0x1p-24f));
  const uint32_t exponent = rest < 0x7c00 ? (127 - 15) << 23 : (255 - 31) << 23;
  return std::bit_cast<float>(sign | ((rest << 13) + exponent));
}

int64_t bytes_of(const Tensor& x) { return x.numel() * size_of(x.dtype()); }

// One file being read: what fails names it and the byte.
class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file), size_(data::checked_file_size(kReader, file)) {
    in_.open(file, std::ios::binary);
    check<IoError>(in_.is_open(), "{}: {}: cannot be opened: {}", kReader, file, std::strerror(errno));
  }

  template <class... Args>
  [[noreturn]] void fail(int64_t position, fmt::format_string<Args...> format, Args&&... args) const {
    raise<IoError>("{}: {}: at byte {}: {}", kReader, file_, position,
                   fmt::format(format, std::forward<Args>(args)...));
  }

  void read(void* target, int64_t position, int64_t count) {
    in_.seekg(position);
    in_.read(static_cast<char*>(target), count);
    if (in_.gcount() != count) fail(position, "expected {} more bytes, got {}", count, in_.gcount());
  }

  int64_t size() const { return size_; }

 private:
  std::string file_;
  int64_t size_;
  std::ifstream in_;
};

Json read_header(Reader& in, int64_t& data_start) {
  if (in.size() < 8) in.fail(0, "the file has {} bytes, expected at least 8", in.size());
  uint64_t length = 0;
  in.read(&length, 0, 8);
  const auto limit = static_cast<uint64_t>(std::min(kMaxHeader, in.size() - 8));
  if (length < 2 || length > limit) in.fail(0, "a header of {} bytes, expected 2 to {}", length, limit);
  std::string text(length, '\0');
  in.read(text.data(), 8, static_cast<int64_t>(length));
  data_start = 8 + static_cast<int64_t>(length);
  if (text[0] != '{') in.fail(8, "the header is not a JSON object");
  std::vector<std::set<std::string>> names(kMaxDepth + 1);  // so far, in the objects around the place
  std::string tensor;
  const auto visit = [&](int depth, Json::parse_event_t event, Json& value) {
    const bool object = event == Json::parse_event_t::object_start;
    if (depth >= kMaxDepth && (object || event == Json::parse_event_t::array_start))
      in.fail(8, "the header is nested deeper than {} levels", kMaxDepth);
    if (object) names[depth + 1].clear();
    if (event == Json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (depth == 1) tensor = name;
      if (!names[depth].insert(name).second)
        in.fail(8, "\"{}\"{} is given twice", tensor, depth == 1 ? "" : fmt::format(": \"{}\"", name));
    }
    return true;
  };
  try {
    return Json::parse(text, visit);
  } catch (const Json::parse_error& error) {
    in.fail(8 + static_cast<int64_t>(error.byte), "the header is not JSON");
  } catch (const Json::exception&) {  // a number that no double holds
    in.fail(8, "the header holds a number that cannot be read");
  }
}

// What the header says of one tensor, checked on its own.
struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  int64_t begin, end;  // in the data
  bool half = false;   // stored in half as many bytes

  int64_t item_size() const { return half ? 2 : size_of(dtype); }
  std::string_view stored() const { return half ? "f16" : name_of(dtype); }
};

int64_t read_size(const Reader& in, const std::string& name, const char* field, const Json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{1} << 62)
    in.fail(8, "\"{}\": {}: expected a size, got {}", name, field, value.type_name());
  return value.get<int64_t>();
}

Entry read_entry(const Reader& in, const std::string& name, const Json& json, int64_t data_size) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets"))
    in.fail(8, "\"{}\": expected an object of dtype, shape and data_offsets", name);
  Entry entry{name, DType::f32, {}, 0, 0};
  const Json &dtype = json["dtype"], &shape = json["shape"], &offsets = json["data_offsets"];
  const auto known =
      std::find_if(std::begin(kDTypeNames), std::end(kDTypeNames), [&](const DTypeName& candidate) {
        return dtype.is_string() && dtype.get_ref<const std::string&>() == candidate.name;
      });
  entry.half = dtype == kHalf;
  if (known == std::end(kDTypeNames) && !entry.half)
    in.fail(8, "\"{}\": expected a dtype of F32, F64, F16, BF16, I32, I64, U8, BOOL, got {}", name,
            dtype.is_string() ? dtype.get_ref<const std::string&>() : dtype.type_name());
  if (!entry.half) entry.dtype = known->dtype;
  if (!shape.is_array() || shape.size() > static_cast<size_t>(kMaxDims))
    in.fail(8, "\"{}\": shape: expected a list of at most {} sizes", name, kMaxDims);
  int64_t bytes = entry.item_size(), strides = bytes;  // a size of 0 hides others, but not from strides
  bool overflow = false;
  for (const Json& size : shape) {
    entry.shape.push_back(read_size(in, name, "shape", size));
    bytes *= entry.shape.back() != 0;
    overflow |= __builtin_mul_overflow(strides, std::max<int64_t>(1, entry.shape.back()), &strides);
  }
  if (bytes != 0) bytes = strides;
  if (!offsets.is_array() || offsets.size() != 2)
    in.fail(8, "\"{}\": data_offsets: expected [begin, end]", name);
  entry.begin = read_size(in, name, "data_offsets", offsets[0]);
  entry.end = read_size(in, name, "data_offsets", offsets[1]);
  if (entry.begin > entry.end || entry.end > data_size)
    in.fail(8, "\"{}\": data_offsets [{}, {}], expected begin <= end <= {}, the size of the data", name,
            entry.begin, entry.end, data_size);
  if (overflow || bytes != entry.end - entry.begin)
    in.fail(8, "\"{}\": {}{} does not fit into the {} bytes of data_offsets [{}, {}]", name, entry.stored(),
            to_string(entry.shape), entry.end - entry.begin, entry.begin, entry.end);
  return entry;
}

// Puts the tensors in their order in the data, which they must cover from its first to its last byte.
void check_layout(const Reader& in, std::vector<Entry>& entries, int64_t data_start, Alignment alignment) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != at)
      in.fail(data_start + at, "\"{}\" begins at {} of the data, expected {} ({})", entry.name, entry.begin,
              at, entry.begin < at ? "an overlap" : "a gap");
    if (alignment == Alignment::required && at % entry.item_size() != 0 && entry.end > at)
      in.fail(data_start + at, "\"{}\" begins at {} of the data, expected a multiple of {} for {}",
              entry.name, at, entry.item_size(), entry.stored());
    at = entry.end;
  }
  if (at != in.size() - data_start)
    in.fail(data_start + at, "the data has {} bytes, expected {}, where \"{}\" ends", in.size() - data_start,
            at, entries.empty() ? "" : entries.back().name);
}

Metadata read_metadata(const Reader& in, const Json& json) {
  if (!json.is_object()) in.fail(8, "{}: expected an object, got {}", kMetadata, json.type_name());
  Metadata metadata;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string())
      in.fail(8, "{}: \"{}\": expected a string, got {}", kMetadata, key, value.type_name());
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace

void save_safetensors(const std::string& file, const NamedTensors& tensors, const Metadata& metadata) {
  const NoGradGuard no_grad;
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::vector<std::pair<std::string, Tensor>> values;
  for (const auto& [name, tensor] : tensors) {
    check<ConfigError>(name != kMetadata && !header.contains(name),
                       "{}: {}: the name \"{}\" is reserved or given twice", kReader, file, name);
    check<ConfigError>(tensor.defined(), "{}: {}: \"{}\" is an undefined tensor", kReader, file, name);
    check<ShapeError>(tensor.passes() == 1, "{}: {}: \"{}\" differs between passes: {}", kReader, file, name,
                      describe(tensor));
    header[name] = Json();
    values.emplace_back(name, tensor.to(kCpu).contiguous());
  }
  // Wide types first: so all are aligned.
  std::stable_sort(values.begin(), values.end(), [](const auto& a, const auto& b) {
    return size_of(a.second.dtype()) > size_of(b.second.dtype());
  });
  int64_t at = 0;
  for (const auto& [name, value] : values) {
    header[name] = {{"dtype", safetensors_name(value.dtype())},
                    {"shape", std::vector<int64_t>(value.shape().begin(), value.shape().end())},
                    {"data_offsets", {at, at + bytes_of(value)}}};
    at += bytes_of(value);
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error&) {
    raise<ConfigError>("{}: {}: a name or the metadata is not UTF-8", kReader, file);
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  const uint64_t length = text.size();
  std::vector<std::string_view> parts{{reinterpret_cast<const char*>(&length), 8}, text};
  for (const auto& [name, value] : values)
    parts.emplace_back(static_cast<const char*>(value.raw()), static_cast<size_t>(bytes_of(value)));
  data::write_file(file, parts);
}

SafeTensors load_safetensors(const std::string& file, Alignment alignment) {
  Reader in(file);
  int64_t data_start = 0;
  const Json header = read_header(in, data_start);
  SafeTensors result;
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == kMetadata)
      result.metadata = read_metadata(in, json);
    else
      entries.push_back(read_entry(in, name, json, in.size() - data_start));
  }
  check_layout(in, entries, data_start, alignment);
  for (const Entry& entry : entries) {
    const Tensor value = empty(entry.shape, {entry.dtype});
    const int64_t position = data_start + entry.begin;
    if (entry.half) {
      std::vector<uint16_t> halves(value.numel());
      in.read(halves.data(), position, entry.end - entry.begin);
      std::transform(halves.begin(), halves.end(), value.data<float>(), from_half);
    } else {
      in.read(value.raw(), position, entry.end - entry.begin);
    }
    if (entry.dtype == DType::boolean) {
      const auto* bytes = static_cast<const uint8_t*>(value.raw());
      for (int64_t i = 0; i < value.numel(); ++i)
        if (bytes[i] > 1)
          in.fail(position + i, "\"{}\": expected a BOOL of 0 or 1, got {}", entry.name, bytes[i]);
    }
    result.tensors.push_back({entry.name, value});
  }
  return result;
}

}  // namespace tandem::nn
