#include <fmt/format.h>

#include <filesystem>

#include "nn/data/fashion_mnist.h"
#include "tools/tandem/command.h"

namespace tandem::command {

void add_data(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "get and check a data set");
  data->require_subcommand(1);
  CLI::App* fashion = data->add_subcommand("fashion-mnist", "60,000 + 10,000 grey images of clothing, 28x28");
  auto dir = std::make_shared<std::string>("data/fashion-mnist");
  fashion->add_option("dir", *dir, "folder for the four IDX files, where Debian's package is not installed")
      ->capture_default_str();
  fashion->callback([dir] {
    const data::ImageSplits splits = data::fashion_mnist_sources(*dir);
    fmt::print("{:<8} {:>8} {:>8} {:>9}\n", "split", "images", "classes", "size");
    for (const auto& [name, set] : {std::pair{"train", &splits.train}, std::pair{"test", &splits.test}}) {
      fmt::print("{:<8} {:>8} {:>8} {:>9}\n", name, set->count, set->classes.size(),
                 fmt::format("{}x{}x{}", set->channels, set->height, set->width));
    }
  });
}

}  // namespace tandem::command
