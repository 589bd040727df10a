#include "support/simulated_device.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace apo::testing {
namespace {

using c10::DeviceType;
using torch::jit::Stack;

constexpr DeviceType kType = DeviceType::PrivateUse1;
const at::Device kDevice(kType, 0);

bool on_device(const at::Tensor& tensor) { return tensor.defined() && tensor.device().type() == kType; }

// ---- what is counted ----

struct Record {
  std::mutex mutex;
  bool active = false;
  std::map<std::string, int64_t> waits;
  std::set<std::string> operators;
};
Record& record() {
  static Record instance;
  return instance;
}
void count_wait(const std::string& cause) {
  const std::lock_guard lock(record().mutex);
  if (record().active) ++record().waits[cause];
}
void note_operator(const std::string& name) {
  const std::lock_guard lock(record().mutex);
  if (record().active) record().operators.insert(name);
}

// ---- memory ----

// Device addresses have a bit that no address of a process has, so that nobody but the operators below can
// read them.
constexpr uintptr_t kBit = uintptr_t{1} << 50;
void* device_address(void* host) {
  return host == nullptr ? nullptr : reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(host) | kBit);
}
void* host_address(const void* device) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(device) & ~kBit);
}

class Memory final : public c10::DeviceAllocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, kDevice};
    auto* block = static_cast<char*>(std::malloc(bytes + kHeader));
    TORCH_CHECK(block != nullptr, "no memory");
    *reinterpret_cast<size_t*>(block) = bytes;
    allocated_ += static_cast<int64_t>(bytes);
    return {device_address(block + kHeader), block, &release, kDevice};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(host_address(to), host_address(from), bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const at::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    TORCH_CHECK(device == 0, "no device of this index");
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].current =
        allocated_;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}

 private:
  static constexpr size_t kHeader = 64;  // keeps the alignment
  static void release(void* block) {
    if (block == nullptr) return;
    allocated_ -= static_cast<int64_t>(*static_cast<size_t*>(block));
    std::free(block);
  }
  inline static std::atomic<int64_t> allocated_ = 0;
};
Memory& memory() {
  static auto* const instance = new Memory;  // outlives every tensor
  return *instance;
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           dtype.value_or(at::kFloat));
}

// The same memory as a tensor of the CPU; a tensor of the CPU as it is.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!on_device(tensor)) return tensor;
  const auto options = at::TensorOptions(tensor.scalar_type());
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);  // may grow
  return at::from_blob(
      host_address(tensor.data_ptr()), tensor.sizes(), tensor.strides(),
      [storage = tensor.storage()](void*) {}, options);
}

at::Tensor to_device(const at::Tensor& host) {
  if (!host.defined()) return host;
  const at::TensorOptions options = host.options().device(kDevice);
  at::Tensor result = host.is_non_overlapping_and_dense()
                          ? at::empty_strided(host.sizes(), host.strides(), options)
                          : at::empty(host.sizes(), options);
  on_host(result).copy_(host);
  return result;
}

// ---- randomness ----

// The device's own stream; the host's generator inside draws the numbers.
struct DeviceGenerator final : c10::GeneratorImpl {
  explicit DeviceGenerator(uint64_t seed)
      : GeneratorImpl(kDevice, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host(at::make_generator<at::CPUGeneratorImpl>(seed)) {}
  void set_current_seed(uint64_t seed) override { host.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { host.set_offset(offset); }
  uint64_t get_offset() const override { return host.get_offset(); }
  uint64_t current_seed() const override { return host.current_seed(); }
  uint64_t seed() override { return host.seed(); }
  void set_state(const c10::TensorImpl& state) override { host.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  static DeviceType device_type() { return kType; }
  DeviceGenerator* clone_impl() const override {
    auto* copy = new DeviceGenerator(0);
    copy->host = host.clone();
    return copy;
  }

  at::Generator host;
};
const at::Generator& default_generator() {
  static const auto* const instance =
      new at::Generator(at::make_generator<DeviceGenerator>(uint64_t{67280421310721}));
  return *instance;
}
at::Generator host_generator(const at::Generator& generator) {
  return static_cast<DeviceGenerator*>(generator.unsafeGetGeneratorImpl())->host;
}

// ---- what CUDA would refuse ----

// Operators that take tensors of the CPU beside those of the device, by more than the rule for pointwise
// ones.
bool takes_indices(const std::string& name) {
  return name.starts_with("aten::index.") || name.find("index_put") != std::string::npos;
}
bool takes_numbers(const c10::OperatorHandle& op, const std::string& name) {
  return op.hasTag(at::Tag::pointwise) || takes_indices(name) || name.starts_with("aten::masked_fill") ||
         name.starts_with("aten::fill") || name.starts_with("aten::where");
}
bool moves_tensors(const std::string& name) {
  for (const char* prefix :
       {"aten::copy_", "aten::_copy_from", "aten::to.other", "aten::type_as", "aten::set_data"})
    if (name.starts_with(prefix)) return true;
  return false;
}

void check_together(const std::string& name, bool numbers, bool indices,
                    const std::vector<at::Tensor>& tensors) {
  bool any = false;
  for (const at::Tensor& tensor : tensors) any = any || on_device(tensor);
  if (!any) return;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || on_device(tensor)) continue;
    const bool index = indices && !tensor.is_floating_point();
    TORCH_CHECK(tensor.is_cpu() && (index || (numbers && tensor.dim() == 0)), name, ": given a tensor on ",
                tensor.device(), " of shape ", tensor.sizes(), " together with tensors on ", kDevice);
  }
}

// Operators after which the host knows something of the device's numbers.
bool waits_for_device(const std::string& name) {
  for (const char* prefix :
       {"aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique", "aten::unique",
        "aten::is_nonzero", "aten::repeat_interleave.Tensor", "aten::_local_scalar_dense"})
    if (name.starts_with(prefix)) return true;
  return false;
}

std::vector<at::Tensor> tensors_of(at::ArrayRef<c10::IValue> values) {
  std::vector<at::Tensor> tensors;
  for (const c10::IValue& value : values) {
    if (value.isTensor()) tensors.push_back(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) tensors.push_back(tensor);
    if (value.isOptionalTensorList())
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        if (tensor) tensors.push_back(*tensor);
  }
  return tensors;
}

// Sees every operator as the program calls it, so that an error has the name that the source has.
void watch(const c10::OperatorHandle& op, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard inside(c10::DispatchKey::TESTING_ONLY_GenericMode);
  const std::string name = c10::toString(op.operator_name());
  const size_t count = op.schema().arguments().size();
  if (!moves_tensors(name))
    check_together(name, takes_numbers(op, name), takes_indices(name),
                   tensors_of(at::ArrayRef<c10::IValue>(*stack).slice(stack->size() - count)));
  note_operator(name);
  op.callBoxed(stack);
}

// ---- every operator that has no entry of its own: the CPU's, on the same memory ----

// Gives a tensor the shape and memory that an operator gave to what stood for it on the host.
void follow(const at::Tensor& tensor, const at::Tensor& host) {
  if (tensor.sizes() == host.sizes() && host.numel() > 0 &&
      host.data_ptr() == host_address(tensor.data_ptr()))
    return;
  if (host.numel() == 0 && tensor.sizes() == host.sizes()) return;
  const at::Tensor moved = to_device(host);
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(moved.storage());
  tensor.unsafeGetTensorImpl()->set_storage_offset(0);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(moved.sizes(), moved.strides());
}

void run_on_host(const c10::OperatorHandle& op, Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const std::string name = c10::toString(op.operator_name());
  const auto& schema = op.schema();
  const auto& parameters = schema.arguments();
  const size_t begin = stack->size() - parameters.size();
  const std::vector<c10::IValue> given(stack->begin() + static_cast<std::ptrdiff_t>(begin), stack->end());
  const std::vector<at::Tensor> tensors = tensors_of(given);
  check_together(name, takes_numbers(op, name), takes_indices(name), tensors);
  note_operator(name);
  bool masks = false;
  for (const at::Tensor& tensor : tensors)
    masks = masks || (tensor.defined() && tensor.scalar_type() == at::kBool);
  if (waits_for_device(name)) count_wait(name);
  if (name.find("index_put") != std::string::npos && masks && tensors.size() > 2) count_wait(name);

  for (size_t i = 0; i < given.size(); ++i) {
    c10::IValue& value = (*stack)[begin + i];
    if (value.isTensor()) {
      value = on_host(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> host;
      for (const at::Tensor& tensor : value.toTensorVector()) host.push_back(on_host(tensor));
      value = c10::IValue(host);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> host;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        host.push_back(tensor ? std::optional(on_host(*tensor)) : std::nullopt);
      value = c10::IValue(host);
    } else if (value.isDevice() && value.toDevice().type() == kType) {
      value = c10::IValue(at::Device(at::kCPU));
    } else if (parameters[i].name() == "generator") {
      const at::Generator generator = value.isNone() ? default_generator() : value.toGenerator();
      TORCH_CHECK(generator.device().type() == kType, name, ": given a random generator of ",
                  generator.device(), " for a tensor on ", kDevice);
      value = c10::IValue(host_generator(generator));
    }
  }
  std::vector<c10::IValue> host(stack->begin() + static_cast<std::ptrdiff_t>(begin), stack->end());
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  for (size_t i = 0; i < given.size(); ++i) {
    const c10::AliasInfo* alias = parameters[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    if (given[i].isTensor() && on_device(given[i].toTensor()))
      follow(given[i].toTensor(), host[i].toTensor());
  }
  const size_t results = stack->size() - schema.returns().size();
  for (size_t k = 0; k < schema.returns().size(); ++k) {
    c10::IValue& value = (*stack)[results + k];
    const c10::AliasInfo* alias = schema.returns()[k].alias_info();
    if (alias != nullptr) {
      TORCH_CHECK(alias->isWrite(), name, ": a view needs an entry of its own");
      for (size_t i = 0; i < given.size(); ++i)
        if (parameters[i].alias_info() != nullptr &&
            parameters[i].alias_info()->beforeSets() == alias->beforeSets())
          value = given[i];
    } else if (value.isTensor()) {
      value = to_device(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> moved;
      for (const at::Tensor& tensor : value.toTensorVector()) moved.push_back(to_device(tensor));
      value = c10::IValue(moved);
    }
  }
}

// ---- operators with an entry of their own ----

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  note_operator("aten::copy_");
  // memory that is not pinned is copied with the host waiting, whatever `non_blocking` says, except to the
  // device
  if (!on_device(to)) count_wait("copy to the host");
  if (!on_device(from) && !non_blocking) count_wait("copy to the device");
  on_host(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const at::Tensor& tensor) {
  count_wait("aten::_local_scalar_dense");
  return on_host(tensor).item();
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                       at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                       int64_t groups) {
  check_together("aten::convolution", false, false, {input, weight, bias.value_or(at::Tensor())});
  note_operator("aten::convolution");
  return to_device(at::convolution(on_host(input), on_host(weight),
                                   bias ? std::optional(on_host(*bias)) : std::nullopt, stride, padding,
                                   dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups, std::array<bool, 3> wanted) {
  check_together("aten::convolution_backward", false, false, {gradient, input, weight});
  note_operator("aten::convolution_backward");
  const auto [of_input, of_weight, of_bias] = at::convolution_backward(
      on_host(gradient), on_host(input), on_host(weight), at::IntArrayRef{weight.size(0)}, stride, padding,
      dilation, transposed, output_padding, groups, wanted);
  return {to_device(of_input), to_device(of_weight), to_device(of_bias)};
}

std::tuple<at::Tensor, at::Tensor> native_dropout(const at::Tensor& input, double p,
                                                  std::optional<bool> train) {
  note_operator("aten::native_dropout");
  if (!train.value_or(true)) return {input.clone(), at::ones_like(input, at::kBool)};
  const at::Tensor mask =
      at::empty(input.sizes(), at::kBool).bernoulli_(1 - p, host_generator(default_generator()));
  return {to_device(on_host(input) * mask / (1 - p)), to_device(mask)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("resize_", &at::native::resize_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("native_dropout", &native_dropout);
  // otherwise composed of others
  m.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&watch>());
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

// Of what CUDA runs in half precision under autocast, what policies use.
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  using namespace at::autocast;
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(scaled_dot_product_attention, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(layer_norm, fp32)
}

// ---- the device itself ----

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    at::DataPtr grown = memory().allocate(bytes);
    memory().copy_data(grown.mutable_get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.set_data_ptr_noswap(std::move(grown));
    storage.set_nbytes(bytes);
  }
};

// One device, one stream on which everything has happened when the host asks.
c10::Stream only_stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return only_stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return only_stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return only_stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return only_stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};

// Before main, so that autograd finds the device when it starts its threads.
const bool kRegistered = [] {
  c10::SetAllocator(kType, &memory());
  static const c10::impl::DeviceGuardImplRegistrar guard(kType, new Guard);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

}  // namespace

at::Device simulated_device() {
  TORCH_CHECK(kRegistered, "the simulated device is used before main");
  return kDevice;
}

struct OnSimulatedDevice::Watch {
  c10::impl::IncludeDispatchKeyGuard guard{c10::DispatchKey::TESTING_ONLY_GenericMode};
};
OnSimulatedDevice::OnSimulatedDevice() = default;
OnSimulatedDevice::~OnSimulatedDevice() = default;

void OnSimulatedDevice::SetUp() {
  if (at::hasCUDA()) GTEST_SKIP() << "there is a CUDA device; this one would stand in its way";
  // autograd asks for the process's accelerator: from here on it is this one, under the name that it has
  // anyway
  static const bool named = [] {
    c10::register_privateuse1_backend("privateuseone");
    return true;
  }();
  ASSERT_TRUE(named);
  watch_ = std::make_unique<Watch>();
}

DeviceUse::DeviceUse() {
  const std::lock_guard lock(record().mutex);
  TORCH_CHECK(!record().active, "DeviceUse is not to be nested");
  record().active = true;
  record().waits.clear();
  record().operators.clear();
}

DeviceUse::~DeviceUse() {
  const std::lock_guard lock(record().mutex);
  record().active = false;
}

std::map<std::string, int64_t> DeviceUse::waits() const {
  const std::lock_guard lock(record().mutex);
  return record().waits;
}

int64_t DeviceUse::num_waits() const {
  int64_t sum = 0;
  for (const auto& [cause, count] : waits()) sum += count;
  return sum;
}

std::set<std::string> DeviceUse::operators() const {
  const std::lock_guard lock(record().mutex);
  return record().operators;
}

}  // namespace apo::testing
