"""A person at the console of a real server: what the hands did is what the recording says.

    console_served.py BIN_DIRECTORY [CHROMIUM]

A tiny policy is trained and served with a recording; a robot of openpi-client's asks it at 10 Hz; in headless Chromium a
person takes over, moves, looks away, hands back and marks success. Exit code 77 where there is no Chromium or no client. With
APO_SCREENSHOTS=DIR it keeps pictures of what it saw; it prints how old pictures are when they are shown.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import threading
import time

from unmodified_clients import CONFIG, SKIPPED, TOKEN, Served, Started, observation, run  # exits 77 where a client is missing

import h5py
import numpy as np
from openpi_client import websocket_client_policy

from console_page import WAIT_SECONDS, Page

HZ = 10


class Robot(threading.Thread):
    """Asks in every step until it is told to stop; keeps what it was answered."""

    def __init__(self, port):
        super().__init__()
        self.port, self.answers, self.stopping, self.problem = port, [], threading.Event(), None
        self.told = []  # how a person ended its episodes

    def run(self):
        try:
            policy = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", self.port, api_key=TOKEN)
            next_step = time.monotonic()
            while not self.stopping.is_set():
                answer = policy.infer(observation(40 + len(self.answers) % 200))
                self.told += [answer["episode_ended"]] if "episode_ended" in answer else []
                self.answers.append((answer["action_source"], answer["actions"][0]))
                next_step = max(next_step + 1 / HZ, time.monotonic())
                time.sleep(max(0, next_step - time.monotonic()))
        except Exception as problem:  # told by who joins
            self.problem = problem

    def steps(self, count):
        """Waits for so many more."""
        begin, end = len(self.answers), time.monotonic() + WAIT_SECONDS
        while len(self.answers) < begin + count:
            assert self.problem is None and time.monotonic() < end, self.problem or "the robot is not answered"
            time.sleep(0.01)
        return [np.array(action) for _, action in self.answers[begin : begin + count]]


def expect(condition, what):
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def correct(person, robot):
    person.until("console", "connection", "open")
    person.until("console", "episodeState", "running")
    person.wait("document.querySelector('[data-testid=camera-front]').dataset.frame > 3", "no pictures")
    person.screenshot("served-policy")
    person.press("KeyT")
    person.until("console", "holder", "me")
    still = robot.steps(5)[2:]
    assert all(np.all(action[:6] == 0) for action in still), f"the arm moves before the first input: {still}"
    assert all(action[6] == still[0][6] for action in still), f"the gripper moves by itself: {still}"
    person.key("KeyW", True)  # x forward
    expect(lambda: robot.answers[-1][1][0] > 0, "W does not move the arm")
    moved = robot.steps(4)
    assert all(action[0] > 0 and np.all(action[1:6] == 0) for action in moved), moved
    person.screenshot("served-human")
    person.say("window.dispatchEvent(new Event('blur'))")  # it looks away with the key held down
    expect(lambda: np.all(robot.answers[-1][1][:6] == 0), "looking away does not stop the arm")
    away = robot.steps(4)
    assert all(np.all(action[:6] == 0) for action in away), f"the arm moves while nobody looks: {away}"
    person.key("KeyW", False)
    person.say("window.dispatchEvent(new Event('focus'))")
    person.press("KeyH")
    expect(lambda: robot.answers[-1][0] == 1, "the policy does not act after the hand-back")
    robot.steps(5)
    ages = []
    for _ in range(40):
        ages.append(person.say("(camera => Date.now() - Number(camera.dataset.capturedMs))"
                               "(document.querySelector('[data-testid=camera-front]'))"))
        time.sleep(0.03)
    person.press("Digit1")
    person.wait("document.querySelector('[data-testid=episode-row]')?.dataset.success === '1'", "no episode is marked")
    person.screenshot("served-marked")
    set_up_anew(person, robot)
    refine(person)
    robot.stopping.set()
    robot.join(WAIT_SECONDS)
    assert robot.problem is None, robot.problem
    print(f"age of what is shown: median {np.median(ages):.0f} ms, 95 % below {np.percentile(ages, 95):.0f} ms "
          f"(a new picture each {1000 / HZ:.0f} ms)")


def set_up_anew(person, robot):
    """Ends an episode without a mark, says what the next one is for, and lets the robot go on."""
    robot.steps(3)
    person.press("KeyR")
    person.until("console", "mode", "paused")
    expect(lambda: robot.told == ["success", "reset"], f"the robot was told {robot.told}")
    assert all(np.all(action[:6] == 0) for action in robot.steps(4)), "the arm moves while the scene is set up"
    person.wait("!document.querySelector('[data-testid=instruction]').readOnly", "the instruction cannot be changed")
    person.say("(field => { field.focus(); field.value = 'pick up the blue block'; field.dispatchEvent(new Event('input'));"
               " document.getElementById('instruction-form').requestSubmit(); })(document.querySelector('[data-testid=instruction]'))")
    robot.steps(3)
    person.wait("document.querySelector('[data-testid=instruction]').value === 'pick up the blue block'", "the instruction is forgotten")
    person.press("KeyP")
    expect(lambda: np.any(robot.answers[-1][1][:6] != 0), "the robot does not go on")
    robot.steps(5)


def refine(person):
    """Trains on what was recorded, in sight."""
    person.say("document.querySelector('[data-testid=refine]').click()")
    person.wait("['done', 'failed'].includes(document.querySelector('[data-testid=console]').dataset.refine)", "no end of the training")
    said = person.say("document.querySelector('[data-testid=refine-state]').textContent")
    assert said.startswith("Refined."), said
    person.wait("document.querySelectorAll('#curves svg').length > 0", "no curve is drawn")
    person.screenshot("served-refined")


def check_recording(path, robot):
    """The first episode is what was answered until the mark, step by step."""
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        sources, actions = demo["action_source"][:], demo["actions"][:]
        assert bool(demo.attrs["success"]), dict(demo.attrs)
        wanted = demo["policy_action"][:]
        others = [dict(file[f"data/demo_{number}"].attrs) for number in (1, 2)]
    assert [other["outcome"] for other in others] == [b"reset", b"disconnected"], others
    assert not others[0]["success"] and "success" not in others[1], others
    tasks = [other["task_description"] for other in others]
    assert tasks == [b"pick up the red block", b"pick up the blue block"], tasks
    assert len(sources) <= len(robot.answers)
    told = robot.answers[: len(sources)]
    assert [source for source, _ in told] == sources.tolist(), "who acted is told otherwise than it is recorded"
    assert np.allclose(np.array([action for _, action in told]), actions), "recorded is another action than was answered"
    human = sources == 2
    changes = np.flatnonzero(np.diff(human.astype(int)))
    assert len(changes) == 2, f"expected one take-over and one hand-back, found {sources.tolist()}"
    assert np.all(np.isfinite(wanted[human])), "what the policy wanted while the person acted is not recorded"
    print(f"{len(sources)} steps: {int(human.sum())} of the person, in one piece, as answered; success")


def check_refined(programs, config, directory):
    """It learned from a whole copy of what had ended, and can be served."""
    with h5py.File(directory / "interactions.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1"], sorted(file["data"])
    server = Served(programs, "--config", config, f"--set=policy.checkpoint={directory / 'training'}")
    assert server.stop() == 130


def collect(programs, chromium, config, base, place):
    """The same page in the simulation: apo-collect with a person, who resets an episode and refines."""
    mine = place / "mine.hdf5"
    with Started(programs / "apo-collect", "--config", config, f"--set=policy.checkpoint={base}", "--human", "browser",
                 "--set=serve.port=0", "--set=deploy.collect.episodes=2", "--set=data.checks=warn",
                 "--set=data.pools.desirable=0", "--set=data.pools.intervention=1", "--output", mine) as collecting:
        port = collecting.find(r"http://127\.0\.0\.1:(\d+)/console")
        person = Page(chromium, place / "chromium-collect", f"http://127.0.0.1:{port}/console")
        try:
            person.until("console", "episodeState", "running")
            person.press("KeyT")
            person.until("console", "holder", "me")
            person.key("KeyW", True)
            person.wait("(JSON.parse(document.querySelector('[data-testid=human-action]').dataset.value) ?? [0])[0] > 0",
                        "the hand does not move the arm")
            person.key("KeyW", False)
            person.wait("Number(document.querySelector('[data-testid=confidence]').dataset.value) > 0", "no confidence")
            marks = "[...document.querySelectorAll('[data-testid=success], [data-testid=failure]')].map(mark => mark.ariaDisabled)"
            assert person.say(marks) == ["true", "true"], "a simulation that judges itself takes marks"
            person.press("KeyP")  # so that the second one waits
            person.until("console", "mode", "paused")
            person.press("KeyR")
            person.wait("document.querySelector('[data-testid=episode-row]')?.dataset.success === '0'", "no episode was reset")
            person.click("[data-testid=episode-row]")
            person.wait("Number(document.querySelector('[data-testid=replay-camera-front]')?.dataset.frame) >= 1", "nothing is replayed")
            replayed = json.loads(person.data("replay", "sources"))
            person.screenshot("collected-replay")
            refine(person)
            complaints = person.complaints()
            assert not complaints, complaints
            person.press("KeyP")
            code = collecting.process.wait(timeout=WAIT_SECONDS)
        finally:
            person.browser.close()
        assert code == 0, collecting.log
    with h5py.File(mine) as file:
        demo = file["data/demo_0"]
        assert demo.attrs["outcome"] == b"reset" and not demo.attrs["success"], dict(demo.attrs)
        assert 2 in demo["action_source"][:] and len(file["data"]) == 2
        assert replayed == demo["action_source"][:].tolist(), f"replayed {replayed}, recorded {demo['action_source'][:]}"
    with h5py.File(place / "mine-refined" / "1" / "interactions.hdf5") as file:
        assert list(file["data"]) == ["demo_0"], "the copy holds something else than the episode that had ended"


def main():
    programs = pathlib.Path(sys.argv[1])
    chromium = sys.argv[2] if len(sys.argv) > 2 else shutil.which("chromium")
    if not chromium or chromium.endswith("-NOTFOUND"):
        print("skipped: no Chromium")
        return SKIPPED
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        config, demos, base, record = place / "tiny.yaml", place / "demos.hdf5", place / "base", place / "served.hdf5"
        config.write_text(CONFIG)
        run(programs / "apo-collect", "--config", config, "--demonstrations", "--output", demos)
        run(programs / "apo-train", "--config", config, f"--set=run.dir={base}", f"--set=data.expert=[{{path: {demos}}}]")
        server = Served(programs, "--config", config, f"--set=policy.checkpoint={base}", f"--set=serve.record={record}",
                        f"--set=serve.token={TOKEN}",
                        "--set=data.checks=warn")  # hardly trained, its gripper is neither open nor closed
        robot = Robot(server.port)
        person = None
        try:
            person = Page(chromium, place / "chromium", f"http://127.0.0.1:{server.port}/console#token={TOKEN}")
            robot.start()
            correct(person, robot)
            complaints = person.complaints()
            assert not complaints, complaints
        finally:
            robot.stopping.set()
            if person:
                person.browser.close()
            code = server.stop()
        assert code == 130, f"apo-serve ended with {code}: {server.log[-2000:]}"
        check_recording(record, robot)
        check_refined(programs, config, place / "served-refined" / "1")
        collect(programs, chromium, config, base, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
