// What the commands' options share: checks that say what was expected, help and messages a person can read.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "autograd/device.h"

namespace tandem::command {

// Checks of an option's text, before it is converted: "--passes: expected an integer of at least 1, got 0".
CLI::Validator integer(int64_t low, int64_t high = 1'000'000'000);
CLI::Validator positive();           // a finite number > 0
CLI::Validator non_negative();       // a finite number >= 0
CLI::Validator fraction();           // a number in [0, 1)
CLI::Validator positive_fraction();  // in (0, 1)
CLI::Validator not_empty();
CLI::Validator existing_file();  // or "": none
CLI::Validator one_of(const std::vector<std::string>& names);

// Of an option --device: what it may be, what help says of it, and a line on what was found.
CLI::Validator device_name();
inline constexpr const char* kDeviceHelp = "auto (cuda where there is one), cpu or cuda";
std::string device_line(const std::string& asked, Device found);

// An option of a size that a preset has too: 0 leaves the preset's.
inline void override_size(int64_t& size, int64_t wanted) { size = wanted != 0 ? wanted : size; }

// Help in two aligned columns, with defaults, that fits in 80 characters.
struct HelpFormatter : CLI::Formatter {
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_usage(const CLI::App* app, std::string name) const override;
};

// The deepest command of the command line (`app` itself when there is none), and its name: "train vit".
CLI::App& active_command(CLI::App& app);
std::string command_path(const CLI::App& command);

// A message that opens with an option of the library, "cuda_graph: ...", by the command's flag for it where
// there is one: "--cuda-graph: ...".
std::string with_flag(CLI::App& app, const std::string& message);

// What is wrong with the command line, in one line.
std::string describe(CLI::App& app, const CLI::ParseError& error);

}  // namespace tandem::command
