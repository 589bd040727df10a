"""openpi-client and json-numpy with requests, as they come from PyPI, against a server of ours.

    unmodified_clients.py BIN_DIRECTORY

A tiny policy is trained and served with a recording. Both clients ask it, rightly and wrongly; the server is stopped by
SIGTERM; robomimic, where it is installed, reads what was recorded. Exit code 77 where a client is missing.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

SKIPPED = 77

try:
    import h5py
    import json_numpy
    import numpy as np
    import requests
    from openpi_client import action_chunk_broker, image_tools, websocket_client_policy
except ImportError as error:
    print(f"skipped: {error} (scripts/setup.sh --peers installs it, or give a Python that has it as -DAPO_PYTHON=...)")
    sys.exit(SKIPPED)

CONFIG = """
run: {seed: 3, device: cpu, threads: 1}
policy: {cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 16, layers: 1, heads: 2,
         channels: 4}}
environment: {type: tabletop, tabletop: {image_size: 32}}
deploy: {demonstrations: {episodes: 3}}
data: {filter: {min_motion: 0}, pools: {desirable: 1, intervention: 0, undesirable: 0}}
objective: {type: sft}
train: {batch_size: 8, max_steps: 2, checkpoint_every: 2}
"""
TOKEN = "0123456789abcdef"


def run(program, *arguments):
    process = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, f"{program} {arguments}: {process.returncode}\n{process.stderr}"


class Started:
    """A program that goes on, and what it says; it is ended with the block."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([str(program), *map(str, arguments)], stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.log, self.reader = "", None

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.process.kill()
        if self.reader:
            self.reader.join()

    def find(self, pattern):
        """What it says of itself; from then on it is read in the background."""
        while True:
            line = self.process.stderr.readline()
            assert line, f"{self.process.args[0]} ended: {self.log}"
            self.log += line
            if found := re.search(pattern, line):
                self.reader = threading.Thread(target=self.read_on)
                self.reader.start()
                return found[1]

    def read_on(self):
        for line in self.process.stderr:
            self.log += line


class Served(Started):
    """apo-serve on a free port."""

    def __init__(self, programs, *arguments):
        super().__init__(programs / "apo-serve", *arguments, "--set=serve.port=0")
        self.port = int(self.find(r"serving .* on 127\.0\.0\.1:(\d+)"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.reader.join()
        return code


def observation(brightness, **more):
    picture = np.full((48, 64, 3), brightness, np.uint8)
    return {"observation/image": image_tools.resize_with_pad(picture, 32, 32), "observation/eef_height": np.array([0.2]),
            "observation/gripper_opening": np.float32(0.5), "prompt": "pick up the red block", **more}


def expect_openpi(port):
    client = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN)
    metadata = client.get_server_metadata()
    assert metadata["cameras"] == ["front"], metadata
    size = metadata["action_size"]
    first, second = client.infer(observation(40)), client.infer(observation(200))
    for answer in (first, second):
        assert answer["actions"].shape == (1, size) and answer["actions"].dtype == np.float32, answer
        assert answer["server_timing"]["infer_ms"] > 0 and answer["server_timing"]["queue_ms"] >= 0, answer
        assert [key for key, value in answer.items() if isinstance(value, np.ndarray)] == ["actions"], answer
    assert "prev_total_ms" not in first["server_timing"] and "prev_total_ms" in second["server_timing"]
    broker = action_chunk_broker.ActionChunkBroker(client, action_horizon=1)
    np.testing.assert_array_equal(broker.infer(observation(40))["actions"], first["actions"][0])
    human = np.full(size, 0.25, np.float32)
    answer = client.infer(observation(40, intervention_action=human))
    np.testing.assert_array_equal(answer["actions"][0], human)
    assert client.infer({"event": "end", "success": np.bool_(True)})["steps"] == 4
    # other ways of saying the same
    chw = np.moveaxis(observation(40)["observation/image"], -1, 0)
    other = client.infer({**observation(40), "observation/image": chw.astype(np.float32) / 255, "prompt": np.array("pick up the red block")})
    np.testing.assert_allclose(other["actions"], first["actions"], atol=0.05)
    client.infer({"event": "end"})
    # by the path that vLLM-Omni has, and wrongly
    wrong = websocket_client_policy.WebsocketClientPolicy(f"ws://127.0.0.1:{port}/v1/realtime/robot/openpi", api_key=TOKEN)
    try:
        wrong.infer({"prompt": "pick up the red block"})
        raise AssertionError("expected an error")
    except RuntimeError as error:
        assert "camera front: expected a picture" in str(error) and "Traceback" not in str(error), error
    assert client.infer(observation(40))["actions"].shape == (1, size)
    return first["actions"][0]


def expect_json_numpy(port, expected):
    url = f"http://127.0.0.1:{port}/act"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asked = {"image": observation(40)["observation/image"], "eef_height": np.array([0.2]), "gripper_opening": 0.5,
             "instruction": "pick up the red block", "episode_id": "rest"}
    # double-encoded, by clients that do not patch json
    text = requests.post(url, json={"encoded": json_numpy.dumps(asked)}, headers=headers).json()
    np.testing.assert_allclose(json_numpy.loads(text), expected, atol=1e-6)
    json_numpy.patch()
    answer = requests.post(url, json=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    action = answer.json()
    assert isinstance(action, np.ndarray) and action.dtype == np.float64 and action.shape == expected.shape, action
    np.testing.assert_allclose(action, expected, atol=1e-6)
    oft = dict(asked)
    oft["full_image"] = oft.pop("image")
    actions = requests.post(url, json=oft, headers=headers).json()
    assert isinstance(actions, list) and len(actions) == 1, actions
    np.testing.assert_allclose(actions[0], expected, atol=1e-6)
    failed = requests.post(url, json={"instruction": "x"}, headers=headers)
    assert (failed.status_code, failed.json()) == (200, "error"), failed.text
    assert "camera front" in failed.headers["X-Apo-Error"], failed.headers
    assert requests.post(url, json=asked).status_code == 401
    assert requests.post(url, data="{}", headers={**headers, "Content-Type": "text/plain"}).status_code == 422
    assert requests.post(url, data="{", headers={**headers, "Content-Type": "application/json"}).status_code == 422
    ended = requests.post(url, json={"event": "end", "episode_id": "rest", "success": False}, headers=headers).json()
    assert ended == {"event": "end", "steps": 3}, ended
    assert requests.get(f"http://127.0.0.1:{port}/healthz").text == "OK\n"
    metrics = requests.get(f"http://127.0.0.1:{port}/metrics", headers=headers).text
    assert 'apo_serve_requests_total{protocol="openpi"}' in metrics, metrics


def expect_recording(path):
    with h5py.File(path) as file:
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "my arm"
        demos = {name: file["data"][name] for name in file["data"]}
        steps = sorted(len(demo["actions"]) for demo in demos.values())
        assert steps == [1, 1, 3, 4], steps
        four = next(demo for demo in demos.values() if len(demo["actions"]) == 4)
        assert list(four["action_source"]) == [1, 1, 1, 2] and four.attrs["success"] == 1
        assert four["obs/front_image"].shape == (4, 32, 32, 3)
        lowest = min(demo["actions"][()].min() for demo in demos.values())
        highest = max(demo["actions"][()].max() for demo in demos.values())
    try:
        import robomimic.utils.obs_utils as ObsUtils
        from robomimic.utils.dataset import SequenceDataset
    except (ImportError, OSError, ValueError) as error:
        print(f"without robomimic: {error}")
        return
    if -1 <= lowest and highest <= 1:  # its own demand
        info = subprocess.run([sys.executable, "-m", "robomimic.scripts.get_dataset_info", "--dataset", path],
                              capture_output=True, text=True)
        assert info.returncode == 0 and "total trajectories: 4" in info.stdout, info.stdout + info.stderr
    ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["eef_height"], "rgb": ["front_image"]}})
    data = SequenceDataset(
        hdf5_path=str(path), obs_keys=("eef_height", "front_image"), dataset_keys=("actions", "rewards", "dones", "action_source"),
        load_next_obs=False, frame_stack=1, seq_length=1, pad_frame_stack=True, pad_seq_length=True, get_pad_mask=False,
        goal_mode=None, hdf5_cache_mode=None, hdf5_use_swmr=False)
    assert len(data) == 9, len(data)


def main():
    programs = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        config = scratch / "tiny.yaml"
        config.write_text(CONFIG)
        run(programs / "apo-collect", "--config", config, "--demonstrations", "--output", scratch / "demos.hdf5")
        run(programs / "apo-train", "--config", config, f"--set=data.expert=[{{path: {scratch}/demos.hdf5}}]",
            f"--set=run.dir={scratch}/base")
        recording = scratch / "served.hdf5"
        served = Served(programs, "--config", config, f"--set=policy.checkpoint={scratch}/base", f"--set=serve.record={recording}",
                        f"--set=serve.token={TOKEN}", "--set=serve.robot=my arm", "--set=serve.hysteresis_s=0")
        try:
            first = expect_openpi(served.port)
            expect_json_numpy(served.port, first)
            time.sleep(0.2)
        finally:
            code = served.stop()
        assert code == 130, (code, served.log)
        assert "Traceback" not in served.log and "no warm-up" not in served.log, served.log
        expect_recording(recording)
    print("openpi-client and json-numpy are answered, and what they did is recorded")


if __name__ == "__main__":
    main()
