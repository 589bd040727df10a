#include "serving/service.h"

#include <torch/types.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "apo/base/error.h"

namespace apo::serving {
namespace {

Reply failed(Failure failure, std::string reason) {
  Reply reply;
  reply.step.failure = failure;
  reply.step.reason = std::move(reason);
  return reply;
}

}  // namespace

Service::Service(models::Policy& policy, const ServeOptions& options, Metrics& metrics, PolicyNeeds needs,
                 const Episodes::Recording& recording, Watcher* watcher)
    : options_(options),
      metrics_(metrics),
      reader_(options, std::move(needs)),
      episodes_(std::make_unique<Episodes>(options, deploy::grippers_of(robot_of(policy, options), policy),
                                           recording, watcher)),
      batcher_(std::make_unique<Batcher>(policy, options, metrics_)) {}

Service::~Service() {
  batcher_.reset();  // gives its last answers to the episodes
  episodes_.reset();
}

// A second's worth of requests may come at once.
bool Service::within_rate(const std::string& address, Clock::time_point now) {
  if (options_.limits.requests_per_second <= 0) return true;
  const double rate = options_.limits.requests_per_second, most = std::max(rate, 1.0);
  const auto [found, fresh] = budgets_.try_emplace(address, Budget{most, now});
  Budget& budget = found->second;
  budget.left =
      std::min(most, budget.left + rate * std::chrono::duration<double>(now - budget.since).count());
  budget.since = now;
  if (budget.left < 1) return false;
  budget.left -= 1;
  return true;
}

void Service::ask(const Client& client, const wire::Value& message, Clock::time_point arrived,
                  const std::string& protocol, std::function<void(Reply)> done) {
  metrics_.requests.add(protocol);
  const auto answer = [this, done = std::move(done)](Reply reply) {
    if (reply.step.failure != Failure::none) metrics_.errors.add(std::string(to_string(reply.step.failure)));
    done(std::move(reply));
  };
  if (!within_rate(client.address, arrived))
    return answer(failed(Failure::busy, concat("more than ", options_.limits.requests_per_second,
                                               " requests a second (serve.limits.requests_per_second)")));
  ClientRequest request;
  try {
    request = reader_.read(message);
  } catch (const std::exception& error) {
    return answer(failed(Failure::request, error.what()));
  }
  if (const auto* end = std::get_if<EndRequest>(&request)) {
    const std::string key = !end->episode_id.empty() ? named_key(end->episode_id)
                            : client.stream          ? connection_key(client.connection)
                                                     : episodes_->latest_of(client.address);
    episodes_->end(key, end->success, end->outcome, [answer](int64_t steps) {
      Reply reply;
      reply.ended = true;
      reply.num_steps = steps;
      answer(std::move(reply));
    });
    return;
  }
  auto& step = std::get<StepRequest>(request);
  const std::string key = !step.episode_id.empty() ? named_key(step.episode_id)
                          : client.stream          ? connection_key(client.connection)
                                          : address_key(client.address, step.observation.instruction);
  std::shared_ptr<Episode> episode;
  uint64_t seed = 0;
  try {
    std::tie(episode, seed) = episodes_->enter(key, step);
  } catch (const RunError& error) {
    return answer(failed(Failure::busy, error.what()));
  }
  Job job{.observation = step.observation,
          .seed = seed,
          .arrived = arrived,
          .gone = client.gone,
          .confidence = episodes_->wants_confidence(),
          .done = {}};
  job.done = [this, episode = std::move(episode), step = std::move(step), arrived, gone = client.gone,
              answer](Answer decided) mutable {
    if (gone->load()) {  // what it was to execute it does not
      decided.failure = Failure::gone;
      decided.reason = "the client is gone";
    }
    episodes_->answered(std::move(episode), std::move(step), std::move(decided), arrived,
                        [answer](StepReply given) {
                          Reply reply;
                          reply.step = std::move(given);
                          answer(std::move(reply));
                        });
  };
  batcher_->submit(std::move(job));
}

void Service::closed(const Client& client) {
  client.gone->store(true);
  if (client.stream) episodes_->end(connection_key(client.connection), std::nullopt, "disconnected");
}

void Service::tick() {
  episodes_->end_idle();
  const auto now = Clock::now();
  std::erase_if(budgets_,
                [&](const auto& entry) { return now - entry.second.since > std::chrono::seconds(60); });
}

}  // namespace apo::serving
