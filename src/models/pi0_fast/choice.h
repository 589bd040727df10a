// Which tokens an answer may go on with, for decoding that keeps to them.
#pragma once

#include "apo/tokenizers/fast_codec.h"
#include "models/sequence/decoder.h"

namespace apo::models {

/// Picks as `choose` among what may follow: the prefix, then codes or the bar, then the end token, then
/// padding. `valid`: only codes that make exactly one chunk, and the bar only behind it.
///
/// A chooser is of one decoding: it remembers where each row stands.
TokenChooser answers_only(const tokenizers::FastCodec& codec, const tokenizers::FastGrammar* valid,
                          TokenChooser choose);

}  // namespace apo::models
