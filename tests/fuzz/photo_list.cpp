#include "nn/data/photos/list_file.h"
#include "tests/fuzz/fuzz.h"

using namespace tandem;

// The first byte says how the list's name ends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const char* ending = data[0] == 'c' ? ".csv" : data[0] == 'j' ? ".jsonl" : ".tsv";
  fuzz::read_or_refuse<IoError>([&] {
    for (const data::ListedPhoto& photo :
         data::parse_photo_list("list", fuzz::text_of(data + 1, size - 1), ending)) {
      fuzz::require(!photo.label.empty() && !photo.name.empty(), "names and labels are there");
      fuzz::require(photo.name[0] != '/' && photo.name.rfind("../", 0) != 0,
                    "no photo is outside of the folder");
    }
  });
  return 0;
}
