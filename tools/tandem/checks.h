// Checks of an option's text, made before it is converted: "" or what is wrong with it, as
// "expected an integer of at least 1, got 0".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tandem::command {

using Check = std::function<std::string(const std::string& text)>;

Check integer(int64_t low, int64_t high = 1'000'000'000);
Check number();                            // finite
Check number_in(double low, double high);  // both included
Check positive();                          // a finite number > 0
Check non_negative();                      // a finite number >= 0
Check fraction();                          // a number in [0, 1)
Check positive_fraction();                 // in (0, 1)
Check anything();
Check not_empty();
Check existing_path();  // or "": none
Check one_of(const std::vector<std::string>& names);
Check device_name();
Check duration();           // "90s", "10m", "1h30m", "2d"; or "": none
Check steps_or_duration();  // an integer of at least 1, or a duration

double seconds_of(const std::string& duration);  // of a text that duration() accepts; 0 of ""

}  // namespace tandem::command
