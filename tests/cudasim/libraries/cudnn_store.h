// Backend descriptors of the simulated cuDNN: what each may hold, and the checks when a value is set, a
// descriptor finalized, or a value asked for. Stricter than the real library, which lets children that are
// not finalized, or of another kind, pass (and may crash on them later).
#pragma once
#include <cudnn.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cudasim {

// What a call that does not succeed leaves for cudnnGetLastErrorString.
struct DnnError {
  cudnnStatus_t status;
  std::string message;
};
[[noreturn]] void dnn_fail(cudnnStatus_t status, const std::string& message);
// For what the real library can do and nothing here does: files a report, so that no test passes.
[[noreturn]] void dnn_not_simulated(const std::string& what);
inline void dnn_check(bool holds, const std::string& message) {
  if (!holds) dnn_fail(CUDNN_STATUS_BAD_PARAM, message);
}

struct Descriptor;
using Node = std::shared_ptr<Descriptor>;

struct Attribute {
  cudnnBackendAttributeType_t type;
  int64_t count;
  std::vector<std::byte> values;  // without children
  std::vector<Node> children;
};

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;

  bool has(cudnnBackendAttributeName_t name) const { return attributes.count(name) != 0; }
  template <class T> std::vector<T> values(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    const auto* first = reinterpret_cast<const T*>(found->second.values.data());
    return std::vector<T>(first, first + found->second.values.size() / sizeof(T));
  }
  template <class T> T value(cudnnBackendAttributeName_t name, T without) const {
    const std::vector<T> all = values<T>(name);
    return all.empty() ? without : all[0];
  }
  Node child(cudnnBackendAttributeName_t name) const {  // null: not set
    const auto found = attributes.find(name);
    return found == attributes.end() || found->second.children.empty() ? nullptr : found->second.children[0];
  }
};

Node make_descriptor(cudnnBackendDescriptorType_t type);
const char* name_of(cudnnBackendDescriptorType_t type);

// Each throws DnnError.
void set_attribute(Descriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t count, const void* values);
void check_required(const Descriptor& descriptor);  // at finalization: everything required is there
// For what was set: at most `room` values; how many there are.
int64_t get_attribute(const Descriptor& descriptor, cudnnBackendAttributeName_t name,
                      cudnnBackendAttributeType_t type, int64_t room, void* values);

size_t dnn_size_of(cudnnBackendAttributeType_t type);

// What the caller holds: cudnnBackendDescriptor_t points to one.
struct DescriptorHandle {
  Node node;
};

}  // namespace cudasim
