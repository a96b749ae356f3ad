// Numbers of several seeds.
#pragma once

#include <string>
#include <vector>

namespace tandem::command {

double mean(const std::vector<double>& x);
double deviation(const std::vector<double>& x);  // of a sample: divided by n - 1; 0 of one

// As many decimals as give a number four digits, at most 4.
int four_digits(double number);
// Four digits of the mean, and as many decimals of the deviation: "80.71 ± 0.32".
std::string summary(const std::vector<double>& x);

// The quantile of Student's t that a 95 % interval of two sides takes: P(|T| <= t) = 0.95 for so many degrees
// of freedom, at least 1.
double student_t_95(int degrees);
// Half of the 95 % interval of the mean; infinite of fewer than two.
double half_interval(const std::vector<double>& x);

}  // namespace tandem::command
