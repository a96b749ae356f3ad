#include "nn/io/safetensors.h"

#include "tests/fuzz/fuzz.h"

using namespace tandem;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  fuzz::read_or_refuse([&] {
    int64_t bytes = 0;
    for (const auto& [name, tensor] : nn::load_safetensors(file.path()).tensors)
      bytes += tensor.numel() * size_of(tensor.dtype());
    fuzz::require(bytes < static_cast<int64_t>(size), "the tensors are no more than the file");
  });
  return 0;
}
