// c10d lives here and nowhere else: its headers are slow to compile.
#define USE_C10D_GLOO
#include "apo/distributed/group.h"

#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <signal.h>
#include <torch/types.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <future>
#include <span>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "apo/base/error.h"
#include "distributed/collectives.h"
#include "distributed/joining.h"
#include "distributed/reason.h"

namespace apo::distributed {
namespace {

using c10::intrusive_ptr;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr int64_t kBucketBytes = int64_t{32} << 20, kDeviceBucketBytes = int64_t{128} << 20;
constexpr int64_t kQueuedBuckets = 4;  // a device's queue is not endless: who waits for room waits for others
constexpr auto kFarewell = seconds(10);  // for the others to read why, before the store closes
constexpr auto kPatience = std::chrono::hours(24 * 365);
constexpr const char* kFailure = "failure";
constexpr const char* kEnded = "ended";

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

std::shared_ptr<gloo::transport::Device> device_of(const Place& place) {
  using Gloo = c10d::ProcessGroupGloo;
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME"))
    return Gloo::createDeviceForInterface(interface);
  return is_loopback(place.address) ? Gloo::createDeviceForHostname("127.0.0.1")
                                    : Gloo::createDefaultDevice();
}

// Gloo writes to a rank that is gone without MSG_NOSIGNAL: that is to be an error, not the end of this
// process.
void ignore_broken_pipes() {
  struct sigaction now = {};
  if (::sigaction(SIGPIPE, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
      now.sa_handler == SIG_DFL)
    ::signal(SIGPIPE, SIG_IGN);
}

bool keeps_store(const Place& place) { return place.rank == 0 && !place.has_agent; }

// Where the ranks meet. In a thread of its own: what answers at the port and is no store is waited for
// without end.
intrusive_ptr<c10d::Store> open_store(const Place& place, seconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = keeps_store(place);
  options.waitWorkers = false;
  options.timeout = timeout;
  using Store = intrusive_ptr<c10d::Store>;
  std::packaged_task<Store()> open(
      [place, options]() -> Store { return c10::make_intrusive<c10d::TCPStore>(place.address, options); });
  std::future<Store> opened = open.get_future();
  std::thread(std::move(open)).detach();
  APO_CHECK(RunError, opened.wait_for(timeout + seconds(1)) == std::future_status::ready,
            "what listens there does not answer as rank 0 does");
  return opened.get();
}

using Tensors = std::span<const at::Tensor>;

// Tensors that follow each other, of one device and type, in buckets.
template <class Use>
void in_buckets(Tensors tensors, const Use& use) {
  const at::NoGradGuard no_grad;
  for (size_t begin = 0, end = 0; begin < tensors.size(); begin = end) {
    const at::Tensor& first = tensors[begin];
    const int64_t most = first.is_cpu() ? kBucketBytes : kDeviceBucketBytes;
    for (int64_t bytes = 0; end < tensors.size() && (end == begin || bytes < most); ++end) {
      const at::Tensor& tensor = tensors[end];
      if (tensor.scalar_type() != first.scalar_type() || tensor.device() != first.device()) break;
      bytes += static_cast<int64_t>(tensor.nbytes());
    }
    use(tensors.subspan(begin, end - begin));
  }
}

at::Tensor packed(Tensors tensors, at::ScalarType type) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& tensor : tensors) parts.push_back(tensor.to(type).flatten());
  return at::cat(parts);
}

void unpack(const at::Tensor& bucket, Tensors tensors) {
  std::vector<at::Tensor> parts;
  int64_t offset = 0;
  for (const at::Tensor& tensor : tensors) {
    parts.push_back(bucket.narrow(0, offset, tensor.numel()).view(tensor.sizes()));
    offset += tensor.numel();
  }
  at::_foreach_copy_(std::vector<at::Tensor>(tensors.begin(), tensors.end()), parts);
}

}  // namespace

struct Group::Connection {
  intrusive_ptr<c10d::Store> store;
  intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  std::unique_ptr<Collectives> on_device;  // null: tensors pass through the host's memory
  at::Device device = at::kCPU;
  bool failed = false;

  // What the device waits for never comes.
  void abandon_device() {
    if (on_device) on_device->abort();
    on_device.reset();
  }
  void leave() {
    gloo.reset();  // the others notice at once
    abandon_device();
  }

  // Says that this rank ends; and waits for the others to say so, but not for long.
  void part(int64_t size, bool wait) {
    store->add(kEnded, 1);
    const auto end = Clock::now() + kFarewell;
    while (wait && Clock::now() < end && store->add(kEnded, 0) < size)
      std::this_thread::sleep_for(milliseconds(5));
  }
};

Group::Group() = default;

Group::Group(const Place& place, const DistributedOptions& options) : place_(place), options_(options) {
  if (is_alone()) return;
  ignore_broken_pipes();
  connection_ = std::make_unique<Connection>();
  const seconds timeout(options.timeout_seconds);
  const std::string where = concat(place.address, ":", place.port),
                    who = concat("rank ", place.rank, " of ", place.size);
  // errors are told once, by us
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = 3;
  try {
    connection_->store =
        c10::make_intrusive<c10d::PrefixStore>("apo/" + place.attempt, open_store(place, timeout));
  } catch (const std::exception& error) {
    const std::string why = reason(error);
    APO_CHECK(RunError, why.find("EADDRINUSE") == std::string::npos, "MASTER_PORT: ", who, ": port ",
              place.port,
              " of this machine is taken; is another job, or another process as rank 0, running? "
              "Set another port");
    throw RunError(concat(who, ": expected rank 0 at ", where, " (MASTER_ADDR, MASTER_PORT) within ",
                          options.timeout_seconds, " s (distributed.timeout_seconds): ", why));
  }
  APO_CHECK(ConfigError, connection_->store->add(concat("rank/", place.rank), 1) == 1, who,
            ": expected one process of each rank at ", where, ", found two of this one");
  try {
    const auto gloo_options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout));
    gloo_options->devices.push_back(device_of(place));
    connection_->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        connection_->store, static_cast<int>(place.rank), static_cast<int>(place.size), gloo_options);
    barrier();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::string missing;
    for (int64_t r = 0; r < size(); ++r)
      if (connection_->store->add(concat("rank/", r), 0) == 0) append_item(missing, ", ", r);
    throw RunError(concat(who, ": expected all ranks at ", where, " within ", options.timeout_seconds,
                          " s (distributed.timeout_seconds), found none of rank ",
                          missing.empty() ? "?" : missing, ": ", reason(error)));
  }
}

Group::~Group() {
  if (!connection_ || connection_->failed) return;
  if (std::uncaught_exceptions() > 0) {
    connection_->leave();
    return;
  }
  try {
    // a connection is closed when no rank reads from it any more
    if (connection_->gloo) connection_->part(size(), true);
  } catch (...) {
  }
}

void Group::fail(const std::exception& error) noexcept {
  if (!connection_ || !connection_->store || connection_->failed) return;
  connection_->failed = true;
  try {
    const auto* own = dynamic_cast<const Error*>(&error);
    const int code = static_cast<int>(own != nullptr ? own->exit_code() : ExitCode::run);
    // the first one is the cause of the others
    connection_->store->compareSet(
        kFailure, "", concat(code, " rank ", rank(), ": ", own != nullptr ? own->what() : reason(error)));
    connection_->leave();  // the others ask the store why
    connection_->part(size(), keeps_store(place_));
  } catch (...) {
  }
}

void Group::lost(const std::string& what) const {
  const std::string who = concat("rank ", rank(), " of ", size(), ": ");
  if (what.find("imed out") != std::string::npos) {
    connection_->abandon_device();
    throw RunError(concat(who, "another rank has not answered within ", options_.timeout_seconds,
                          " s (distributed.timeout_seconds): ", what));
  }
  connection_->failed = true;  // all see it, and none needs to be told
  std::string failure;
  try {
    // who failed said so before the connection closed
    if (connection_->store->check({kFailure})) failure = connection_->store->get_to_str(kFailure);
  } catch (const std::exception&) {
  }
  connection_->leave();
  try {
    if (!failure.empty()) connection_->part(size(), keeps_store(place_));
  } catch (const std::exception&) {
  }
  int code = 0;
  const auto [end, error] = std::from_chars(failure.data(), failure.data() + failure.size(), code);
  if (error == std::errc())
    throw Error(static_cast<ExitCode>(code),
                concat(who, "ended because of", failure.substr(static_cast<size_t>(end - failure.data()))));
  throw RunError(concat(who, "another rank is gone (", what,
                        "); with --resume the run goes on from its last checkpoint"));
}

// What `send` begins, done; or why not.
template <class Send>
void Group::wait_for(const Send& send) const {
  APO_CHECK(RunError, connection_->gloo, "rank ", rank(), " of ", size(),
            ": has left the others after a failure");
  std::string what;
  try {
    send(*connection_->gloo)->wait();
    return;
  } catch (const std::exception& error) {
    what = reason(error);
  }
  lost(what);
}

void Group::reduce(const at::Tensor& tensor, bool patient) const {
  if (is_alone()) return;
  std::vector<at::Tensor> one = {tensor};
  c10d::AllreduceOptions reduce_options;
  reduce_options.timeout = patient ? std::chrono::duration_cast<milliseconds>(kPatience)
                                   : milliseconds(seconds(options_.timeout_seconds));
  wait_for([&](c10d::ProcessGroupGloo& gloo) { return gloo.allreduce(one, reduce_options); });
}

void Group::connect(at::Device device) const {
  if (is_alone() || options_.backend == "gloo") return;
  APO_ASSERT(!connection_->on_device);
  connection_->on_device = join_devices(*this, device, options_);
  connection_->device = device;
}

Collectives* Group::on_device(const at::Tensor& tensor) const {
  if (!connection_->on_device || !connection_->gloo || tensor.device() != connection_->device) return nullptr;
  return connection_->on_device.get();
}

// What was queued, done on all ranks. A rank that is gone leaves the others' devices waiting without end, so
// all ask each other as long as one of them is not done.
void Group::finish() const {
  const auto end = Clock::now() + seconds(options_.timeout_seconds);
  for (bool waiting = true; waiting;) {
    bool done = false;
    std::string problem;
    try {
      done = connection_->on_device->wait(between_looks(options_));
    } catch (const std::exception& error) {
      problem = reason(error);
    }
    if (!done && problem.empty() && Clock::now() > end)
      problem = concat("another rank's device has not answered within ", options_.timeout_seconds,
                       " s (distributed.timeout_seconds)");
    const auto [others_wait, failed] = any({!done, !problem.empty()});
    if (failed) connection_->abandon_device();
    if (failed && problem.empty()) barrier();  // who knows the reason tells it, and leaves
    APO_CHECK(RunError, !failed, "rank ", rank(), " of ", size(), ": ", problem);
    waiting = others_wait;
  }
}

void Group::sum(const at::Tensor& tensor) const {
  if (is_alone()) return;
  if (tensor.is_cpu() && tensor.is_contiguous() && on_device(tensor) == nullptr)
    reduce(tensor);
  else
    sum(std::vector<at::Tensor>{tensor});
}

void Group::sum(const std::vector<at::Tensor>& tensors) const {
  if (is_alone()) return;
  int64_t queued = 0;
  in_buckets(tensors, [&](Tensors some) {
    const at::ScalarType own = some.front().scalar_type();
    const at::Tensor bucket = packed(some, at::isReducedFloatingType(own) ? at::kFloat : own);
    if (bucket.numel() == 0) return;
    if (Collectives* device = on_device(bucket)) {
      device->sum(bucket);
      if (++queued % kQueuedBuckets == 0) finish();
    } else {
      const at::Tensor here = bucket.to(at::kCPU);
      reduce(here);
      if (!here.is_same(bucket)) bucket.copy_(here);
    }
    unpack(bucket, some);  // behind it
  });
  if (queued % kQueuedBuckets != 0) finish();
}

void Group::broadcast(const std::vector<at::Tensor>& tensors, int64_t from) const {
  if (is_alone()) return;
  APO_ASSERT(0 <= from && from < size());
  c10d::BroadcastOptions broadcast_options;
  broadcast_options.rootRank = static_cast<int>(from);
  broadcast_options.timeout = milliseconds(seconds(options_.timeout_seconds));
  in_buckets(tensors, [&](Tensors some) {
    const at::Tensor& first = some.front();
    Collectives* device = on_device(first);
    const at::TensorOptions options =
        first.options().device(device != nullptr ? first.device() : at::Device(at::kCPU));
    at::Tensor bucket;
    if (rank() == from) {
      bucket = packed(some, first.scalar_type()).to(options);
    } else {
      int64_t size = 0;
      for (const at::Tensor& tensor : some) size += tensor.numel();
      bucket = at::empty({size}, options);
    }
    if (bucket.numel() == 0) return;
    std::vector<at::Tensor> bytes = {bucket.view(at::kByte)};
    if (device != nullptr) {
      device->broadcast(bytes[0], from);
      finish();
    } else {
      wait_for([&](c10d::ProcessGroupGloo& gloo) { return gloo.broadcast(bytes, broadcast_options); });
    }
    if (rank() != from) unpack(bucket.to(first.device()), some);
  });
}

at::Tensor Group::gather_rows(const at::Tensor& rows, int64_t begin, int64_t total) const {
  if (is_alone()) return rows;
  std::vector<int64_t> shape = rows.sizes().vec();
  APO_ASSERT(!shape.empty() && 0 <= begin && begin + shape[0] <= total);
  shape[0] = total;
  const at::Tensor all = at::zeros(shape, rows.options());
  all.narrow(0, begin, rows.size(0)).copy_(rows);
  sum(all);
  return all;
}

std::array<bool, 2> Group::any(std::array<bool, 2> values) const {
  if (is_alone()) return values;
  const at::Tensor counts = at::tensor({int64_t{values[0]}, int64_t{values[1]}});
  reduce(counts);
  return {counts[0].item<int64_t>() > 0, counts[1].item<int64_t>() > 0};
}

void Group::wait_for_first() const {
  if (!is_alone()) reduce(at::zeros({1}, at::kLong), /*patient=*/true);
}

std::vector<std::string> Group::gather(const std::string& text) const {
  if (is_alone()) return {text};
  const at::Tensor lengths = at::zeros({size()}, at::kLong);
  lengths[rank()] = static_cast<int64_t>(text.size());
  reduce(lengths);
  const at::Tensor bytes = at::zeros({lengths.sum().item<int64_t>()}, at::kByte);
  std::vector<int64_t> begin = {0};
  for (int64_t r = 0; r < size(); ++r) begin.push_back(begin.back() + lengths[r].item<int64_t>());
  auto* data = bytes.data_ptr<uint8_t>();
  std::memcpy(data + begin[static_cast<size_t>(rank())], text.data(), text.size());
  if (bytes.numel() > 0) reduce(bytes);
  std::vector<std::string> texts;
  for (size_t r = 0; r + 1 < begin.size(); ++r) texts.emplace_back(data + begin[r], data + begin[r + 1]);
  return texts;
}

std::string Group::from_first(const std::string& text) const {
  return gather(is_first() ? text : "").front();
}

}  // namespace apo::distributed
