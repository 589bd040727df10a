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
        nothing = run(script, pathlib.Path(temporary) / "none", out.with_name("d.hdf5"))
        assert nothing.returncode == 3 and "no such file; expected a LeRobot v3 data set" in nothing.stderr
    print("LeRobot v3 comes out as our layout")


if __name__ == "__main__":
    main()
