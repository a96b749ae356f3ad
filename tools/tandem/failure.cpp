#include "tools/tandem/failure.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>

#include "autograd/error.h"
#include "tools/tandem/command_line.h"
#include "tools/tandem/commands.h"

namespace tandem::command {

std::string output_failure(int reason) {
  return fmt::format("standard output: {}",
                     reason ? std::strerror(reason) : "what was written before is lost");
}

Failure failure_of(const std::exception_ptr& failed) {
  try {
    std::rethrow_exception(failed);
  } catch (const ConfigError& error) {  // an option of the right form with an impossible value
    return {error.what(), 2};
  } catch (const Interrupted& stop) {
    return {stop.what(), 130};
  } catch (const std::filesystem::filesystem_error& error) {
    return {fmt::format("{}: {}", error.path1().string(), error.code().message())};
  } catch (const std::system_error& error) {  // fmt says "cannot write to file"
    return {std::ferror(stdout) ? output_failure(error.code().value()) : error.what()};
  } catch (const std::bad_alloc&) {
    return {
        "out of memory; a smaller --batch-size or --plan replay needs less (train --dry-run tells how much)"};
  } catch (const std::exception& error) {
    return {error.what()};
  }
}

}  // namespace tandem::command
