#include "libraries/cudnn_store.h"

#include <algorithm>
#include <cstring>

#include "sim.h"

namespace cudasim {
namespace {

constexpr int kDims = 8;  // fewer than 9
constexpr int kAny = 1 << 20;

struct AttributeSpec {
  cudnnBackendAttributeName_t name;
  const char* text;
  cudnnBackendAttributeType_t type;
  int least, most;
  bool required;
};
struct DescriptorSpec {
  const char* text;
  std::vector<AttributeSpec> attributes;
};

AttributeSpec one(cudnnBackendAttributeName_t name, const char* text, cudnnBackendAttributeType_t type) {
  return {name, text, type, 1, 1, true};
}
AttributeSpec maybe(cudnnBackendAttributeName_t name, const char* text, cudnnBackendAttributeType_t type) {
  return {name, text, type, 1, 1, false};
}
AttributeSpec some(cudnnBackendAttributeName_t name, const char* text, cudnnBackendAttributeType_t type,
                   int most) {
  return {name, text, type, 1, most, true};
}
AttributeSpec node(cudnnBackendAttributeName_t name, const char* text) {
  return one(name, text, CUDNN_TYPE_BACKEND_DESCRIPTOR);
}

// An attribute and its name for messages.
#define NAMED(attribute) CUDNN_ATTR_##attribute, #attribute

const std::map<cudnnBackendDescriptorType_t, DescriptorSpec>& specs() {
  static const std::map<cudnnBackendDescriptorType_t, DescriptorSpec> all = {
      {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
       {"tensor",
        {one(NAMED(TENSOR_UNIQUE_ID), CUDNN_TYPE_INT64), one(NAMED(TENSOR_DATA_TYPE), CUDNN_TYPE_DATA_TYPE),
         one(NAMED(TENSOR_BYTE_ALIGNMENT), CUDNN_TYPE_INT64),
         some(NAMED(TENSOR_DIMENSIONS), CUDNN_TYPE_INT64, kDims),
         some(NAMED(TENSOR_STRIDES), CUDNN_TYPE_INT64, kDims),
         maybe(NAMED(TENSOR_IS_VIRTUAL), CUDNN_TYPE_BOOLEAN),
         maybe(NAMED(TENSOR_IS_BY_VALUE), CUDNN_TYPE_BOOLEAN)}}},
      {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
       {"convolution",
        {one(NAMED(CONVOLUTION_COMP_TYPE), CUDNN_TYPE_DATA_TYPE),
         one(NAMED(CONVOLUTION_CONV_MODE), CUDNN_TYPE_CONVOLUTION_MODE),
         one(NAMED(CONVOLUTION_SPATIAL_DIMS), CUDNN_TYPE_INT64),
         some(NAMED(CONVOLUTION_DILATIONS), CUDNN_TYPE_INT64, kDims),
         some(NAMED(CONVOLUTION_FILTER_STRIDES), CUDNN_TYPE_INT64, kDims),
         some(NAMED(CONVOLUTION_PRE_PADDINGS), CUDNN_TYPE_INT64, kDims),
         some(NAMED(CONVOLUTION_POST_PADDINGS), CUDNN_TYPE_INT64, kDims)}}},
      {CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
       {"pointwise",
        {one(NAMED(POINTWISE_MODE), CUDNN_TYPE_POINTWISE_MODE),
         one(NAMED(POINTWISE_MATH_PREC), CUDNN_TYPE_DATA_TYPE),
         maybe(NAMED(POINTWISE_AXIS), CUDNN_TYPE_INT64)}}},
      {CUDNN_BACKEND_MATMUL_DESCRIPTOR, {"matmul", {one(NAMED(MATMUL_COMP_TYPE), CUDNN_TYPE_DATA_TYPE)}}},
      {CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
       {"reduction",
        {one(NAMED(REDUCTION_OPERATOR), CUDNN_TYPE_REDUCTION_OPERATOR_TYPE),
         one(NAMED(REDUCTION_COMP_TYPE), CUDNN_TYPE_DATA_TYPE)}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       {"convolution forward",
        {one(NAMED(OPERATION_CONVOLUTION_FORWARD_ALPHA), CUDNN_TYPE_FLOAT),
         one(NAMED(OPERATION_CONVOLUTION_FORWARD_BETA), CUDNN_TYPE_FLOAT),
         node(NAMED(OPERATION_CONVOLUTION_FORWARD_CONV_DESC)), node(NAMED(OPERATION_CONVOLUTION_FORWARD_W)),
         node(NAMED(OPERATION_CONVOLUTION_FORWARD_X)), node(NAMED(OPERATION_CONVOLUTION_FORWARD_Y))}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       {"convolution backward data",
        {one(NAMED(OPERATION_CONVOLUTION_BWD_DATA_ALPHA), CUDNN_TYPE_FLOAT),
         one(NAMED(OPERATION_CONVOLUTION_BWD_DATA_BETA), CUDNN_TYPE_FLOAT),
         node(NAMED(OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC)), node(NAMED(OPERATION_CONVOLUTION_BWD_DATA_W)),
         node(NAMED(OPERATION_CONVOLUTION_BWD_DATA_DX)), node(NAMED(OPERATION_CONVOLUTION_BWD_DATA_DY))}}},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       {"convolution backward filter",
        {one(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_ALPHA), CUDNN_TYPE_FLOAT),
         one(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_BETA), CUDNN_TYPE_FLOAT),
         node(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC)),
         node(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_DW)), node(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_X)),
         node(NAMED(OPERATION_CONVOLUTION_BWD_FILTER_DY))}}},
      {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
       {"pointwise operation",
        {node(NAMED(OPERATION_POINTWISE_PW_DESCRIPTOR)), node(NAMED(OPERATION_POINTWISE_XDESC)),
         node(NAMED(OPERATION_POINTWISE_YDESC)),
         maybe(NAMED(OPERATION_POINTWISE_BDESC), CUDNN_TYPE_BACKEND_DESCRIPTOR),
         maybe(NAMED(OPERATION_POINTWISE_TDESC), CUDNN_TYPE_BACKEND_DESCRIPTOR)}}},
      {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
       {"matmul operation",
        {node(NAMED(OPERATION_MATMUL_ADESC)), node(NAMED(OPERATION_MATMUL_BDESC)),
         node(NAMED(OPERATION_MATMUL_CDESC)), node(NAMED(OPERATION_MATMUL_DESC))}}},
      {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
       {"reduction operation",
        {node(NAMED(OPERATION_REDUCTION_XDESC)), node(NAMED(OPERATION_REDUCTION_YDESC)),
         node(NAMED(OPERATION_REDUCTION_DESC))}}},
      {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
       {"reshape operation", {node(NAMED(OPERATION_RESHAPE_XDESC)), node(NAMED(OPERATION_RESHAPE_YDESC))}}},
      {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
       {"operation graph",
        {some(NAMED(OPERATIONGRAPH_OPS), CUDNN_TYPE_BACKEND_DESCRIPTOR, kAny),
         maybe(NAMED(OPERATIONGRAPH_HANDLE), CUDNN_TYPE_HANDLE)}}},
      {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
       {"heuristics",
        {node(NAMED(ENGINEHEUR_OPERATION_GRAPH)), one(NAMED(ENGINEHEUR_MODE), CUDNN_TYPE_HEUR_MODE)}}},
      // The next two are made by the library, which fills in what they hold.
      {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, {"engine configuration", {node(NAMED(ENGINECFG_ENGINE))}}},
      {CUDNN_BACKEND_ENGINE_DESCRIPTOR,
       {"engine",
        {node(NAMED(ENGINE_OPERATION_GRAPH)), one(NAMED(ENGINE_GLOBAL_INDEX), CUDNN_TYPE_INT64),
         some(NAMED(ENGINE_NUMERICAL_NOTE), CUDNN_TYPE_NUMERICAL_NOTE, kAny)}}},
      {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
       {"execution plan",
        {one(NAMED(EXECUTION_PLAN_HANDLE), CUDNN_TYPE_HANDLE), node(NAMED(EXECUTION_PLAN_ENGINE_CONFIG)),
         maybe(NAMED(EXECUTION_PLAN_WORKSPACE_SIZE), CUDNN_TYPE_INT64)}}},
      {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
       {"variant pack",
        {some(NAMED(VARIANT_PACK_UNIQUE_IDS), CUDNN_TYPE_INT64, kAny),
         some(NAMED(VARIANT_PACK_DATA_POINTERS), CUDNN_TYPE_VOID_PTR, kAny),
         maybe(NAMED(VARIANT_PACK_WORKSPACE), CUDNN_TYPE_VOID_PTR)}}},
  };
  return all;
}

#undef NAMED

const AttributeSpec& spec_of(const Descriptor& d, cudnnBackendAttributeName_t name) {
  const DescriptorSpec& spec = specs().at(d.type);
  for (const AttributeSpec& attribute : spec.attributes) {
    if (attribute.name == name) return attribute;
  }
  dnn_not_simulated(std::string("attribute ") + std::to_string(name) + " of a descriptor '" + spec.text +
                    "' (none of its own, or one that nothing here knows)");
}

// A convolution's factors are doubles where it computes in f64.
bool is_type(const AttributeSpec& spec, cudnnBackendAttributeType_t type) {
  return type == spec.type || (spec.type == CUDNN_TYPE_FLOAT && type == CUDNN_TYPE_DOUBLE);
}

void check_type(const AttributeSpec& spec, cudnnBackendAttributeType_t type) {
  if (!is_type(spec, type)) {
    dnn_fail(
        CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
        std::string(spec.text) + " has type " + std::to_string(spec.type) + ", not " + std::to_string(type));
  }
}

}  // namespace

void dnn_fail(cudnnStatus_t status, const std::string& message) { throw DnnError{status, message}; }

void dnn_not_simulated(const std::string& what) {
  report("not simulated", "cuDNN: " + what);
  dnn_fail(CUDNN_STATUS_NOT_SUPPORTED, "not simulated: " + what);
}

size_t dnn_size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;
  }
}

Node make_descriptor(cudnnBackendDescriptorType_t type) {
  if (!specs().count(type)) dnn_not_simulated("descriptors of type " + std::to_string(type));
  const Node node = std::make_shared<Descriptor>();
  node->type = type;
  return node;
}

const char* name_of(cudnnBackendDescriptorType_t type) { return specs().at(type).text; }

void set_attribute(Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t count, const void* values) {
  dnn_check(!d.finalized, "a value is set after the descriptor was finalized");
  const AttributeSpec& spec = spec_of(d, name);
  check_type(spec, type);
  dnn_check(values != nullptr, std::string(spec.text) + ": null values");
  dnn_check(count >= spec.least && count <= spec.most,
            std::string(spec.text) + ": " + std::to_string(count) + " values");
  Attribute& attribute = d.attributes[name];
  attribute = {type, count, {}, {}};
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    const auto* bytes = static_cast<const std::byte*>(values);
    attribute.values.assign(bytes, bytes + count * static_cast<int64_t>(dnn_size_of(type)));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const auto* child = static_cast<DescriptorHandle* const*>(values)[i];
    if (child == nullptr || !child->node->finalized) {
      d.attributes.erase(name);
      dnn_fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
               std::string(spec.text) + ": a descriptor that is null or not finalized");
    }
    attribute.children.push_back(child->node);
  }
}

void check_required(const Descriptor& d) {
  dnn_check(!d.finalized, "finalized twice");
  for (const AttributeSpec& spec : specs().at(d.type).attributes) {
    if (spec.required && !d.has(spec.name))
      dnn_fail(CUDNN_STATUS_BAD_PARAM, std::string(spec.text) + " is not set");
  }
}

int64_t get_attribute(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                      int64_t room, void* values) {
  if (!d.finalized) dnn_fail(CUDNN_STATUS_NOT_INITIALIZED, "a value is asked for before finalization");
  const AttributeSpec& spec = spec_of(d, name);
  check_type(spec, type);
  const auto found = d.attributes.find(name);
  if (found == d.attributes.end()) return 0;
  const Attribute& attribute = found->second;
  const int64_t given = values ? std::min(room, attribute.count) : 0;
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < given; ++i)
      static_cast<DescriptorHandle* const*>(values)[i]->node = attribute.children[i];
  } else if (given) {
    std::memcpy(values, attribute.values.data(), given * dnn_size_of(type));
  }
  return attribute.count;
}

}  // namespace cudasim
