// Turns statements into instructions. Each file of the interpreter brings the decoding of what it executes.
#pragma once
#include <optional>
#include <unordered_map>

#include "ptx/lexer.h"
#include "ptx/module.h"

namespace cudasim {

class Decoder;
// Fills in an instruction from the decoder's statement: takes modifiers and operands, of which none may
// remain.
using Decode = void (*)(Decoder&, Instruction&);
using DecodeTable = std::unordered_map<std::string_view, Decode>;

void add_integer(DecodeTable& table);
void add_bits(DecodeTable& table);
void add_move(DecodeTable& table);
void add_float(DecodeTable& table);
void add_compare(DecodeTable& table);
void add_convert(DecodeTable& table);
void add_memory(DecodeTable& table);
void add_atomic(DecodeTable& table);
void add_async(DecodeTable& table);
void add_collective(DecodeTable& table);
void add_matrix(DecodeTable& table);
void add_control(DecodeTable& table);

// Rows that a warp or its block fills in.
enum class WarpRow : uint32_t {
  tid_x,
  tid_y,
  tid_z,
  lane,
  warp,
  mask_eq,
  mask_lt,
  mask_le,
  mask_gt,
  mask_ge,
  count
};
enum class BlockRow : uint32_t {
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  warps,
  dynamic_shared,
  total_shared,
  zero,
  count
};

// Generic addresses of what is not global memory: no pointer of a process looks like these.
constexpr uint64_t shared_window = uint64_t{1} << 60;
constexpr uint64_t local_window = uint64_t{2} << 60;
constexpr uint64_t param_window = uint64_t{3} << 60;
constexpr uint64_t window_mask = uint64_t{15} << 60;

class Decoder {
 public:
  explicit Decoder(Function& function);
  void run();

  // ---- for the decoding of one statement
  const RawStatement& statement() const { return statement_; }
  bool take(std::string_view modifier);  // was it there?
  void require(std::string_view modifier);
  Type take_type();  // the next modifier that is a type
  bool has_type() const;
  std::string_view take_one_of(std::initializer_list<std::string_view> words);  // "" if none
  size_t operand_count() const { return statement_.operands.size(); }
  const RawOperand& operand(size_t index);

  Row source(const RawOperand& operand, Type type);
  Row source(size_t index, Type type) { return source(operand(index), type); }
  Row destination(const RawOperand& operand, Type type);
  Row destination(size_t index, Type type) { return destination(operand(index), type); }
  Row predicate(const RawOperand& operand);  // to read or to write; the caller looks at `negated`
  Row temporary(int bytes);                  // 0: a predicate
  Row constant(uint64_t bits, int bytes);
  // Address operand: sets a, offset and wide_address. Parameters are for the caller to treat first.
  void address(const RawOperand& operand, Instruction& instruction);
  uint32_t row_list(const std::vector<Row>& rows);
  void target(const RawOperand& operand, Instruction& instruction);
  // Offset of a parameter (own, result, or of a call) in the frame's parameter area; none if the name is no
  // parameter.
  struct Place {
    uint32_t offset;
    uint32_t size;
    bool of_kernel;  // then in the launch's parameters
  };
  std::optional<Place> parameter(std::string_view name) const;
  Function& function() { return function_; }
  // An instruction to be executed before, or after, the one that is being decoded.
  void before(const Instruction& instruction) { before_.push_back(instruction); }
  void after(const Instruction& instruction) { after_.push_back(instruction); }
  Row carry();  // of arithmetic with .cc: a predicate
  Function* callee(std::string_view name);
  void branch_table(std::string_view name);  // the instruction's target becomes the table's index
  [[noreturn]] void fail(const std::string& what) const;

 private:
  struct Register {
    Row row;
    int bytes;  // of its storage: 0 for a predicate, 4 or 8
  };
  struct Range {
    Type type;
    uint64_t count;
  };

  void line_directive();
  void directive(std::string_view word);
  void declare_registers();
  void declare_register(std::string_view name, Type type);
  void declare_parameter();
  void declare_memory(std::string_view space);
  void instruction();
  void open_scope() { scopes_.emplace_back(); }
  void close_scope();
  const Register* find_register(std::string_view name);
  Row new_row(int bytes);
  std::optional<Row> special(std::string_view name);
  Row symbol_address(std::string_view name, int64_t offset, int bytes);
  Row converted(Row row, int from, int to);  // a source of another width
  Row clock(std::string_view name, int bytes);
  std::string_view target_;
  void resolve_labels();

  Function& function_;
  Lexer lexer_;
  RawStatement statement_;
  std::vector<bool> used_;
  std::vector<Instruction> before_, after_;
  std::unordered_map<std::string_view, Register> registers_;
  std::unordered_map<std::string_view, Range> ranges_;  // of "%r<12>"
  std::unordered_map<std::string_view, Place> parameters_;
  std::unordered_map<std::string_view, uint32_t> depots_;  // offsets of local variables
  std::unordered_map<std::string_view, uint32_t> labels_;
  std::vector<std::pair<std::string_view, uint32_t>> jumps_;  // instructions whose target is a label
  std::unordered_map<std::string_view, std::vector<std::string_view>> tables_;
  std::vector<std::pair<std::string_view, uint32_t>> table_jumps_;
  std::vector<std::vector<std::pair<std::string_view, std::optional<Register>>>> scopes_;
  std::map<std::pair<uint64_t, int>, Row> constants_;
  uint32_t predicates_left_ = 0;
  Row next_predicate_ = 0;
  Row carry_ = no_row;
  std::string_view table_;
  uint16_t file_ = 0, caller_file_ = 0;
  uint32_t source_line_ = 0, caller_line_ = 0;
};

// How many bytes of a row's element hold a value of this type.
inline int storage_of(Type type) { return type == Type::pred ? 0 : size_of(type) == 8 ? 8 : 4; }

}  // namespace cudasim
