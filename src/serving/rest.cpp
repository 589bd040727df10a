#include "serving/rest.h"

#include <torch/types.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/text.h"
#include "wire/json_numpy.h"
#include "wire/tensors.h"

namespace apo::serving {
namespace {

constexpr size_t kLongestHeader = 500;

bool is_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  std::erase_if(type, [](unsigned char c) { return std::isspace(c); });
  std::ranges::transform(type, type.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return type == "application/json" || (type.starts_with("application/") && type.ends_with("+json"));
}

// What FastAPI says of a body that is not what it should be.
HttpAnswer unprocessable(const std::string& reason) {
  const wire::Value detail(wire::Map{
      {"detail",
       wire::List{wire::Map{{"type", "value_error"}, {"loc", wire::List{"body"}}, {"msg", reason}}}}});
  return {.status = 422, .body = wire::to_json(detail), .error = reason};
}

wire::Value numbers(const Action& action) {
  return wire::array(std::vector<double>(action.begin(), action.end()));
}

int status_of(Failure failure) {
  switch (failure) {
    case Failure::request:
      return 400;
    case Failure::busy:
      return 503;
    case Failure::late:
      return 504;
    default:
      return 500;
  }
}

// What fails while the policy is asked.
HttpAnswer inner_failure(Failure failure, const std::string& reason, bool strict) {
  if (strict) return http_failure(status_of(failure), reason);
  return {.body = "\"error\"", .error = reason};
}

}  // namespace

std::string header_text(std::string_view reason) {
  std::string text = printable(shortened(reason, kLongestHeader));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~') c = '?';
  return text;
}

HttpAnswer http_failure(int status, const std::string& reason) {
  return {.status = status, .body = wire::to_json(wire::Map{{"detail", reason}}), .error = reason};
}

std::variant<ActRequest, HttpAnswer> read_act(std::string_view content_type, std::string_view body,
                                              bool strict) {
  if (!is_json(content_type))
    return unprocessable(concat("Content-Type: expected application/json, found '",
                                printable(shortened(content_type, 60)), "'"));
  ActRequest request;
  try {
    request.message = wire::from_json(body, "request");
  } catch (const wire::MalformedJson& error) {
    return unprocessable(error.what());
  } catch (const DataError& error) {
    HttpAnswer answer = http_failure(400, "There was an error parsing the body");
    answer.error = error.what();
    return answer;
  }
  if (request.message.as<wire::Map>() == nullptr)
    return unprocessable(concat("request: expected an object, found ", wire::excerpt(request.message)));
  try {
    request.encoded = wire::unwrap_encoded(request.message, "request");
  } catch (const DataError& error) {
    return inner_failure(Failure::request, error.what(), strict);
  }
  request.chunk = request.message.find("full_image") != nullptr;
  return request;
}

HttpAnswer act_answer(const Reply& reply, const ActRequest& request, bool strict) {
  const StepReply& step = reply.step;
  if (step.failure != Failure::none) return inner_failure(step.failure, step.reason, strict);
  wire::Value value;
  if (reply.ended)
    value = wire::Map{{"event", "end"}, {"steps", std::max<int64_t>(reply.num_steps, 0)}};
  else if (!request.chunk)
    value = numbers(step.actions.front());
  else {
    wire::List all;
    for (const Action& action : step.actions) all.push_back(numbers(action));
    value = std::move(all);
  }
  return {.body = request.encoded ? wire::to_encoded_json(value) : wire::to_json(value),
          .episode_ended = step.ended};
}

}  // namespace apo::serving
