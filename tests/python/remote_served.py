"""The shipped programs drive a server of scripts/remote_environment.py, and one of robosuite where it is installed.

    remote_served.py DIRECTORY_OF_PROGRAMS DIRECTORY_OF_SCRIPTS [robosuite]

Exit code 77, and a line that says why, where a package is missing.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

try:
    import h5py
    import msgpack  # noqa: F401
    import numpy as np
    import websockets  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROGRAMS, SCRIPTS = sys.argv[1:3]


@contextlib.contextmanager
def served(*arguments):
    """The URL of a server that ends with the block."""
    server = subprocess.Popen([sys.executable, *arguments, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        while line and not line.startswith("serving"):
            line = server.stdout.readline()
        assert line, "the server ended before it served"
        yield line.split()[-1]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def run(program, *arguments, code=0):
    result = subprocess.run([os.path.join(PROGRAMS, program), *arguments], capture_output=True, text=True, timeout=900)
    assert result.returncode == code, f"{program} {arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def collect(url, output, *more):
    config = f"{output}.yaml"
    with open(config, "w") as file:
        file.write(f"environment: {{type: remote, remote: {{url: '{url}'}}}}\n")
    run("apo-collect", "--config", config, "--demonstrations", "--output", output, *more)


def arrays(path):
    """All arrays of a recording by their names."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def same(first, second):
    a, b = arrays(first), arrays(second)
    assert a.keys() == b.keys() and a, (a.keys(), b.keys())
    for name in a:
        assert np.array_equal(a[name], b[name]), name


LOOP = """
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy: {cameras: [top, side], state_keys: [position], small: {image_size: 32, width: 16, layers: 1, heads: 2, channels: 4}}
environment: {type: remote, remote: {url: "URL"}}
deploy:
  demonstrations: {episodes: 6, action_noise: 0.1, noise_dimensions: 1}
  collect: {take_overs: 2, episodes: 8}
  intervention: {scripted: {patience_steps: 8}}   # a policy of a few updates goes nowhere
eval: {trials: 4}
data: {labels: {undesirable_reasons: [off course, out of patience]}, filter: {min_motion: 0}}
optimizer: {learning_rate: 1.0e-3}
train: {batch_size: 8, max_steps: 6, checkpoint_every: 3}
refine: {animations: 1, base: {train: {batch_size: 8, max_steps: 4, checkpoint_every: 2}}}
"""


def check_walk(directory):
    with served(os.path.join(SCRIPTS, "remote_environment.py"), "--num-envs", "2") as url:
        said = run("apo-data", "check-remote", url)
        assert "nothing is wrong" in said and "expert       2 of 2 episodes" in said, said
        for name in ("a.hdf5", "b.hdf5"):
            collect(url, f"{directory}/{name}", "--set", "deploy.demonstrations.episodes=5")
        same(f"{directory}/a.hdf5", f"{directory}/b.hdf5")
        with open(f"{directory}/loop.yaml", "w") as file:
            file.write(LOOP.replace("URL", url))
        run("apo-refine", "--config", f"{directory}/loop.yaml")
        sources = [array for name, array in arrays(f"{directory}/run/round-1/interactions.hdf5").items()
                   if name.endswith("action_source")]
        assert {1, 2} <= set(np.concatenate(sources)), "the policy and the scripted human acted"
    said = run("apo-data", "check-remote", url, code=4)
    assert "cannot connect" in said, said


def check_lift(directory):
    bridge = os.path.join(SCRIPTS, "robosuite_bridge.py")
    wrong = subprocess.run([sys.executable, bridge, "--env", "Lfit"], capture_output=True, text=True)
    assert wrong.returncode != 0 and "did you mean Lift?" in wrong.stderr, wrong.stderr
    with served(bridge, "--env", "Lift") as url:
        said = run("apo-data", "check-remote", url, "--steps", "45")
        assert "expert       2 of 2 episodes" in said, said
        collect(url, f"{directory}/lift.hdf5", "--set", "deploy.demonstrations.episodes=2", "--set",
                "deploy.demonstrations.max_steps=100")
    recorded = arrays(f"{directory}/lift.hdf5")
    picture = recorded["data/demo_0/obs/agentview_image"]
    assert picture.shape[1:] == (84, 84, 3) and picture.std() > 5, "a picture of the scene"
    assert recorded["data/demo_0/actions"].shape[1] == 7


with tempfile.TemporaryDirectory() as place:
    if sys.argv[3:] == ["robosuite"]:
        try:
            import robosuite  # noqa: F401
        except Exception as error:  # without GL, too
            print(f"skipped: {error}")
            sys.exit(77)
        check_lift(place)
    else:
        check_walk(place)
print("all is well")
