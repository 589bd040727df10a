// A tokenizer.json of Hugging Face's as the SentencePiece model that it was made of.
#pragma once

#include <filesystem>
#include <string>

namespace apo::tokenizers {

/// The bytes of a SentencePiece model that splits a text into the same ids: pieces of `model.vocab` that are
/// merged in the order of `model.merges`, bytes for what is no piece, spaces as "▁", and the added tokens
/// within the vocabulary (those behind it, such as <image>, are no text). Begin, end, padding and unknown
/// token are called <bos> or <s>, <eos> or </s>, <pad> and <unk>. Errors  DataError naming file and key: no
/// BPE with byte fallback, another way to normalise or split than
///         Gemma's, ids with gaps, merges of what is no piece
std::string sentencepiece_model_of(const std::filesystem::path& tokenizer_json);

}  // namespace apo::tokenizers
