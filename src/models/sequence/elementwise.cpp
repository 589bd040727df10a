#include "models/sequence/elementwise.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/types.h>

#include <algorithm>
#include <initializer_list>

#include "apo/base/error.h"
#include "base/kernel_library.h"
#include "models/sequence/kernels/elementwise.h"

namespace apo::models {
namespace {

const CudaElementwise* kernels() {
  static const KernelTable<CudaElementwise> once = load_kernels<CudaElementwise>(kCudaElementwiseSymbol);
  return once.table;  // without it, the objective says why
}

// Whether all of them are rows that a kernel can read, of one type, on one device.
bool have_kernels(std::initializer_list<at::Tensor> tensors) {
  const at::Tensor& first = *tensors.begin();
  if (first.is_cpu())
    return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
      return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.stride(-1) == 1;
    });
  if (!first.is_cuda() || (first.scalar_type() != at::kFloat && first.scalar_type() != at::kBFloat16))
    return false;
  const int64_t each = kKernelBytes / first.element_size();
  for (const at::Tensor& tensor : tensors) {
    if (tensor.device() != first.device() || tensor.scalar_type() != first.scalar_type()) return false;
    if (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % kKernelBytes != 0 || tensor.stride(-1) != 1)
      return false;
    for (int64_t i = 0; i + 1 < tensor.dim(); ++i)
      if (tensor.size(i) > 1 && tensor.stride(i) % each != 0) return false;
  }
  return kernels() != nullptr;
}

KernelNumber number_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? KernelNumber::float32 : KernelNumber::bfloat16;
}

// Runs a job where its tensors are.
template <class Job>
void run(const Job& job, at::Device device, void (*on_cpu)(const Job&),
         const char* (*CudaElementwise::*on_cuda)(const Job&, void*)) {
  if (device.is_cpu()) return on_cpu(job);
  const c10::DeviceGuard guard(device);
  const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
  const char* problem = (kernels()->*on_cuda)(job, cuda.getStreamNativeHandle(cuda.getStream(device)));
  APO_CHECK(RunError, problem == nullptr,
            "policy: a CUDA kernel did not start, or an earlier CUDA call failed: ", problem);
}

// Whether a kernel can read them as one long row.
bool is_plain(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    const int64_t each = tensor.is_cpu() ? 1 : kKernelBytes / tensor.element_size();
    if (!tensor.is_contiguous() || tensor.numel() % each != 0) return false;
  }
  return true;
}

}  // namespace

at::Tensor rotate(const at::Tensor& heads, const at::Tensor& cos, const at::Tensor& sin, double direction) {
  const int64_t half = heads.size(-1) / 2;
  if (have_kernels({heads, cos, sin}) &&
      half % (heads.is_cpu() ? 1 : kKernelBytes / heads.element_size()) == 0) {
    const int64_t batch = heads.size(0), count = heads.size(1), length = heads.size(2), size = heads.size(3);
    APO_ASSERT(cos.sizes() == sin.sizes() && cos.strides() == sin.strides() && cos.size(2) == length);
    at::Tensor out = at::empty({batch, length, count, size}, heads.options());
    run(RotationJob{.type = number_of(heads),
                    .heads = heads.const_data_ptr(),
                    .cos = cos.const_data_ptr(),
                    .sin = sin.const_data_ptr(),
                    .out = out.mutable_data_ptr(),
                    .batch = batch,
                    .length = length,
                    .count = count,
                    .size = size,
                    .batch_stride = heads.stride(0),
                    .length_stride = heads.stride(2),
                    .count_stride = heads.stride(1),
                    .angle_batch_stride = cos.size(0) == 1 ? 0 : cos.stride(0),
                    .angle_length_stride = cos.stride(2),
                    .direction = static_cast<float>(direction)},
        heads.device(), cpu_rotate, &CudaElementwise::rotate);
    return out.transpose(1, 2);
  }
  at::Tensor result = heads * cos;
  result.narrow(-1, 0, half).addcmul_(heads.narrow(-1, half, half), sin.narrow(-1, 0, half), -direction);
  result.narrow(-1, half, half).addcmul_(heads.narrow(-1, 0, half), sin.narrow(-1, half, half), direction);
  return result;
}

at::Tensor gated_unit(const at::Tensor& gate, const at::Tensor& up) {
  if (have_kernels({gate, up}) && is_plain({gate, up})) {
    at::Tensor out = at::empty_like(gate);
    run(GatedJob{.type = number_of(gate),
                 .count = gate.numel(),
                 .gate = gate.const_data_ptr(),
                 .up = up.const_data_ptr(),
                 .out = out.mutable_data_ptr()},
        gate.device(), cpu_gated, &CudaElementwise::gated);
    return out;
  }
  return at::silu(gate).mul_(up);
}

std::pair<at::Tensor, at::Tensor> gated_unit_gradients(const at::Tensor& gradient, const at::Tensor& gate,
                                                       const at::Tensor& up) {
  if (have_kernels({gradient, gate, up}) && is_plain({gradient, gate, up})) {
    at::Tensor of_gate = at::empty_like(gate), of_up = at::empty_like(up);
    run(GatedJob{.type = number_of(gate),
                 .count = gate.numel(),
                 .gate = gate.const_data_ptr(),
                 .up = up.const_data_ptr(),
                 .gradient = gradient.const_data_ptr(),
                 .gate_gradient = of_gate.mutable_data_ptr(),
                 .up_gradient = of_up.mutable_data_ptr()},
        gate.device(), cpu_gated_gradient, &CudaElementwise::gated_gradient);
    return {of_gate, of_up};
  }
  return {at::silu_backward(gradient * up, gate), at::silu(gate).mul_(gradient)};
}

bool has_rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  return have_kernels({x, weight}) && x.is_cpu() && is_plain({x, weight}) && x.size(-1) == weight.numel();
}

namespace {

RmsNormJob norm_job(const at::Tensor& x, const at::Tensor& weight, double offset) {
  return {.count = x.numel() / std::max<int64_t>(1, x.size(-1)),
          .width = x.size(-1),
          .offset = static_cast<float>(offset),
          .x = x.const_data_ptr<float>(),
          .weight = weight.const_data_ptr<float>()};
}

}  // namespace

std::pair<at::Tensor, at::Tensor> rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset,
                                           double epsilon) {
  at::Tensor out = at::empty_like(x), scale = at::empty(x.sizes().slice(0, x.dim() - 1), x.options());
  RmsNormJob job = norm_job(x, weight, offset);
  job.epsilon = static_cast<float>(epsilon);
  job.scale = scale.mutable_data_ptr<float>();
  job.out = out.mutable_data_ptr<float>();
  cpu_rms_norm(job);
  return {out, scale};
}

at::Tensor rms_norm_gradient(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& scale, double offset) {
  const at::Tensor rows = gradient.contiguous();
  at::Tensor out = at::empty_like(x);
  RmsNormJob job = norm_job(x, weight, offset);
  job.scale = scale.mutable_data_ptr<float>();
  job.gradient = rows.const_data_ptr<float>();
  job.x_gradient = out.mutable_data_ptr<float>();
  cpu_rms_norm_gradient(job);
  return out;
}

at::Tensor unpacked(const at::Tensor& codes, const at::Tensor& scales, std::span<const float, 16> levels,
                    at::ScalarType type) {
  if (!codes.is_cuda() || (type != at::kFloat && type != at::kBFloat16) || kernels() == nullptr ||
      reinterpret_cast<uintptr_t>(codes.const_data_ptr()) % kKernelBytes != 0)
    return {};
  at::Tensor out = at::empty({codes.size(0), 2 * codes.size(1)}, codes.options().dtype(type));
  UnpackJob job{.type = number_of(out),
                .count = out.numel(),
                .codes = codes.const_data_ptr<uint8_t>(),
                .scales = scales.const_data_ptr<float>(),
                .out = out.mutable_data_ptr()};
  std::copy(levels.begin(), levels.end(), job.levels);
  run<UnpackJob>(job, codes.device(), nullptr, &CudaElementwise::unpack);
  return out;
}

}  // namespace apo::models
