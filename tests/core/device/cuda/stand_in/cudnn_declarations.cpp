// What the stand-in declares of cuDNN is what cuDNN has. Compiled with the stand-in's header and, where there
// is cuDNN, with its own: both must satisfy the same list.
#include <cudnn.h>

#include <type_traits>

#include "tests/core/device/cuda/stand_in/expect_call.h"

namespace {

using Status = cudnnStatus_t;
using Descriptor = cudnnBackendDescriptor_t;
EXPECT_CALL(cudnnGetVersion, size_t());
EXPECT_CALL(cudnnGetErrorString, const char*(Status));
EXPECT_CALL(cudnnGetLastErrorString, void(char*, size_t));
EXPECT_CALL(cudnnCreate, Status(cudnnHandle_t*));
EXPECT_CALL(cudnnDestroy, Status(cudnnHandle_t));
EXPECT_CALL(cudnnSetStream, Status(cudnnHandle_t, cudaStream_t));
EXPECT_CALL(cudnnBackendCreateDescriptor, Status(cudnnBackendDescriptorType_t, Descriptor*));
EXPECT_CALL(cudnnBackendDestroyDescriptor, Status(Descriptor));
EXPECT_CALL(cudnnBackendSetAttribute, Status(Descriptor, cudnnBackendAttributeName_t,
                                             cudnnBackendAttributeType_t, int64_t, const void*));
EXPECT_CALL(cudnnBackendGetAttribute, Status(Descriptor, cudnnBackendAttributeName_t,
                                             cudnnBackendAttributeType_t, int64_t, int64_t*, void*));
EXPECT_CALL(cudnnBackendFinalize, Status(Descriptor));
EXPECT_CALL(cudnnBackendExecute, Status(cudnnHandle_t, Descriptor, Descriptor));

static_assert(std::is_same_v<cudnnHandle_t, struct cudnnContext*> && std::is_same_v<Descriptor, void*>);
static_assert(CUDNN_MAJOR == 9);
static_assert(CUDNN_STATUS_SUCCESS == 0);
static_assert(CUDNN_STATUS_NOT_INITIALIZED == 1001);
static_assert(CUDNN_STATUS_BAD_PARAM == 2000);
static_assert(CUDNN_STATUS_NOT_SUPPORTED == 3000);
static_assert(CUDNN_STATUS_INTERNAL_ERROR == 4000);
static_assert(CUDNN_STATUS_EXECUTION_FAILED == 5000);
static_assert(CUDNN_DATA_FLOAT == 0);
static_assert(CUDNN_DATA_INT32 == 4);
static_assert(CUDNN_DATA_BFLOAT16 == 9);
static_assert(CUDNN_DATA_BOOLEAN == 11);
static_assert(CUDNN_REDUCE_TENSOR_ADD == 0);
static_assert(CUDNN_REDUCE_TENSOR_MAX == 3);
static_assert(CUDNN_POINTWISE_ADD == 0);
static_assert(CUDNN_POINTWISE_MUL == 1);
static_assert(CUDNN_POINTWISE_DIV == 6);
static_assert(CUDNN_POINTWISE_SUB == 9);
static_assert(CUDNN_POINTWISE_EXP == 13);
static_assert(CUDNN_POINTWISE_LOG == 15);
static_assert(CUDNN_POINTWISE_TANH_FWD == 101);
static_assert(CUDNN_POINTWISE_TANH_BWD == 201);
static_assert(CUDNN_POINTWISE_CMP_GT == 302);
static_assert(CUDNN_POINTWISE_CMP_GE == 303);
static_assert(CUDNN_POINTWISE_GEN_INDEX == 501);
static_assert(CUDNN_POINTWISE_BINARY_SELECT == 601);
static_assert(CUDNN_HEUR_MODE_A == 3);
static_assert(CUDNN_NUMERICAL_NOTE_TENSOR_CORE == 0);
static_assert(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC == 4);
static_assert(CUDNN_NUMERICAL_NOTE_TYPE_COUNT == 10);
static_assert(CUDNN_TYPE_HANDLE == 0);
static_assert(CUDNN_TYPE_DATA_TYPE == 1);
static_assert(CUDNN_TYPE_BOOLEAN == 2);
static_assert(CUDNN_TYPE_INT64 == 3);
static_assert(CUDNN_TYPE_VOID_PTR == 6);
static_assert(CUDNN_TYPE_HEUR_MODE == 8);
static_assert(CUDNN_TYPE_NUMERICAL_NOTE == 11);
static_assert(CUDNN_TYPE_POINTWISE_MODE == 14);
static_assert(CUDNN_TYPE_BACKEND_DESCRIPTOR == 15);
static_assert(CUDNN_TYPE_REDUCTION_OPERATOR_TYPE == 18);
static_assert(CUDNN_TYPE_CHAR == 24);
static_assert(CUDNN_BACKEND_POINTWISE_DESCRIPTOR == 0);
static_assert(CUDNN_BACKEND_ENGINE_DESCRIPTOR == 2);
static_assert(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR == 3);
static_assert(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR == 4);
static_assert(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR == 5);
static_assert(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR == 13);
static_assert(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR == 15);
static_assert(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR == 16);
static_assert(CUDNN_BACKEND_TENSOR_DESCRIPTOR == 17);
static_assert(CUDNN_BACKEND_MATMUL_DESCRIPTOR == 18);
static_assert(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR == 19);
static_assert(CUDNN_BACKEND_REDUCTION_DESCRIPTOR == 21);
static_assert(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR == 22);
static_assert(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR == 31);
static_assert(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR == 38);
static_assert(CUDNN_ATTR_POINTWISE_MODE == 0);
static_assert(CUDNN_ATTR_POINTWISE_MATH_PREC == 1);
static_assert(CUDNN_ATTR_POINTWISE_AXIS == 9);
static_assert(CUDNN_ATTR_ENGINEHEUR_MODE == 200);
static_assert(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH == 201);
static_assert(CUDNN_ATTR_ENGINEHEUR_RESULTS == 202);
static_assert(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP == 204);
static_assert(CUDNN_ATTR_ENGINECFG_ENGINE == 300);
static_assert(CUDNN_ATTR_EXECUTION_PLAN_HANDLE == 400);
static_assert(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG == 401);
static_assert(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE == 402);
static_assert(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP == 407);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR == 750);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_XDESC == 751);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_BDESC == 752);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_YDESC == 753);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC == 756);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC == 757);
static_assert(CUDNN_ATTR_OPERATION_POINTWISE_TDESC == 758);
static_assert(CUDNN_ATTR_OPERATIONGRAPH_HANDLE == 800);
static_assert(CUDNN_ATTR_OPERATIONGRAPH_OPS == 801);
static_assert(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT == 900);
static_assert(CUDNN_ATTR_TENSOR_DATA_TYPE == 901);
static_assert(CUDNN_ATTR_TENSOR_DIMENSIONS == 902);
static_assert(CUDNN_ATTR_TENSOR_STRIDES == 903);
static_assert(CUDNN_ATTR_TENSOR_UNIQUE_ID == 906);
static_assert(CUDNN_ATTR_TENSOR_IS_VIRTUAL == 907);
static_assert(CUDNN_ATTR_TENSOR_IS_BY_VALUE == 908);
static_assert(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS == 1000);
static_assert(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS == 1001);
static_assert(CUDNN_ATTR_VARIANT_PACK_WORKSPACE == 1003);
static_assert(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE == 1303);
static_assert(CUDNN_ATTR_MATMUL_COMP_TYPE == 1500);
static_assert(CUDNN_ATTR_OPERATION_MATMUL_ADESC == 1520);
static_assert(CUDNN_ATTR_OPERATION_MATMUL_BDESC == 1521);
static_assert(CUDNN_ATTR_OPERATION_MATMUL_CDESC == 1522);
static_assert(CUDNN_ATTR_OPERATION_MATMUL_DESC == 1523);
static_assert(CUDNN_ATTR_REDUCTION_OPERATOR == 1600);
static_assert(CUDNN_ATTR_REDUCTION_COMP_TYPE == 1601);
static_assert(CUDNN_ATTR_OPERATION_REDUCTION_XDESC == 1610);
static_assert(CUDNN_ATTR_OPERATION_REDUCTION_YDESC == 1611);
static_assert(CUDNN_ATTR_OPERATION_REDUCTION_DESC == 1612);
static_assert(CUDNN_ATTR_OPERATION_RESHAPE_XDESC == 2200);
static_assert(CUDNN_ATTR_OPERATION_RESHAPE_YDESC == 2201);
static_assert(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION == 2702);

}  // namespace
