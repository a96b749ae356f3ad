// einsum beside the sum that its equation means, for equations drawn at random.
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <random>

#include "ops/einsum.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Case {
  std::vector<std::string> terms;
  std::string output;
  std::map<char, int64_t> sizes;
  Tensors tensors;

  std::string equation() const {
    std::string text;
    for (size_t i = 0; i < terms.size(); ++i) text.append(i ? "," : "").append(terms[i]);
    return text.append("->").append(output);
  }
};

// One to four tensors of up to four dimensions, letters repeated, dimensions of size 0 and 1, and 1 in place
// of a size.
Case draw(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](uint64_t n) { return random() % n; };
  Case c;
  const std::string letters = "abCde";
  for (char letter : letters) c.sizes[letter] = below(40) == 0 ? 0 : 1 + static_cast<int64_t>(below(3));
  std::string used;
  for (uint64_t i = 0, n = 1 + below(4); i < n; ++i) {
    std::string term;
    Shape shape;
    for (uint64_t d = 0, dims = below(5); d < dims; ++d) {
      const char letter = letters[below(letters.size())];
      const auto before = term.find(letter);
      shape.push_back(before != std::string::npos ? shape[static_cast<int>(before)]
                      : below(6) == 0             ? 1
                                                  : c.sizes[letter]);
      term += letter;
    }
    used += term;
    c.terms.push_back(term);
    c.tensors.push_back(normal(shape, 10 * seed + i, DType::f64));
  }
  for (char letter : letters) {  // a size is that of some tensor
    int64_t size = 1;
    for (size_t i = 0; i < c.terms.size(); ++i) {
      const auto at = c.terms[i].find(letter);
      if (at != std::string::npos && c.tensors[i].size(static_cast<int64_t>(at)) != 1)
        size = c.tensors[i].size(static_cast<int64_t>(at));
    }
    c.sizes[letter] = size;
    if (used.find(letter) != std::string::npos && below(2))
      c.output.insert(below(c.output.size() + 1), 1, letter);
  }
  return c;
}

// The sum over all values of all letters, element by element.
std::vector<double> explicit_sum(const Case& c) {
  Shape shape;
  for (char letter : c.output) shape.push_back(c.sizes.at(letter));
  std::vector<double> result(shape.numel());
  std::map<char, int64_t> at;
  const std::function<void(std::map<char, int64_t>::const_iterator)> loop = [&](auto letter) {
    if (letter != c.sizes.end()) {
      for (int64_t& i = at[letter->first] = 0; i < letter->second; ++i) loop(std::next(letter));
      return;
    }
    double product = 1;
    for (size_t i = 0; i < c.terms.size(); ++i) {
      Tensor x = c.tensors[i];
      for (char name : c.terms[i]) x = x[x.size(0) == 1 ? 0 : at[name]];
      product *= x.item();
    }
    int64_t place = 0;
    for (char name : c.output) place = place * c.sizes.at(name) + at[name];
    result[place] += product;
  };
  loop(c.sizes.begin());
  return result;
}

}  // namespace

TEST_CASE("einsum is the sum that its equation says, for 300 random ones") {
  int longer = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Case c = draw(seed);
    INFO("seed ", seed, ": ", c.equation());
    const Tensor y = einsum(c.equation(), c.tensors);
    const std::vector<double> expected = explicit_sum(c);
    Shape shape;
    for (char letter : c.output) shape.push_back(c.sizes.at(letter));
    REQUIRE(y.shape() == shape);
    const Closeness same = close(y, from_values(expected, shape), 1e-12);
    CHECK_MESSAGE(same.close, same.message);
    longer += c.tensors.size() > 2 && !expected.empty();
  }
  CHECK(longer > 50);
}

TEST_CASE("einsum: tensors one by one, spaces, and the letters of the implicit output A to Z first") {
  const Tensor a = tensor({1, 2, 3, 4}, {2, 2}), b = tensor({0, 1, 1, 0}, {2, 2});
  CHECK(einsum("ij,jk->ik", a, b).to_vector<float>() == std::vector<float>{2, 1, 4, 3});
  CHECK(einsum(" i j , j k -> i k ", {a, b}).to_vector<float>() == std::vector<float>{2, 1, 4, 3});
  CHECK(einsum("aB", a).to_vector<float>() == std::vector<float>{1, 3, 2, 4});
  CHECK(einsum("", scalar(3)).item() == 3);
  CHECK(einsum("i->i...", tensor({1, 2})).shape() == Shape{2});
}

TEST_CASE("einsum: passes stay apart, and dtypes are promoted") {
  const Tensor a = stack_passes({tensor({1, 2}), tensor({3, 4})}), b = tensor({10, 1});
  const Tensor y = einsum("i,i->", {a, b});
  CHECK(y.passes() == 2);
  CHECK(y.to_vector<float>() == std::vector<float>{12, 34});
  CHECK(einsum("i,j", {a.to(DType::bf16), b}).dtype() == DType::f32);
}
