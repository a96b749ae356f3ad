#include "tools/tandem/statistics.h"

#include <fmt/format.h>

#include <cmath>

#include "autograd/error.h"

namespace tandem::command {

double mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

double deviation(const std::vector<double>& x) {
  double squares = 0;
  for (const double value : x) squares += (value - mean(x)) * (value - mean(x));
  return x.size() < 2 ? 0 : std::sqrt(squares / static_cast<double>(x.size() - 1));
}

int four_digits(double number) {
  const double size = std::abs(number);
  return size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4;
}

std::string summary(const std::vector<double>& x) {
  const int decimals = four_digits(mean(x));
  const std::string text = fmt::format("{:.{}f}", mean(x), decimals);
  return x.size() < 2 ? text : fmt::format("{} ± {:.{}f}", text, deviation(x), decimals);
}

double student_t_95(int degrees) {
  check<ValueError>(degrees >= 1, "student_t_95: expected at least 1 degree of freedom, got {}", degrees);
  constexpr double kFew[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622};
  if (degrees <= static_cast<int>(std::size(kFew))) return kFew[degrees - 1];
  // Cornish and Fisher's expansion about the normal quantile, right to the fourth digit from here on
  // (Abramowitz and Stegun, 26.7.5).
  const double z = 1.959964, n = degrees, z2 = z * z;
  return z * (1 + (z2 + 1) / (4 * n) + ((5 * z2 + 16) * z2 + 3) / (96 * n * n) +
              (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * n * n * n));
}

double half_interval(const std::vector<double>& x) {
  if (x.size() < 2) return INFINITY;
  return student_t_95(static_cast<int>(x.size()) - 1) * deviation(x) /
         std::sqrt(static_cast<double>(x.size()));
}

}  // namespace tandem::command
