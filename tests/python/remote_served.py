"""The shipped programs drive a server of scripts/remote_environment.py, and one of robosuite where it is installed.

    remote_served.py DIRECTORY_OF_PROGRAMS DIRECTORY_OF_SCRIPTS [robosuite]

Exit code 77, and a line that says why, where a package is missing.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

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


def check_printed_server(directory):
    """The server that docs/remote.md prints, with a robot that stands still."""
    with open(os.path.join(SCRIPTS, "..", "docs", "remote.md")) as file:
        printed = file.read().split("```python\n")[1].split("```")[0]
    assert "    serve(Arm)" in printed
    robot = "import numpy\nmove = lambda action: None\nopening = lambda: [0.5]\n"
    robot += "picture = lambda: numpy.arange(224 * 224 * 3, dtype=numpy.uint32).astype(numpy.uint8).reshape(224, 224, 3)\n"
    script = f"{directory}/arm.py"
    with open(script, "w") as file:
        file.write(f"import sys\nsys.path.insert(0, {SCRIPTS!r})\n{robot}{printed.replace('serve(Arm)', 'serve(Arm, port=0)')}")
    with served(script) as url:
        said = run("apo-data", "check-remote", url, "--steps", "3")
        assert "played       2 seeds twice" in said, said


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


def check_kills(directory, kills=2):
    """A server that is killed while it is being driven, and started again, leaves the recording of one that is not."""
    script = os.path.join(SCRIPTS, "remote_environment.py")
    episodes = ("--set", "deploy.demonstrations.episodes=12", "--set", "environment.remote.timeouts.connect_s=5")
    with served(script) as url:
        collect(url, f"{directory}/whole.hdf5", *episodes)
    port = url.rsplit(":", 1)[1]

    def start():
        server = subprocess.Popen([sys.executable, script, "--port", port, "--slow-ms", "15"], stdout=subprocess.PIPE,
                                  text=True, start_new_session=True)
        assert server.stdout.readline().startswith("serving")
        return server

    server = start()
    driven = threading.Thread(target=collect, args=(url, f"{directory}/killed.hdf5", *episodes))
    driven.start()
    for kill in range(1, kills + 1):
        while driven.is_alive() and recorded_episodes(f"{directory}/killed.hdf5") < 12 * kill // (kills + 1):
            time.sleep(0.02)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
        server = start()
    driven.join()
    server.send_signal(signal.SIGTERM)
    server.wait(20)
    same(f"{directory}/whole.hdf5", f"{directory}/killed.hdf5")
    with open(f"{directory}/killed.hdf5.json") as file:
        interrupted = json.load(file)["interrupted"]
    assert interrupted >= 1, "no kill met an episode: the test tests nothing"
    return interrupted


def recorded_episodes(path):
    """As the summary beside a recording says, which is replaced after each."""
    try:
        with open(f"{path}.json") as file:
            return json.load(file)["recorded"]
    except FileNotFoundError:
        return 0


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
        with served(os.path.join(SCRIPTS, "remote_environment.py"), "--num-envs", "2") as another:
            run("apo-refine", "--config", f"{directory}/loop.yaml", "--resume", "--set=environment.remote.timeouts.step_s=9",
                f"--set=environment.remote.url={another}")
        said = run("apo-refine", "--config", f"{directory}/loop.yaml", "--resume", "--set=environment.remote.max_steps=9", code=2)
        assert "environment.remote.max_steps: " in said, said
        sources = [array for name, array in arrays(f"{directory}/run/round-1/interactions.hdf5").items()
                   if name.endswith("action_source")]
        assert {1, 2} <= set(np.concatenate(sources)), "the policy and the scripted human acted"
    said = run("apo-data", "check-remote", url, code=4)
    assert "cannot connect" in said, said


def play_back(path):
    """robosuite, made from env_args, draws the recorded pictures again from the recorded model and states."""
    import mujoco
    import robosuite

    with h5py.File(path) as file:
        told = json.loads(file["data"].attrs["env_args"])
        demo = file["data/demo_1"]
        model, states = demo.attrs["model_file"], demo["states"][()]
        pictures, positions = demo["obs/agentview_image"][()], demo["obs/robot0_eef_pos"][()]
    assert told["type"] == 1 and states.dtype == np.float64 and len(states) == len(pictures) > 5
    again = robosuite.make(told["env_name"], **{**told["env_kwargs"], "use_camera_obs": False})
    again.reset()
    again.reset_from_xml_string(again.edit_model_xml(model))
    flags = again.sim._render_context_offscreen.scn.flags
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX):
        flags[flag] = 0
    for row in (0, 3, len(states) - 1):
        again.sim.set_state_from_flattened(states[row])
        again.sim.forward()
        picture = again.sim.render(width=84, height=84, camera_name="agentview")[::-1]
        away = np.abs(picture.astype(int) - pictures)  # from each recorded picture
        # the model's text rounds its numbers: an edge may fall on the other side of a pixel
        assert np.mean(away[row] > 2) < 0.002, (row, np.mean(away[row] > 2), away[row].max())
        assert away.mean((1, 2, 3)).argmin() == row, "no other row's picture is as near"
        place = again.sim.data.site_xpos[again.robots[0].eef_site_id["right"]]
        assert np.allclose(place, positions[row], atol=1e-6), row


FOREIGN = """
from robosuite.environments.manipulation.lift import Lift

class HighLift(Lift):   # as foreign packages do: robosuite registers a class when it is made
    def _check_success(self):
        return self.sim.data.body_xpos[self.cube_body_id][2] > self.model.mujoco_arena.table_offset[2] + 0.2
"""


def check_foreign(directory, bridge):
    """An environment of somebody else's module, without an expert."""
    with open(f"{directory}/foreign_tasks.py", "w") as file:
        file.write(FOREIGN)
    os.environ["PYTHONPATH"] = directory
    unknown = subprocess.run([sys.executable, bridge, "--env", "HighLift"], capture_output=True, text=True)
    assert unknown.returncode != 0 and "expected one of" in unknown.stderr, unknown.stderr
    with served(bridge, "--env", "HighLift", "--import", "foreign_tasks", "--image-size", "32") as url:
        said = run("apo-data", "check-remote", url, "--steps", "4")
    assert "nothing is wrong" in said and "HighLift" in said and "expert" not in said, said


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
    play_back(f"{directory}/lift.hdf5")
    check_foreign(directory, bridge)


with tempfile.TemporaryDirectory() as place:
    if sys.argv[3:] == ["robosuite"]:
        try:
            import robosuite  # noqa: F401
        except Exception as error:  # without GL, too
            print(f"skipped: {error}")
            sys.exit(77)
        check_lift(place)
    else:
        check_printed_server(place)
        check_walk(place)
        check_kills(place, int(os.environ.get("APO_KILLS", "2")))
print("all is well")
