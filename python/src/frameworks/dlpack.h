// DLPack 1.3, as far as it is used here: https://github.com/dmlc/dlpack
#pragma once

#include <cstdint>

namespace understudy::python::dlpack {

// Device types whose memory the CPU reads.
inline constexpr std::int32_t kCpu = 1;
inline constexpr std::int32_t kCudaHost = 3;
inline constexpr std::int32_t kRocmHost = 11;

// Type codes.
inline constexpr std::uint8_t kInt = 0;
inline constexpr std::uint8_t kUInt = 1;
inline constexpr std::uint8_t kFloat = 2;
inline constexpr std::uint8_t kBfloat = 4;
inline constexpr std::uint8_t kComplex = 5;
inline constexpr std::uint8_t kBool = 6;
inline constexpr std::uint8_t kFloat8E4m3fn = 10;
inline constexpr std::uint8_t kFloat8E4m3fnuz = 11;
inline constexpr std::uint8_t kFloat8E5m2 = 12;
inline constexpr std::uint8_t kFloat8E5m2fnuz = 13;
inline constexpr std::uint8_t kFloat8E8m0fnu = 14;
inline constexpr std::uint8_t kFloat4E2m1fn = 17;

inline constexpr std::uint64_t kReadOnly = 1;  // a bit of ManagedTensor::flags

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

// The form before version 1.
struct OldManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(OldManagedTensor*);
};

struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

struct ExchangeApiHeader {
  Version version;
  ExchangeApiHeader* previous;
};

// Functions return 0, or -1 with a Python error set.
struct ExchangeApi {
  ExchangeApiHeader header;
  int (*allocate)(Tensor* prototype, ManagedTensor** out, void* error_context,
                  void (*set_error)(void*, const char*, const char*));
  int (*managed_from_object)(void* object, ManagedTensor** out);
  int (*managed_to_object)(ManagedTensor* tensor, void** out);
  int (*lend_from_object)(void* object, Tensor* out);  // may be null
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

}  // namespace understudy::python::dlpack
