// OpenVLA's and OpenVLA-OFT's POST /act: a body of JSON in, an action out.
//
// Source   openvla, vla-scripts/deploy.py; openvla-oft, vla-scripts/deploy.py; FastAPI 0.165
// Differs  every failure says why in the header X-Apo-Error; with serve.strict it has a status of its own
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "serving/service.h"
#include "wire/value.h"

namespace apo::serving {

/// What goes back over HTTP.
struct HttpAnswer {
  int status = 200;
  std::string body = "";
  std::string content_type = "application/json";
  std::string error = "";          ///< for X-Apo-Error; empty: none
  std::string episode_ended = "";  ///< for X-Apo-Episode-Ended (StepReply::ended); empty: none
};

/// A body that could be read.
struct ActRequest {
  wire::Value message = {};
  bool encoded = false;  ///< came, and goes back, as JSON within JSON
  bool chunk = false;    ///< of OFT, which is answered with all actions: it has a full_image
};

/// 422 for another content type than JSON, for what is no JSON or no object; 400 for JSON that holds an array
/// that is none. {"encoded": TEXT} with siblings or other JSON than a text within fails as act_answer says.
std::variant<ActRequest, HttpAnswer> read_act(std::string_view content_type, std::string_view body,
                                              bool strict);

/// The first action [A], or of OFT a list of all, float64. What failed is "error" with status 200; strict,
/// 400 (request), 503 (busy), 504 (late) or 500 with {"detail": reason}.
HttpAnswer act_answer(const Reply& reply, const ActRequest& request, bool strict);

/// {"detail": reason} with that status.
HttpAnswer http_failure(int status, const std::string& reason);

/// A reason as a header may carry it: one line of ASCII.
std::string header_text(std::string_view reason);

}  // namespace apo::serving
