#include "report/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/metric_list.h"
#include "apo/base/text.h"
#include "base/json.h"
#include "report/html.h"

namespace apo::report {
namespace {

using nlohmann::json;

// The line with bare NaN, Infinity and -Infinity (which JSON does not know, but some writers emit) as the
// string "nan".
std::string quote_not_finite(std::string_view line) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (in_string && line[i] == '\\' && i + 1 < line.size()) {
      out += line.substr(i++, 2);
      continue;
    }
    if (line[i] == '"') in_string = !in_string;
    bool replaced = false;
    for (std::string_view word : {"-Infinity", "Infinity", "NaN", "-nan", "nan", "-inf", "inf"})
      if (!in_string && !replaced && line.substr(i, word.size()) == word) {
        out += "\"nan\"";
        i += word.size() - 1;
        replaced = true;
      }
    if (!replaced) out += line[i];
  }
  return out;
}

std::optional<json> parse_line(std::string_view line) {
  try {
    std::optional<json> value = parse_if_json(line, "a line");
    if (!value) value = parse_if_json(quote_not_finite(line), "a line");
    if (value && value->is_object()) return value;
  } catch (const DataError&) {  // nested without end: no line of ours
  }
  return std::nullopt;
}

struct Reading {
  std::map<int64_t, std::map<std::string, double>> rows;  // by step
  std::set<std::string> not_numbers;                      // fields of others that hold something else
  int64_t repeated = 0;
};

int64_t step_of(const json& object, const std::string& where) {
  const auto step = object.find("step");
  APO_CHECK(DataError, step != object.end(), where, ": expected the field \"step\", found none");
  const bool whole = step->is_number() && std::abs(step->get<double>()) < 9e15 &&
                     step->get<double>() == std::floor(step->get<double>());
  APO_CHECK(DataError, whole, where, ": step: expected a whole number, found ", json_excerpt(*step));
  return static_cast<int64_t>(step->get<double>());
}

void add_line(const json& object, const std::string& where, Reading& reading) {
  std::map<std::string, double> row;
  for (const auto& [name, value] : object.items()) {
    if (name == "step" || value.is_null()) continue;
    if (value.is_number()) {
      row[name] = value.get<double>();
    } else if (value.is_boolean()) {
      row[name] = value.get<bool>() ? 1 : 0;
    } else if (value == "nan") {
      row[name] = std::numeric_limits<double>::quiet_NaN();
    } else {
      const bool ours = find_metric(name) != nullptr;
      APO_CHECK(DataError, !ours, where, ": ", name, ": expected a number or null, found ",
                json_excerpt(value));
      reading.not_numbers.insert(name);
    }
  }
  const auto [place, fresh] = reading.rows.insert_or_assign(step_of(object, where), std::move(row));
  if (!fresh) ++reading.repeated;
}

Metrics as_columns(const Reading& reading) {
  Metrics metrics;
  for (const auto& [step, row] : reading.rows) {
    metrics.steps.push_back(static_cast<double>(step));
    for (const auto& [name, value] : row) {
      metrics.fields[name].x.push_back(static_cast<double>(step));
      metrics.fields[name].y.push_back(value);
    }
  }
  return metrics;
}

void add_notes(const Reading& reading, Metrics& metrics) {
  if (reading.repeated > 0)
    metrics.notes.push_back(concat(count_of(reading.repeated, "line"),
                                   " repeat a step that was already there; the last line of a step counts."));
  for (const std::string& name : reading.not_numbers)
    metrics.notes.push_back(concat("The field ", name, " does not hold numbers and is not drawn."));
  for (const auto& [name, series] : metrics.fields) {
    int64_t count = 0;
    double first = 0;
    for (size_t i = 0; i < series.size(); ++i)
      if (!std::isfinite(series.y[i]) && count++ == 0) first = series.x[i];
    if (count > 0)
      metrics.notes.push_back(concat(name, " is not finite in ", count_of(count, "step"), ", first in step ",
                                     format_count(static_cast<int64_t>(first)),
                                     "; the curve has a gap there."));
  }
}

}  // namespace

const Series& Metrics::operator[](const std::string& name) const {
  static const Series kEmpty;
  const auto found = fields.find(name);
  return found == fields.end() ? kEmpty : found->second;
}

double Metrics::sum(const std::string& name) const {
  double sum = 0;
  for (double value : (*this)[name].y)
    if (std::isfinite(value)) sum += value;
  return sum;
}

Metrics read_metrics(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  Reading reading;
  std::string cut_note;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end == std::string::npos ? text.size() : end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::optional<json> object = parse_line(line);
    if (!object && end == std::string::npos) {
      cut_note = concat("The last line of ", path.filename().string(), " (line ", format_count(number),
                        ") is cut in the middle and was left out.");
      break;
    }
    const std::string where = concat(path.string(), ":", number);
    APO_CHECK(DataError, object.has_value(), where, ": expected one JSON object, found ",
              shortened(line, 60));
    add_line(*object, where, reading);
  }
  Metrics metrics = as_columns(reading);
  if (!cut_note.empty()) metrics.notes.push_back(cut_note);
  add_notes(reading, metrics);
  return metrics;
}

}  // namespace apo::report
