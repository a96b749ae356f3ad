// Event files as TensorBoard reads them: records of protocol buffers (tensorflow/core/util/event.proto), each
// with its length and CRC-32C sums (TFRecord). Only scalars, which take a dozen lines; no library of Debian
// writes them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tandem::command {

class EventFile {
 public:
  // A new file events.out.tfevents.SECONDS.HOST.PROCESS in the folder. What earlier files there have of steps
  // after `first_step` is hidden by it: a run that goes on from a checkpoint makes them again. IoError when
  // the file cannot be made.
  EventFile(const std::string& folder, int64_t first_step);

  // Adds numbers by their tags; those that are not finite are left out, which TensorBoard cannot draw. False
  // when they cannot be written.
  bool write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

  static bool is_name(const std::string& name) { return name.starts_with("events.out.tfevents."); }

 private:
  bool write_record(const std::string& event);

  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

}  // namespace tandem::command
