// How an episode of ours is protected against damage: hashes of what was written, checked when it is read.
//
//   demo_N/CAMERA_image_hash [S] int64   of each step's picture: the lower 64 bits of XXH3's 128 over its
//                                        bytes
//   attribute content_hash of demo_N     32 hex digits over what the attribute content_hash_of names, in its
//                                        order, with // between: arrays below demo_N, and attributes of it as
//                                        "@name"
//   the same two of the group data       over attributes of the file
//
// Of each: its name; an attribute's value as text, or an array's type and shape ("float32 [12, 7]") and its
// values as little-endian float32 or int64, or as texts; texts with their length before them
// (ContentHash::add_text).
// Pictures are in it by their hashes. What others add to a file is not named and not looked at.
#pragma once

#include <string>

#include "apo/base/types.h"
#include "data/hdf5.h"

namespace apo::data {

/// The first version of our layout in which every episode has a hash.
inline constexpr int64_t kSealedVersion = 2;

/// "front_image" -> "front_image_hash", beside obs.
std::string picture_hash_name(const std::string& array);
int64_t picture_hash(const at::Tensor& image);
/// True for the names of such arrays and of attributes that hold hashes.
bool is_picture_hash(const hdf5::Group& demo, const std::string& array);
bool is_seal(const std::string& attribute);
bool is_sealed(const hdf5::Group& demo);
/// Hashes all that the episode holds now (pictures by their hashes).
void seal_episode(hdf5::Group& demo);
/// Replaces the hash after `array` was written into a sealed episode; does nothing to an unsealed one.
void seal_array(hdf5::Group& demo, const std::string& array);
/// Hashes what the group `data` says of where its episodes come from: env_args, policy, policy_hash.
void seal_info(hdf5::Group& data);
/// DataError naming the group if it does not hold what was hashed, or has no hash though it is `required`.
void check_seal(const hdf5::Group& group, bool required);
/// DataError naming the array and row if the picture is not the one that was hashed.
void check_picture(const at::Tensor& image, int64_t hash, const std::string& array, int64_t row);

}  // namespace apo::data
