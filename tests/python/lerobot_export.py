#!/usr/bin/env python3
"""A tiny LeRobot v3 data set, written by hand, comes out of scripts/export_lerobot.py as our layout.

usage: lerobot_export.py APO-DATA EXPORT-SCRIPT      (exit code 77: pyarrow, h5py or av is not installed here)
"""
import io
import json
import pathlib
import subprocess
import sys
import tempfile

SKIP = 77
try:
    import av
    import h5py
    import numpy as np
    import pyarrow
    import pyarrow.parquet as parquet
    from PIL import Image
except ImportError as error:
    print(f"skipped: {error} (scripts/setup.sh --peers installs it, or give a Python that has it as -DAPO_PYTHON=...)")
    sys.exit(SKIP)

FPS, LENGTHS, SIZE = 10, (6, 4), 32


def level(number):
    """The grey level of the picture at a global frame index: far apart, so that lossy video cannot blur them."""
    return 20 + 22 * number


def write_video(path, count):
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), level(number), np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def png(number):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level(number), np.uint8)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def write_table(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)


def rewrite(path, change):
    """One table with its columns changed in place."""
    columns = parquet.read_table(path).to_pydict()
    change(columns)
    write_table(path, columns)


def write_dataset(root):
    total = sum(LENGTHS)
    features = {
        "action": {"dtype": "float32", "shape": [3]},
        "observation.state": {"dtype": "float32", "shape": [2]},
        "observation.images.front": {"dtype": "video", "shape": [SIZE, SIZE, 3]},
        "observation.images.wrist": {"dtype": "image", "shape": [8, 8, 3]},
        "intervention": {"dtype": "bool", "shape": [1]},
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps({
        "codebase_version": "v3.0", "robot_type": "so100", "fps": FPS, "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"}))
    write_table(root / "meta/tasks.parquet", {"task_index": [0, 1], "__index_level_0__": ["lift the cube", "push it"]})
    starts = [0, LENGTHS[0]]
    write_table(root / "meta/episodes/chunk-000/file-000.parquet", {
        "episode_index": [0, 1], "length": list(LENGTHS), "data/chunk_index": [0, 0], "data/file_index": [0, 0],
        "videos/observation.images.front/chunk_index": [0, 0], "videos/observation.images.front/file_index": [0, 0],
        "videos/observation.images.front/from_timestamp": [s / FPS for s in starts],
        "videos/observation.images.front/to_timestamp": [(s + n) / FPS for s, n in zip(starts, LENGTHS)]})
    frames = [t for n in LENGTHS for t in range(n)]
    write_table(root / "data/chunk-000/file-000.parquet", {
        "action": [[t / 10, 0.5, -1.0] for t in frames],
        "observation.state": [[float(i), 1.0] for i in range(total)],
        "observation.images.wrist": [png(i) for i in range(total)],
        "intervention": [t in (3, 4) for t in frames],
        "complementary_info.note": ["x"] * total,
        "next.reward": [1.0 if i == total - 1 else 0.0 for i in range(total)],
        "next.success": [i == total - 1 for i in range(total)],
        "timestamp": [t / FPS for t in frames], "frame_index": frames,
        "episode_index": [e for e, n in enumerate(LENGTHS) for _ in range(n)],
        "index": list(range(total)), "task_index": [e for e, n in enumerate(LENGTHS) for _ in range(n)]})
    write_video(root / "videos/observation.images.front/chunk-000/file-000.mp4", total)


def run(script, *arguments):
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)


def check_file(path):
    with h5py.File(path) as file:
        data = file["data"]
        assert data.attrs["total"] == sum(LENGTHS) and sorted(data) == ["demo_0", "demo_1"]
        second = data["demo_1"]
        assert second.attrs["task_description"] == "push it" and second.attrs["success"] == 1
        assert data["demo_0"].attrs["success"] == 0
        np.testing.assert_allclose(second["actions"][2], [0.2, 0.5, -1.0], atol=1e-7)
        np.testing.assert_array_equal(second["obs/state"][:, 0], [6, 7, 8, 9])
        np.testing.assert_array_equal(data["demo_0/action_source"], [1, 1, 1, 2, 2, 1])
        assert second["obs/front_image"].chunks == (1, SIZE, SIZE, 3)
        for t in range(LENGTHS[1]):  # the right frames of the shared video and of the pictures
            assert abs(float(second["obs/front_image"][t].mean()) - level(LENGTHS[0] + t)) < 6, t
            assert (second["obs/wrist_image"][t] == level(LENGTHS[0] + t)).all(), t


VIDEO = "videos/observation.images.front"


def check_pictures_belong_to_actions(script, temporary):
    """Frame t of an episode is the one that its action was recorded with, or nothing is written."""
    for drift, exit_code in ((0.2, 0), (0.45, 0), (0.6, 3), (1.0, 3), (-0.6, 3), (-1.0, 3)):
        root, out = temporary / f"drift{drift}", temporary / f"drift{drift}.hdf5"
        write_dataset(root)

        def shift(columns):
            columns[f"{VIDEO}/from_timestamp"][1] += drift / FPS
        rewrite(root / "meta/episodes/chunk-000/file-000.parquet", shift)
        result = run(script, root, out)
        assert result.returncode == exit_code, (drift, result.stdout, result.stderr)
        if exit_code == 0:
            assert f"start times of front are up to {drift:.2f} frames off" in result.stdout, result.stdout
            check_file(out)
        else:
            assert "episode 1: from_timestamp: expected 0.6000 s" in result.stderr and not out.exists(), result.stderr
    # the first episode was removed, its frames were not
    root, out = temporary / "removed", temporary / "removed.hdf5"
    write_dataset(root)
    rewrite(root / "meta/episodes/chunk-000/file-000.parquet",
            lambda columns: [values.pop(0) for values in columns.values()])
    assert run(script, root, out).returncode == 3
    assert run(script, root, out, "--video-offsets", "timestamps").returncode == 0
    with h5py.File(out) as file:
        assert abs(float(file["data/demo_0/obs/front_image"][0].mean()) - level(LENGTHS[0])) < 6
    # a lost frame
    root, out = temporary / "late", temporary / "late.hdf5"
    write_dataset(root)

    def delay(columns):
        columns["timestamp"][8] += 1e-3
    rewrite(root / "data/chunk-000/file-000.parquet", delay)
    late = run(script, root, out)
    assert late.returncode == 3 and "episode 1: timestamp of step 2: expected 0.2000 s" in late.stderr, late.stderr


def check_who_acted(script, temporary):
    root, out = temporary / "who", temporary / "who.hdf5"
    write_dataset(root)

    def rename(columns):
        columns["complementary_info.is_intervention"] = [[float(x)] for x in columns.pop("intervention")]
        columns["complementary_info.policy_action"] = [[9.0, 0.0, float(t)] for t in columns["frame_index"]]
    rewrite(root / "data/chunk-000/file-000.parquet", rename)
    result = run(script, root, out)
    assert result.returncode == 0, result.stderr
    with h5py.File(out) as file:
        demo = file["data/demo_0"]
        np.testing.assert_array_equal(demo["action_source"], [1, 1, 1, 2, 2, 1])
        np.testing.assert_array_equal(demo["policy_action"][3], [9, 0, 3])
        np.testing.assert_array_equal(demo["policy_action_valid"], [0, 0, 0, 1, 1, 0])

    def contradict(columns):
        columns["intervention"] = [False] * sum(LENGTHS)
    rewrite(root / "data/chunk-000/file-000.parquet", contradict)
    two = run(script, root, temporary / "two.hdf5")
    assert two.returncode == 3 and "columns intervention and complementary_info.is_intervention: expected the same steps" in two.stderr, two.stderr


def main():
    program, script = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory() as temporary:
        root, out = pathlib.Path(temporary) / "dataset", pathlib.Path(temporary) / "out.hdf5"
        write_dataset(root)
        result = run(script, root, out)
        assert result.returncode == 0, result.stderr
        assert "2 episodes, 10 steps, cameras front, wrist" in result.stdout, result.stdout
        assert "left out: complementary_info.note" in result.stdout, result.stdout
        check_file(out)
        ours = subprocess.run([program, "inspect", str(out)], capture_output=True, text=True)
        assert ours.returncode == 0 and "take-overs        2" in ours.stdout, ours.stdout + ours.stderr

        again = run(script, root, out)
        assert again.returncode == 2 and "exists already" in again.stderr
        wrong = run(script, root, out.with_name("b.hdf5"), "--cameras", "top")
        assert wrong.returncode == 3 and "no camera top (valid: front, wrist)" in wrong.stderr, wrong.stderr
        assert not out.with_name("b.hdf5").exists()
        info = root / "meta/info.json"
        info.write_text(info.read_text().replace("v3.0", "v2.1"))
        old = run(script, root, out.with_name("c.hdf5"))
        assert old.returncode == 3 and "expected codebase_version v3.x, found v2.1" in old.stderr, old.stderr
        check_pictures_belong_to_actions(script, pathlib.Path(temporary))
        check_who_acted(script, pathlib.Path(temporary))
        nothing = run(script, pathlib.Path(temporary) / "none", out.with_name("d.hdf5"))
        assert nothing.returncode == 3 and "no such file; expected a LeRobot v3 data set" in nothing.stderr
    print("LeRobot v3 comes out as our layout")


if __name__ == "__main__":
    main()
