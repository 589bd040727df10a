// Element-by-element steps on CUDA: memory is read and written once, 16 bytes a thread.
#include <cuda_runtime.h>

#include "models/sequence/kernels/elementwise.h"

namespace apo::models {
namespace {

constexpr int kThreads = 256;

template <class T>
struct alignas(kKernelBytes) Pack {
  static constexpr int kSize = kKernelBytes / sizeof(T);
  T numbers[kSize];
};

template <class T>
__device__ Pack<T> read(const void* from, int64_t number) {
  const uint4 bytes = *reinterpret_cast<const uint4*>(static_cast<const T*>(from) + number);
  Pack<T> pack;
  memcpy(&pack, &bytes, sizeof(bytes));
  return pack;
}
template <class T>
__device__ void write(void* to, int64_t number, const Pack<T>& pack) {
  uint4 bytes;
  memcpy(&bytes, &pack, sizeof(bytes));
  *reinterpret_cast<uint4*>(static_cast<T*>(to) + number) = bytes;
}

template <class T>
__global__ void __launch_bounds__(kThreads) rotate_heads(const RotationJob job) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t half = job.size / 2, packs = half / kSize;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= job.batch * job.length * job.count * packs) return;
  const int64_t begin = index % packs * kSize, head = index / packs;
  const int64_t row = head / job.count, b = row / job.length, t = row % job.length;
  const int64_t in =
      b * job.batch_stride + t * job.length_stride + head % job.count * job.count_stride + begin;
  const int64_t angle = b * job.angle_batch_stride + t * job.angle_length_stride + begin;
  Pack<T> first = read<T>(job.heads, in), second = read<T>(job.heads, in + half);
  const Pack<T> cos = read<T>(job.cos, angle), sin = read<T>(job.sin, angle);
  for (int i = 0; i < kSize; ++i) {
    const Turned result = turned(load(first.numbers[i]), load(second.numbers[i]), load(cos.numbers[i]),
                                 job.direction * load(sin.numbers[i]));
    store(first.numbers[i], result.first);
    store(second.numbers[i], result.second);
  }
  write(job.out, head * job.size + begin, first);
  write(job.out, head * job.size + begin + half, second);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gate_numbers(const GatedJob job) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Pack<T>::kSize;
  if (begin >= job.count) return;
  const Pack<T> gate = read<T>(job.gate, begin), up = read<T>(job.up, begin);
  Pack<T> out;
  for (int i = 0; i < Pack<T>::kSize; ++i)
    store(out.numbers[i], gated(load(gate.numbers[i]), load(up.numbers[i])));
  write(job.out, begin, out);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gradients_of_gate(const GatedJob job) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * Pack<T>::kSize;
  if (begin >= job.count) return;
  const Pack<T> gradient = read<T>(job.gradient, begin);
  Pack<T> gate = read<T>(job.gate, begin), up = read<T>(job.up, begin);
  for (int i = 0; i < Pack<T>::kSize; ++i) {
    const GatedGradient result =
        gated_gradient(load(gradient.numbers[i]), load(gate.numbers[i]), load(up.numbers[i]));
    store(gate.numbers[i], result.gate);
    store(up.numbers[i], result.up);
  }
  write(job.gate_gradient, begin, gate);
  write(job.up_gradient, begin, up);
}

template <class T>
__global__ void __launch_bounds__(kThreads) unpack_codes(const UnpackJob job) {
  constexpr int kSize = Pack<T>::kSize;
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kSize;
  if (begin >= job.count) return;
  const float scale = job.scales[begin / kUnpackBlock];
  Pack<T> out;
  for (int i = 0; i < kSize; i += 2) {
    const uint8_t two = job.codes[(begin + i) / 2];
    store(out.numbers[i], job.levels[two >> 4] * scale);
    store(out.numbers[i + 1], job.levels[two & 15] * scale);
  }
  write(job.out, begin, out);
}

template <class Job>
const char* launch(void (*of_float)(Job), void (*of_bfloat16)(Job), const Job& job, int64_t numbers,
                   void* stream) {
  const int64_t each = kKernelBytes / (job.type == KernelNumber::float32 ? 4 : 2);
  const int64_t blocks = (numbers / each + kThreads - 1) / kThreads;
  if (blocks == 0) return nullptr;
  (job.type == KernelNumber::float32
       ? of_float
       : of_bfloat16)<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(job);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

const char* start_rotation(const RotationJob& job, void* stream) {
  return launch<RotationJob>(rotate_heads<float>, rotate_heads<Bfloat16>, job,
                             job.batch * job.length * job.count * job.size / 2, stream);
}
const char* start_gated(const GatedJob& job, void* stream) {
  return launch<GatedJob>(gate_numbers<float>, gate_numbers<Bfloat16>, job, job.count, stream);
}
const char* start_gated_gradient(const GatedJob& job, void* stream) {
  return launch<GatedJob>(gradients_of_gate<float>, gradients_of_gate<Bfloat16>, job, job.count, stream);
}

const char* start_unpack(const UnpackJob& job, void* stream) {
  return launch<UnpackJob>(unpack_codes<float>, unpack_codes<Bfloat16>, job, job.count, stream);
}

}  // namespace
}  // namespace apo::models

extern "C" __attribute__((visibility("default"))) const apo::models::CudaElementwise* apo_cuda_elementwise() {
  static const apo::models::CudaElementwise kernels = {
      .version = APO_VERSION,
      .rotate = apo::models::start_rotation,
      .gated = apo::models::start_gated,
      .gated_gradient = apo::models::start_gated_gradient,
      .unpack = apo::models::start_unpack,
  };
  return &kernels;
}
