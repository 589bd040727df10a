#!/usr/bin/env python3
"""Writes a LeRobot v3 data set as one HDF5 file in our layout.

  scripts/export_lerobot.py DATASET-DIRECTORY OUTPUT.hdf5 [--cameras front wrist] [--source expert|policy]
                            [--intervention-column intervention] [--episodes 0 3 7] [--limit N]
                            [--video-offsets counts|timestamps]

DATASET-DIRECTORY holds meta/info.json, meta/tasks.parquet, meta/episodes/, data/ and perhaps videos/. The lerobot
package is not needed.
Needs: pip install h5py numpy pyarrow pillow, and av for data sets with videos.

Who acted: a column `intervention`, `is_intervention`, `intervene_flag` or `complementary_info.is_intervention` of booleans
(or 0 and 1) makes its true steps human corrections and the others the policy's; without one all steps are --source (default:
expert). `complementary_info.policy_action` is what the policy wanted meanwhile.
The picture belongs to the action: time stamps must be those of the frame rate to 1e-4 s, as LeRobot demands. Where an episode
begins in a shared video is counted from the lengths of the episodes before it, for the stored start times are running sums that
drift; where they are half a frame or more apart, one of the two is wrong and nothing is written. --video-offsets timestamps
takes the start times (a data set from which episodes were removed and whose videos were not).
Left out: columns that are neither action, observation.*, next.reward, next.done nor next.success are listed.
"""
import argparse
import io
import json
import pathlib
import signal
import sys

import h5py
import numpy as np
import pyarrow.parquet as parquet

EXPERT, POLICY, INTERVENTION = 0, 1, 2
INTERVENTION_COLUMNS = ("intervention", "is_intervention", "intervene_flag", "complementary_info.is_intervention")
POLICY_ACTION_COLUMN = "complementary_info.policy_action"
TOLERANCE = 1e-4  # seconds, LeRobot's tolerance_s


class DataSetError(Exception):
    """What is wrong with the data set, for the user."""


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataSetError(f"{path}: no such file; expected a LeRobot v3 data set") from None
    except ValueError as error:
        raise DataSetError(f"{path}: not JSON: {error}") from None


def read_table(path):
    if not path.exists():
        raise DataSetError(f"{path}: no such file")
    try:
        return parquet.read_table(path)
    except Exception as error:  # pyarrow has no common base class
        raise DataSetError(f"{path}: cannot read: {error}") from None


class LeRobot:
    """A LeRobot v3 data set on disk."""

    def __init__(self, root):
        self.root = root
        self.info = read_json(root / "meta/info.json")
        version = str(self.info.get("codebase_version", "unknown"))
        if not version.startswith("v3"):
            raise DataSetError(f"{root}/meta/info.json: expected codebase_version v3.x, found {version} "
                               "(lerobot's convert_dataset_v21_to_v30 brings older ones up)")
        self.features = self.info.get("features", {})
        if "action" not in self.features:
            raise DataSetError(f"{root}/meta/info.json: features: expected an action, found {', '.join(self.features) or 'none'}")
        self.fps = self.info.get("fps")
        if not isinstance(self.fps, (int, float)) or not self.fps > 0:
            raise DataSetError(f"{root}/meta/info.json: fps: expected a number above 0, found {self.fps!r}")
        self.offsets = "counts"
        self.drift = {}  # of each camera: the largest distance of a start time from the count of frames, in frames
        self.tasks = self.read_tasks()
        self.episodes = self.read_episodes()
        self.tables = {}
        self.videos = {}

    def read_tasks(self):
        path = self.root / "meta/tasks.parquet"
        rows = read_table(path).to_pydict()
        # pandas stored the task text as the index
        text = next((rows[key] for key in ("task", "__index_level_0__") if key in rows), None)
        if text is None or "task_index" not in rows:
            raise DataSetError(f"{path}: expected columns task and task_index, found {', '.join(rows)}")
        return dict(zip(rows["task_index"], text))

    def read_episodes(self):
        files = sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))
        if not files:
            raise DataSetError(f"{self.root}/meta/episodes: expected chunk-*/file-*.parquet, found none")
        return [row for file in files for row in read_table(file).to_pylist()]

    def cameras(self):
        return [key for key, feature in self.features.items() if feature.get("dtype") in ("video", "image")]

    def table(self, chunk, file):
        if (chunk, file) not in self.tables:
            self.tables.clear()  # one at a time: they can be large
            name = self.info.get("data_path", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")
            self.tables[chunk, file] = read_table(self.root / name.format(chunk_index=chunk, file_index=file))
        return self.tables[chunk, file]

    def steps(self, episode):
        table = self.table(episode["data/chunk_index"], episode["data/file_index"])
        index = table.column("episode_index").to_numpy()
        rows = np.flatnonzero(index == episode["episode_index"])
        if len(rows) != episode["length"]:
            raise DataSetError(f"episode {episode['episode_index']}: expected {episode['length']} rows "
                               f"(meta/episodes), found {len(rows)}")
        steps = table.take(rows)
        self.check_time(episode, steps)
        return steps

    def check_time(self, episode, steps):
        """Step t was recorded t / fps seconds after the first."""
        if "timestamp" not in steps.column_names:
            return
        times = column(steps, "timestamp").astype(np.float64)
        off = np.abs(times - times[0] - np.arange(len(times)) / self.fps)
        if (off > TOLERANCE).any():
            t = int(np.argmax(off > TOLERANCE))
            raise DataSetError(f"episode {episode['episode_index']}: timestamp of step {t}: expected {times[0] + t / self.fps:.4f} s "
                               f"({self.fps} frames a second, to {TOLERANCE} s), found {times[t]:.4f} s")

    def first_frame(self, episode, prefix, path):
        """The number of the episode's first frame in its video."""
        at = episode[f"{prefix}/from_timestamp"] * self.fps
        if self.offsets == "timestamps":
            if abs(at - round(at)) > max(TOLERANCE * self.fps, 0.01):
                raise DataSetError(f"{path}: episode {episode['episode_index']}: from_timestamp: expected the time of a frame, "
                                   f"found {at / self.fps:.4f} s, frame {at:.2f}")
            return round(at)
        place = (episode[f"{prefix}/chunk_index"], episode[f"{prefix}/file_index"])
        counted = sum(e["length"] for e in self.episodes if e["episode_index"] < episode["episode_index"]
                      and (e[f"{prefix}/chunk_index"], e[f"{prefix}/file_index"]) == place)
        if abs(at - counted) >= 0.5:
            raise DataSetError(
                f"{path}: episode {episode['episode_index']}: from_timestamp: expected {counted / self.fps:.4f} s ({counted} frames of "
                f"the episodes before it), found {at / self.fps:.4f} s, {abs(at - counted):.2f} frames apart: every action would get "
                "another picture; mend meta/episodes, or give --video-offsets timestamps where episodes were removed and videos not")
        camera = prefix[len("videos/"):]
        self.drift[camera] = max(self.drift.get(camera, 0.0), abs(at - counted))
        return counted

    def frames(self, episode, camera, steps):
        """[T, Y, X, 3] uint8."""
        if self.features[camera]["dtype"] == "image":
            return np.stack([decode_picture(cell, self.root) for cell in steps.column(camera).to_pylist()])
        prefix = f"videos/{camera}"
        name = self.info.get("video_path", "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
        path = self.root / name.format(video_key=camera, chunk_index=episode[f"{prefix}/chunk_index"],
                                       file_index=episode[f"{prefix}/file_index"])
        return decode_video(path, self.first_frame(episode, prefix, path), episode["length"], float(self.fps))


def decode_picture(cell, root):
    from PIL import Image
    data = cell.get("bytes") if isinstance(cell, dict) else None
    path = cell.get("path") if isinstance(cell, dict) else cell
    source = io.BytesIO(data) if data else root / path
    return np.asarray(Image.open(source).convert("RGB"))


def decode_video(path, begin, count, fps):
    """`count` frames from frame `begin` on; a file holds many episodes one behind the other."""
    try:
        import av
    except ImportError:
        raise DataSetError(f"{path}: reading videos needs PyAV: pip install av") from None
    if not path.exists():
        raise DataSetError(f"{path}: no such file")
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = float((stream.start_time or 0) * stream.time_base)
        tolerance = max(TOLERANCE, float(stream.time_base))
        # a little earlier: seeking goes to the key frame before
        container.seek(max(0, int((start + (begin - 1) / fps) / stream.time_base)), stream=stream, backward=True)
        for frame in container.decode(stream):
            expected = begin + len(frames)
            if frame.time - start < (expected - 0.5) / fps:
                continue
            if abs(frame.time - start - expected / fps) > tolerance:
                raise DataSetError(f"{path}: expected frame {expected} at {expected / fps:.4f} s ({fps:g} frames a second, to "
                                   f"{tolerance:.2g} s), found one at {frame.time - start:.4f} s")
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                return np.stack(frames)
    raise DataSetError(f"{path}: expected {count} frames from frame {begin} on, found {len(frames)}")


def short_name(key):
    """observation.images.front -> front, observation.state -> state."""
    for prefix in ("observation.images.", "observation.image.", "observation."):
        if key.startswith(prefix):
            return key[len(prefix):].replace(".", "_").replace("/", "_")
    return key.replace(".", "_").replace("/", "_")


def column(steps, name):
    values = steps.column(name).to_pylist()
    return np.asarray([value[0] if isinstance(value, (list, tuple)) else value for value in values])


def sources(steps, length, arguments):
    wanted = [arguments.intervention_column] if arguments.intervention_column else INTERVENTION_COLUMNS
    found = {}
    for name in wanted:
        if name in steps.column_names:
            values = column(steps, name).astype(np.float64)
            if not np.isin(values, (0, 1)).all():
                raise DataSetError(f"column {name}: expected 0 or 1, found {values[~np.isin(values, (0, 1))][0]}")
            found[name] = np.where(values == 1, INTERVENTION, POLICY).astype(np.int8)
    if arguments.intervention_column and not found:
        raise DataSetError(f"no column {arguments.intervention_column}; found {', '.join(steps.column_names)}")
    first = next(iter(found), None)
    for name, acted in found.items():
        if (acted != found[first]).any():
            raise DataSetError(f"columns {first} and {name}: expected the same steps to be a human's, found others at step "
                               f"{int(np.argmax(acted != found[first]))}; choose one with --intervention-column")
    return found[first] if found else np.full(length, EXPERT if arguments.source == "expert" else POLICY, np.int8)


def write_policy_actions(demo, steps, actions, left_out):
    """What the policy wanted while the human acted."""
    if POLICY_ACTION_COLUMN not in steps.column_names:
        return
    wanted = np.asarray(steps.column(POLICY_ACTION_COLUMN).to_pylist(), np.float32)
    if wanted.shape != actions.shape:
        left_out.add(f"{POLICY_ACTION_COLUMN} {list(wanted.shape)}, which is not as actions {list(actions.shape)}")
        return
    known = (demo["action_source"][:] == INTERVENTION) & np.isfinite(wanted).all(1)
    demo["policy_action"] = np.where(known[:, None], wanted, 0)
    demo["policy_action_valid"] = known.astype(np.int8)


def write_episode(data, number, source, episode, cameras, arguments, left_out):
    steps = source.steps(episode)
    length = episode["length"]
    names = set(steps.column_names)
    actions = np.asarray(steps.column("action").to_pylist(), np.float32)
    if actions.ndim != 2 or not np.isfinite(actions).all():
        raise DataSetError(f"episode {episode['episode_index']}: action: expected finite numbers [S, A], found {actions.shape}")
    demo = data.create_group(f"demo_{number}")
    demo.attrs["num_samples"] = length
    demo.attrs["task_description"] = source.tasks.get(int(column(steps, "task_index")[0]), "")
    demo.attrs["outcome"] = ""
    demo["actions"] = actions
    demo["action_source"] = sources(steps, length, arguments)
    write_policy_actions(demo, steps, actions, left_out)
    demo["rewards"] = column(steps, "next.reward").astype(np.float32) if "next.reward" in names else np.zeros(length, np.float32)
    ends = np.zeros(length, np.int8)
    ends[-1] = 1
    demo["dones"] = column(steps, "next.done").astype(np.int8) if "next.done" in names else ends
    if "next.success" in names:
        demo.attrs["success"] = int(column(steps, "next.success").astype(bool).any())
    used = {"action", "timestamp", "frame_index", "episode_index", "index", "task_index", "next.reward", "next.done",
            "next.success", POLICY_ACTION_COLUMN, *INTERVENTION_COLUMNS}
    for key in cameras:
        frames = source.frames(episode, key, steps)
        demo.create_dataset(f"obs/{short_name(key)}_image", data=frames, chunks=(1, *frames.shape[1:]))
        used.add(key)
    for key in steps.column_names:
        feature = source.features.get(key, {})
        if not key.startswith("observation.") or feature.get("dtype") in ("video", "image", "string"):
            continue
        values = np.asarray(steps.column(key).to_pylist(), np.float32).reshape(length, -1)
        demo[f"obs/{short_name(key)}"] = values
        used.add(key)
    left_out.update(names - used)
    left_out.update(set(source.cameras()) - set(cameras))
    return length


def export(arguments):
    source = LeRobot(arguments.dataset)
    source.offsets = arguments.video_offsets
    by_name = {short_name(key): key for key in source.cameras()}
    unknown = [name for name in arguments.cameras or [] if name not in by_name]
    if unknown:
        raise DataSetError(f"no camera {', '.join(unknown)} (valid: {', '.join(by_name) or 'none'})")
    cameras = [by_name[name] for name in arguments.cameras] if arguments.cameras else source.cameras()
    episodes = [e for e in source.episodes if arguments.episodes is None or e["episode_index"] in arguments.episodes]
    episodes = episodes[: arguments.limit] if arguments.limit else episodes
    if not episodes:
        raise DataSetError(f"{arguments.dataset}: no episode to export (of {len(source.episodes)})")
    partial = arguments.output.with_name(arguments.output.name + ".partial")
    left_out, total = set(), 0
    try:
        with h5py.File(partial, "w") as file:
            data = file.create_group("data")
            robot = str(source.info.get("robot_type") or "unknown")
            data.attrs["env_args"] = json.dumps({"env_name": robot, "type": 2, "env_version": "", "env_kwargs": {}})
            data.attrs["policy"] = data.attrs["policy_hash"] = ""
            data.attrs["apo_schema_version"] = 1
            for number, episode in enumerate(episodes):
                total += write_episode(data, number, source, episode, cameras, arguments, left_out)
            data.attrs["total"] = total
        partial.rename(arguments.output)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{len(episodes)} episodes, {total} steps, cameras {', '.join(map(short_name, cameras)) or 'none'}")
    for camera, frames in source.drift.items():
        if frames > TOLERANCE * source.fps:
            print(f"note: start times of {short_name(camera)} are up to {frames:.2f} frames off; frames were counted instead")
    if left_out:
        print("left out: " + ", ".join(sorted(left_out)))
    print(f"wrote {arguments.output}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--cameras", nargs="+", help="short names; default: all")
    parser.add_argument("--source", choices=("expert", "policy"), default="expert")
    parser.add_argument("--intervention-column", help="boolean column: true where a human acted")
    parser.add_argument("--episodes", nargs="+", type=int)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--video-offsets", choices=("counts", "timestamps"), default="counts",
                        help="where an episode begins in its video")
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output}: exists already")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        export(arguments)
    except DataSetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
