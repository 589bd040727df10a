// Files on disk -> one page that a colleague can open: curves, intervals, tables, rollout pictures.
//
//   report::write_run_report("runs/apo");    // runs/apo/report.html
//   report::write_loop_report("runs/loop");  // runs/loop/report.html
//
// A page is a single file: no network, no fonts or scripts from elsewhere; it follows the reader's light or
// dark setting and reads on a phone. The report knows only files. What it adds is arithmetic that the page
// states: means over neighbouring steps, Wilson intervals where the file has none, and of the difference
// of two policies Newcombe's interval and the p of McNemar's exact test.
#pragma once

#include <filesystem>

namespace apo::report {

/// Draws what a training run wrote: run_dir/config.yaml, metrics.jsonl, labels.json and heaviest_samples.json
/// with its pictures -> run_dir/report.html. Only metrics.jsonl is required.
///
/// Every numeric field of metrics.jsonl is drawn against `step`, smoothed as each chart says. Absent or null
/// values are left out, values that are not finite are counted on the page, a repeated step counts once (its
/// last line), a last line without its end (the program was killed) is left out, an empty file gives a page
/// that says so, a missing config.yaml too. Runs of any length give a page of bounded size: long curves are
/// drawn from buckets of steps.
///
/// Errors   DataError "FILE:LINE: ..." for a line that is not a JSON object, lacks `step`, or holds something
///          else than a number or null in a field that training writes; DataError naming the file if
///          metrics.jsonl cannot be read; DataError naming file and key for a wrong labels.json or
///          heaviest_samples.json. RunError if report.html cannot be written; an older page is then
///          unchanged.
void write_run_report(const std::filesystem::path& run_dir);

/// Draws what a refinement loop wrote: loop_dir/summary.json -> loop_dir/report.html, with the training
/// curves of each round (loop_dir/TRAINING/metrics.jsonl), its trials (evaluation/results.json of base and
/// round-N), and the animations (WebP, embedded) that the summary names. The page of each of these trainings
/// is written as by `write_run_report`, and linked; what it shows lies folded in this page, too.
///
/// Only `rounds` is required in the summary; what is missing is left out, and named on the page where a file
/// that the summary names is absent. Success and unaided success carry their 95 % Wilson intervals, computed
/// from the counts where the summary does not give them.
///
/// Errors   DataError "FILE:LINE: ..." if summary.json is not JSON, and as above for a round's metrics.jsonl
///          or results.json.
///          DataError naming file and key ("rounds[1].evaluation.trials") for a wrong type, a count below
///          zero, more successes than trials, a rate outside [0, 1], or a path that leaves loop_dir.
///          RunError if a page cannot be written.
void write_loop_report(const std::filesystem::path& loop_dir);

/// Whichever of the two `dir` holds. DataError if neither summary.json nor metrics.jsonl lies in it; else as
/// above.
void write_report(const std::filesystem::path& dir);

}  // namespace apo::report
