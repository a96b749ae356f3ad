// The R-Drop losses on the device in each form that their kernels have: passes, dtypes, units of one tile and
// of several; and errors at units that any thread of the block that looks for the first may have.
#include "autograd/tensor_impl.h"
#include "loss_cases.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr DType kFloats[] = {DType::bf16, DType::f32, DType::f64};

// Classes of which a unit of m passes is too large for shared memory, at most 227 KiB.
int64_t classes_beyond(int m, DType dtype) {
  return 228 * 1024 / (m * static_cast<int64_t>(size_of(dtype))) + 72;
}

// Classes at -inf in all passes, and in those of unit 1 alone.
LossCase excluding_case(int m, int64_t classes, DType dtype) {
  LossCase c = random_case(m, 3, classes, dtype, {.alpha = 1, .label_smoothing = 0.2});
  const Tensor all = make_view(c.logits, {m, 3, classes}, {3 * classes, classes, 1}, 0, 1, 0);
  all.slice(2, classes / 2, classes - 1).slice(1, 0, 2).fill_(-kInf);
  all.slice(2, 1, 2).slice(1, 1, 2).fill_(-kInf);
  c.target = from_values(std::vector<int64_t>{0, classes - 1, classes / 2}, {3});
  return c;
}

}  // namespace

TEST_CASE("device losses: units of one tile and of several, in every dtype and number of passes") {
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 3, 4, 5}) {
      for (const bool vectors : {true, false}) {
        // 48 KiB of one tile; the last of them is short in one case.
        const int64_t tile = 48 * 1024 / (m * static_cast<int64_t>(size_of(dtype))) / 8 * 8,
                      least = classes_beyond(m, dtype) / 8 * 8,
                      classes = vectors ? least : (least / tile + 1) * tile + 37;
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        const LossCase c = random_case(m, 2, classes, dtype, {.alpha = 2, .label_smoothing = 0.1});
        const double tolerance = dtype == DType::f64 ? 1e-10 : 1e-4;
        vectors ? check_case(c, tolerance) : check_loss(c, tolerance);
      }
    }
  }
}

TEST_CASE("device losses: units that leave no room for another block, in every dtype and number of passes") {
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const int m : {1, 2, 3, 4}) {
      for (const bool vectors : {true, false}) {
        const int64_t classes =
            150 * 1024 / (m * static_cast<int64_t>(size_of(dtype))) / 8 * 8 + (vectors ? 0 : 3);
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        // The label has the largest logit, and all units but the last an equal one before it.
        const int64_t units = 8;
        LossCase c = random_case(m, units, classes, dtype, {.alpha = 2, .label_smoothing = 0.1});
        const Tensor all = make_view(c.logits, {m, units, classes}, {units * classes, classes, 1}, 0, 1, 0);
        c.target.fill_(units - 1);
        for (int64_t unit = 0; unit < units; ++unit)
          for (int i = 0; i < m; ++i)
            all[i][unit].select(0, units - 1).fill_(10), all[i][unit].select(0, unit).fill_(10);
        check_case(c, 1e-4);
        check_loss(excluding_case(m, classes, dtype), 1e-4);
      }
    }
  }
}

TEST_CASE("device losses: classes that take no part, in every dtype and number of passes") {
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 3, 4, 5}) {
      for (const int64_t classes : {30, 72, 700, 2000}) {
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        check_case(excluding_case(m, classes, dtype), 1e-4);
      }
    }
  }
}

TEST_CASE("device losses: units one after another, some of which do not count or leave classes out") {
  const auto check = [](int m, int64_t units, int64_t classes, DType dtype) {
    INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
    LossCase c = random_case(m, units, classes, dtype, {.alpha = 2});
    const Tensor all = make_view(c.logits, {m, units, classes}, {units * classes, classes, 1}, 0, 1, 0);
    all.slice(2, classes / 2, classes - 1).slice(1, 2, 3).fill_(-kInf);
    c.target.select(0, 2).fill_(0);
    c.target.select(0, 3).fill_(-100);
    c.mask = from_values(std::vector<uint8_t>(units, 1), {units});
    c.mask.slice(0, 5, 6).fill_(0);
    check_case(c, 1e-4);
  };
  for (const DType dtype : kFloats)
    for (const int m : {1, 2, 3, 5})
      for (const int64_t classes : {64, 264, 704, 701}) check(m, 9, classes, dtype);
  check(2, 7, 30000, DType::bf16);
}

TEST_CASE("device losses: regression of any number of passes, whose means lie close together") {
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 3, 4, 5}) {
      INFO(m, " passes of ", std::string(name_of(dtype)));
      agree(
          {normal({700}, 1, dtype, m), normal({700}, 2, dtype)},
          [&](const Tensors& in) { return rdrop_mse(in[0], in[1], {.alpha = 2}).loss; },
          aligned(dtype == DType::bf16 ? 2e-2 : 2e-6));
    }
  }
}

TEST_CASE("device losses: predictions, wherever they are, in every dtype and number of passes") {
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 3, 4, 5}) {
      for (const int64_t classes : {40, 700}) {
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        // The label has the largest logit, but an equal one in the last pass of some units. No more than is
        // needed: a cross-entropy that is small beside its logits has few digits in f32.
        LossCase c = random_case(m, 16, classes, dtype);
        const Tensor all = make_view(c.logits, {m, 16, classes}, {16 * classes, classes, 1}, 0, 1, 0);
        std::vector<int64_t> labels;
        for (int64_t unit = 0; unit < 16; ++unit) {
          labels.push_back((unit * 29 + 5) % classes);
          for (int i = 0; i < m; ++i) all[i][unit].select(0, labels.back()).fill_(10);
          if (unit % 3 == 0) all[m - 1][unit].select(0, (labels.back() + 13 * unit) % classes).fill_(10);
        }
        c.target = from_values(labels, {16});
        check_case(c);
      }
    }
  }
}

TEST_CASE("device losses: predictions are the first of equal logits, whichever thread has it") {
  const int64_t units = 64;
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 5}) {
      for (const int64_t classes : {64, 700}) {
        INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)));
        // The label is the last class; an equal one before it, in the last pass.
        LossCase c = random_case(m, units, classes, dtype);
        const Tensor all = make_view(c.logits, {m, units, classes}, {units * classes, classes, 1}, 0, 1, 0);
        for (int64_t unit = 0; unit < units; ++unit) {
          for (int i = 0; i < m; ++i) all[i][unit].select(0, classes - 1).fill_(10);
          all[m - 1][unit].select(0, unit * 11 % (classes - 1)).fill_(10);
        }
        c.target.fill_(classes - 1);
        Tensor grad;
        CHECK(run(c, device(), grad).correct == (m - 1) * units);
      }
    }
  }
}

TEST_CASE("device losses: a number that is not finite is found at any thread and pass") {
  for (const DType dtype : kFloats) {
    for (const int m : {1, 2, 3, 4, 5}) {
      for (const int64_t classes : {40, 700}) {
        for (int pass = 0; pass < m; ++pass) {
          for (const int64_t place : {2, 19, 37}) {
            LossCase c = random_case(m, 1, classes, dtype);
            c.target.fill_(0);
            const Tensor all = make_view(c.logits, {m, 1, classes}, {classes, classes, 1}, 0, 1, 0);
            all[pass][0].select(0, place + classes - 40).fill_(std::nan(""));
            INFO(m, " passes, ", classes, " classes of ", std::string(name_of(dtype)), ", pass ", pass);
            check_error(c, "logit is nan at unit 0");
          }
        }
      }
    }
  }
}

TEST_CASE("device losses: the first error of many units is told, wherever it is") {
  const int64_t units = 1100;
  const auto same_error = [](const std::function<void(Device)>& work) {
    const std::string expected = message_of<ValueError>([&] { work(kCpu); });
    INFO(expected);
    CHECK(expected != kNothingThrown);
    CHECK(message_of<ValueError>([&] { work(device()); }) == expected);
  };
  for (const int64_t unit : {0, 1, 5, 17, 33, 66, 130, 257, 515, 1023, 1024, 1098}) {
    INFO("unit ", unit);
    // Labels: looked at first of all by linear_rdrop.
    const Tensor target = zeros({units}, {DType::i64});
    target.select(0, unit).fill_(3), target.select(0, units - 1).fill_(-5);
    same_error([&](Device where) {
      linear_rdrop_cross_entropy(zeros({units, 1}).to(where), zeros({3, 1}).to(where), {}, target.to(where));
    });
    same_error([&](Device where) { rdrop_cross_entropy(zeros({units, 3}).to(where), target.to(where)); });
    same_error([&](Device where) { nll_loss(zeros({units, 3}).to(where), target.to(where)); });
    // Logits; and predictions of a regression, which has its units' parts in blocks.
    const Tensor x = zeros({units, 3}), y = zeros({units});
    x[unit].select(0, 1).fill_(kInf), x[units - 1].select(0, 0).fill_(std::nan(""));
    y.select(0, unit).fill_(-kInf), y.select(0, units - 1).fill_(kInf);
    same_error([&](Device where) { rdrop_cross_entropy(x.to(where), zeros({units}, {DType::i64, where})); });
    for (const DType dtype : kFloats) {
      for (const int m : {1, 3}) {
        same_error([&](Device where) {
          Tensors passes(m, zeros({units}, {dtype, where}));
          passes.back() = y.to(dtype).to(where);
          rdrop_mse(m == 1 ? passes[0] : stack_passes(passes), zeros({units}, {dtype, where}));
        });
      }
    }
  }
}
