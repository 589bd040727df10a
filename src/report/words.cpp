#include "report/words.h"

#include <cctype>
#include <set>
#include <string_view>
#include <vector>

#include "apo/base/error.h"
#include "report/config_text.h"
#include "report/html.h"
#include "report/objective_text.h"

namespace apo::report {
namespace {

struct Word {
  std::string word;  ///< as it stands on the page
  std::string meaning;
};

std::vector<Word> general_words() {
  return {
      {"base", "The policy that the loop began with, before any correction."},
      {"round",
       "One turn of the loop: deploy the policy, record what it and the person do, train on that, evaluate."},
      {"promoted", "Kept as the policy in use, because it was not worse than the one before."},
      {"take-over",
       "The person, or a script in its place, takes the controls because the policy is about to fail."},
      {"unaided", "Success without ever coming where a watching person would have stepped in."},
      {"timeout", "The trial ran out of steps before the task was done."},
      {"lost", "Episodes that were not solved although a person was watching."},
      {"seed", "The number that a trial begins from: the same seed gives the same scene to every policy."},
      {"Wilson",
       "An interval around a measured share: where the true share plausibly lies, given so few trials."},
      {"McNemar",
       "A test over the same trials of two policies: a p below 0.05 is hard to explain by chance alone."},
      {"desirable",
       "Steps whose actions are to become likelier: demonstrations, and what the policy did well alone."},
      {"undesirable",
       "The policy's own last steps before a take-over, whose actions are to become less likely."},
      {"intervention", "Steps in which the person acted; they count as desirable."},
      {"expert", "Who gave the demonstrations that the base learned from."},
      {"interactions", "What was recorded while the policy was deployed under a person's eyes."},
      {"skipped", "Recorded steps that are not learned from, for the reason named."},
      {"failed episode",
       "What the policy did in an episode that failed: nobody said which of its steps were wrong."},
      {"anchor",
       "Imitation of the desirable actions, added to a preference loss so that nothing is forgotten."},
      {"reward", "How much likelier a recorded action has become than it was for the reference, in nats."},
      {"reward margin",
       "Mean reward of desirable minus mean reward of undesirable steps; it grows also where both fall."},
      {"z0", "The baseline of the rewards: how far the policy as a whole has moved from its reference."},
      {"nats", "Unit of log-probability: one nat more is 2.7 times as likely."},
      {"λ", "Weight of a sample in the loss."},
  };
}

// What the built-in environment calls its outcomes and circumstances.
std::vector<Word> tabletop_words(const LoopSummary& summary) {
  std::vector<Word> words = {
      {"wrong object", "The hand went to, or moved, the block that the instruction does not name."},
      {"off course", "The hand came down too far beside the block that the instruction names."},
      {"grasped air", "The fingers closed on nothing."},
      {"passed by", "The hand was over the named block and went on past it."},
      {"stuck", "The hand stayed where it was and nothing came of it."},
      {"off the table", "A block fell off the table."},
      {"target", "The color of the block that the instruction names."},
      {"layout", "Where the blocks lie. habit: red on the right of the picture; swapped: red on the left."}};
  std::string habit = config_value(summary.config, "environment.tabletop.demonstration_habit");
  if (habit.empty()) habit = config_value(summary.config, "deploy.demonstrations.habit");  // of older loops
  if (habit == "1")
    words.back().meaning +=
        " All demonstrations have the habit, so that a policy may learn the side, not the color.";
  else if (!habit.empty())
    words.back().meaning += concat(" Demonstrations have the habit with probability ", habit, ".");
  return words;
}

// What a reader sees of a piece of HTML, in lower case; a tag is a space.
std::string visible(std::string_view html) {
  std::string text;
  bool in_tag = false;
  for (const char c : html) {
    if (c == '<') {
      in_tag = true;
      text += ' ';
    } else if (c == '>') {
      in_tag = false;
    } else if (!in_tag) {
      text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return text;
}

// As a whole word, or in the plural.
bool occurs(const std::string& text, const std::string& word) {
  const auto joins = [&](size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_');
  };
  const std::string wanted = visible(word);
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + 1)) {
    size_t end = at + wanted.size();
    if (end < text.size() && text[end] == 's') ++end;
    if (!(at > 0 && joins(at - 1)) && !joins(end)) return true;
  }
  return false;
}

}  // namespace

std::string words_on(const Page& page, const LoopSummary& summary) {
  std::string text = visible(page.body);
  for (const std::string& sentence : page.story) text += visible(concat(" ", sentence));
  for (const Tile& tile : page.tiles) text += visible(concat(" ", tile.name, " ", tile.detail));
  std::vector<Word> words = general_words();
  if (summary.environment == "tabletop")
    for (Word& word : tabletop_words(summary)) words.push_back(std::move(word));
  std::set<std::string> objectives;
  for (const Round& round : summary.rounds) objectives.insert(round.objective);
  for (const Method& method : summary.methods) objectives.insert(method.objective);
  for (const std::string& objective : objectives)
    if (const std::string meaning = objective_sentence(objective); !meaning.empty())
      words.push_back({objective, meaning});
  std::string list;
  for (const Word& word : words)
    if (occurs(text, word.word))
      list += concat("<dt>", escape(word.word), "</dt><dd>", escape(word.meaning), "</dd>\n");
  return list.empty() ? "" : folded("Words on this page", concat("<dl class=\"words\">\n", list, "</dl>\n"));
}

}  // namespace apo::report
