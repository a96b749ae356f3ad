// A module of PTX as it is executed: functions whose instructions are decoded to a handler and the places of
// their operands, so that nothing is looked up while a kernel runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace cudasim {

constexpr int warp_size = 32;

class Warp;
struct Instruction;
struct Function;
struct Module;
struct Region;

// Executes one instruction for the lanes of a mask, all at the same place of the same function.
using Handler = void (*)(Warp&, const Instruction&, uint32_t lanes);

// Values lie in rows: one element per lane, 32 bits or 64 bits each; a predicate's row is one word, a bit per
// lane. A row is named by where it lives (the two upper bits) and its offset there in words of 4 bytes.
using Row = uint32_t;
enum RowPlace : uint32_t { frame_row = 0, constant_row = 1, warp_row = 2, block_row = 3 };
constexpr Row no_row = ~0u;
constexpr Row make_row(RowPlace place, uint32_t word) { return uint32_t{place} << 30 | word; }
constexpr uint32_t row_words = warp_size;  // of a row of 32-bit values; 64-bit values take two

enum class Type : uint8_t {
  none,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  b8,
  b16,
  b32,
  b64,
  f16,
  f16x2,
  f32,
  f64,
  pred
};
Type parse_type(std::string_view text);  // Type::none if it is not one
int size_of(Type type);                  // bytes; 0 for a predicate
bool is_signed(Type type);
bool is_float(Type type);

enum class Space : uint8_t { generic, global, shared, local, param, constant };

// What the interpreter's loop does with an instruction; everything but control flow is `plain`.
enum class Kind : uint8_t { plain, memory, branch, branch_table, call, ret, exit, barrier, collective, trap };

struct Instruction {
  Handler run = nullptr;
  Row d = no_row, d2 = no_row, a = no_row, b = no_row, c = no_row, e = no_row;
  Row guard = no_row;
  bool guard_negated = false;
  Kind kind = Kind::plain;
  bool counted = true;  // false for moves that the decoder inserted
  uint8_t flops = 0;    // of one lane
  Space space = Space::generic;
  uint8_t bytes = 0;     // of one element in memory
  uint8_t elements = 1;  // of a vector access
  bool wide_address = false;
  uint32_t flags = 0;         // a handler's own
  uint32_t target = 0;        // branch: instruction; tables and calls: index in the function's lists
  int64_t offset = 0;         // of an address
  int64_t second_offset = 0;  // of another one
  uint32_t line = 0;          // in the PTX
  uint16_t file = 0,
           caller_file = 0;  // of the source, by number; where code was inlined, also of what it is part of
  uint32_t source_line = 0, caller_line = 0;
  mutable Region* region = nullptr;  // where this instruction's last access was
};

struct Parameter {
  std::string name;
  uint32_t offset = 0, size = 0;
};

struct SharedVariable {
  std::string name;
  uint32_t size = 0, align = 1;
  bool dynamic = false;  // extern __shared__: its size is the launch's
};

struct Call {
  Function* callee = nullptr;
  std::vector<std::pair<uint32_t, uint32_t>>
      arguments;        // caller's offset in its parameter area, callee's parameter
  int64_t result = -1;  // caller's offset
  uint32_t result_size = 0;
};

struct alignas(row_words * 4) ConstantChunk {
  uint32_t words[row_words];
};

// Where a shared variable's address is needed: each kernel lays out shared memory by itself.
struct SharedFixup {
  uint32_t chunk;  // in the constants; two of them if wide
  bool wide;
  const SharedVariable* variable;
  int64_t offset;
};

struct Function {
  Module* module = nullptr;
  std::string name;
  bool entry = false;
  std::string_view body;
  uint32_t body_line = 0;
  bool decoded = false;

  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  std::string result_name;
  uint32_t result_offset = 0, result_size = 0;  // in the parameter area of a function that is not a kernel

  std::vector<Instruction> code;
  uint32_t frame_words = 0;     // registers, and behind them the parameter area
  uint32_t parameter_word = 0;  // where that begins
  uint32_t parameter_area = 0;  // its bytes of one lane
  uint32_t local_bytes = 0;     // of one thread
  std::vector<ConstantChunk> constants;
  std::vector<SharedFixup> shared_fixups;
  std::vector<Row> row_lists;  // registers of vector accesses
  std::vector<Call> calls;
  std::vector<std::vector<uint32_t>> branch_tables;
  std::vector<std::unique_ptr<SharedVariable>> shared;  // declared in the body
  int max_threads = 1024;                               // .maxntid

  // Set when a kernel that reaches this function was last launched.
  const Function* laid_out_for = nullptr;
};

struct GlobalVariable {
  std::string name;
  size_t size = 0, align = 1;
  std::vector<std::byte> initial;
  bool constant = false;
  struct Pointer {
    size_t at;
    std::string symbol;
    int64_t offset;
  };
  std::vector<Pointer> pointers;  // addresses of other variables in its initial value
  uint64_t address = 0;           // once the module is loaded
};

struct Module {
  std::string_view text;
  bool scanned = false;
  int target = 0;  // 10 * major + minor, of the least compute capability that it is for
  std::unordered_map<std::string_view, std::unique_ptr<Function>> functions;  // by names inside of text
  std::vector<Function*> in_order;
  std::map<std::string, GlobalVariable, std::less<>> globals;
  std::map<std::string, std::unique_ptr<SharedVariable>, std::less<>> shared;
  std::map<int, std::string> files;
};

// Finds functions and variables; bodies stay text.
void scan(Module& module);
// Decodes a function's body and those of the functions that it calls. Throws std::runtime_error naming what
// is unknown.
void decode(Function& function);

// "file.cu:12", "header.h:3 < file.cu:12" for inlined code, or the line of the PTX where there is no source
// line.
std::string source_of(const Function& function, const Instruction& instruction);
std::string demangled(const std::string& name);      // of a function, without its parameters
std::string variable_name(const std::string& name);  // without the function that it is in

}  // namespace cudasim
