"""What the console talks to, without a robot: its pages, its WebSocket, and an arm that pushes a cube about.

    console_fake_server.py [PORT]

The other side of src/serving/console, in the standard library alone. It keeps what pages say (`received`), and can
vanish and come back. Run by hand it serves http://127.0.0.1:8765/console until Ctrl-C, for work on the page.
"""

import asyncio
import base64
import hashlib
import json
import math
import pathlib
import struct
import sys
import threading
import time
import urllib.parse
import zlib

FILES = pathlib.Path(__file__).resolve().parents[2] / "src" / "serving" / "console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'"
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
KEYS = {
    "take_over": "KeyT",
    "hand_back": "KeyH",
    "pause": "KeyP",
    "success": "Digit1",
    "failure": "Digit0",
    "reset": "KeyR",
    "slower": "Minus",
    "faster": "Equal",
    "gripper": "Space",
    "+0": "KeyW",
    "-0": "KeyS",
    "+1": "KeyA",
    "-1": "KeyD",
    "+2": "KeyE",
    "-2": "KeyQ",
    "+3": "KeyL",
    "-3": "KeyJ",
    "+4": "KeyI",
    "-4": "KeyK",
    "+5": "KeyU",
    "-5": "KeyO",
}


class Picture:
    """RGB, row by row; discs and strokes."""

    def __init__(self, width, height, rows):
        self.width, self.height, self.rows = width, height, [bytearray(row) for row in rows]

    def disc(self, x, y, radius, color, squeeze=1.0):
        for row in range(
            max(0, math.ceil(y - radius * squeeze)), min(self.height, math.floor(y + radius * squeeze) + 1)
        ):
            half = math.sqrt(max(0.0, radius * radius - ((row - y) / squeeze) ** 2))
            left, right = max(0, round(x - half)), min(self.width, round(x + half))
            if right > left:
                self.rows[row][3 * left : 3 * right] = bytes(color) * (right - left)

    def stroke(self, a, b, radius, color):
        count = max(1, int(math.dist(a, b) / max(1, radius / 2)))
        for i in range(count + 1):
            self.disc(a[0] + (b[0] - a[0]) * i / count, a[1] + (b[1] - a[1]) * i / count, radius, color)

    def png(self):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows), 1)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def table(width, height, horizon):
    rows = []
    for y in range(height):
        shade = y / height
        color = (
            (206 - 30 * shade, 210 - 30 * shade, 214 - 28 * shade)
            if y < horizon
            else (176 + 34 * shade, 150 + 30 * shade, 118 + 26 * shade)
        )
        rows.append(bytes(int(part) for part in color) * width)
    return rows


class Arm:
    """A gripper over a table, seen from the front and from the wrist; x away from us, y to the left, all in [0, 1]."""

    def __init__(self, seed):
        self.at, self.height, self.gripper = [0.15, 0.5], 0.6, -1.0
        self.cube = [0.62, 0.34 + 0.08 * (seed % 4)]
        self.bowl = [0.45, 0.84]
        self.held, self.doubts = False, True  # the policy goes past the cube until it is corrected

    def wants(self):
        """The policy's action [7] and how sure it is."""
        aim = self.bowl if self.held else self.cube
        if self.doubts and not self.held:
            aim = [self.cube[0] + 0.02, self.cube[1] - 0.22]
        apart = [aim[i] - self.at[i] for i in (0, 1)]
        far = math.hypot(*apart)
        move = [max(-1, min(1, 14 * part)) * 0.8 for part in apart]
        down = 0.0 if far > 0.08 else (-0.6 if not self.held and self.height > 0.15 else 0)
        closes = 1.0 if self.held or (far < 0.05 and self.height <= 0.15 and not self.doubts) else -1.0
        sure = 0.93 - (0.45 if self.doubts and far < 0.1 else 0.0) + 0.03 * math.sin(9 * self.at[0] + 7 * self.at[1])
        return [
            round(move[0], 4),
            round(move[1], 4),
            round(down, 4),
            0.0,
            0.0,
            round(0.1 * math.sin(5 * self.at[1]), 4),
            closes,
        ], sure

    def step(self, action):
        """Whether the cube lies in the bowl now."""
        self.at = [max(0, min(1, self.at[i] + 0.035 * action[i])) for i in (0, 1)]
        self.height = max(0.05, min(1, self.height + 0.08 * action[2]))
        self.gripper = action[6]
        if self.gripper > 0 and self.height < 0.3 and math.dist(self.at, self.cube) < 0.09:
            self.held = True
        if self.gripper < 0 or not self.held:
            self.held = False
        else:
            self.cube = list(self.at)
        return math.dist(self.cube, self.bowl) < 0.08

    def look(self, camera):
        if camera == "wrist":
            picture = Picture(320, 240, table(320, 240, 0))

            def place(point):
                return 160 - (point[1] - self.at[1]) * 420, 130 - (point[0] - self.at[0]) * 420

            picture.disc(*place(self.bowl), 46, (70, 110, 150))
            picture.disc(*place(self.bowl), 36, (110, 150, 190))
            if not self.held:
                picture.disc(*place(self.cube), 24, (176, 52, 52))
            open_by = 34 if self.gripper < 0 else 20
            if self.held:
                picture.disc(160, 130, 22, (176, 52, 52))
            for side in (-1, 1):
                picture.stroke((160 + side * open_by, 240), (160 + side * open_by, 132), 8, (52, 54, 58))
            return picture.png()
        picture = Picture(320, 240, table(320, 240, 78))

        def place(point, height=0.0):
            depth = 1.0 - 0.45 * point[0]
            return (
                160 - (point[1] - 0.5) * 300 * depth,
                222 - 130 * point[0] * (0.75 + 0.25 * depth) - 90 * height * depth,
            )

        def scale(point):
            return 1.0 - 0.45 * point[0]

        picture.disc(*place(self.bowl), 34 * scale(self.bowl), (70, 110, 150), 0.5)
        picture.disc(*place(self.bowl, 0.03), 28 * scale(self.bowl), (110, 150, 190), 0.45)
        lifted = self.height if self.held else 0.05
        picture.disc(*place(self.cube), 14 * scale(self.cube), (150, 126, 100), 0.45)
        picture.disc(*place(self.cube, lifted), 13 * scale(self.cube), (186, 54, 54))
        hand, elbow = place(self.at, self.height + 0.12), place([0.75, 0.5 + (self.at[1] - 0.5) * 0.5], 1.0)
        picture.disc(*place(self.at), 10 * scale(self.at), (150, 126, 100), 0.45)
        picture.stroke(place([1.0, 0.5], 0.2), elbow, 10, (64, 68, 74))
        picture.stroke(elbow, (hand[0], hand[1] - 26), 8, (86, 91, 99))
        picture.stroke((hand[0], hand[1] - 26), (hand[0], hand[1] - 10), 7, (52, 54, 58))
        open_by = 11 if self.gripper < 0 else 6
        for side in (-1, 1):
            picture.stroke(
                (hand[0] + side * open_by, hand[1] - 8), (hand[0] + side * open_by, hand[1] + 8), 3, (40, 42, 46)
            )
        return picture.png()


class Viewer:
    def __init__(self, name, writer):
        self.name, self.writer = name, writer
        self.visible, self.heard = True, time.monotonic()
        self.action, self.action_at = None, -1e9
        self.unseen = {}  # camera -> pictures sent that the page has not shown yet


class FakeServer:
    """Served from its own thread between `start` and `stop`; `port` 0 takes a free one and keeps it."""

    def __init__(self, port=0, hz=10.0, token=None, k=10, bare=False):
        self.port, self.hz, self.token, self.k = port, hz, token, k
        self.changes = {}  # of what the page is told of the arm
        self.patience = 3.0  # seconds: a page silent for longer is lost
        self.silent = False  # says nothing more to anybody, but keeps the connections
        self.bare = bare  # episodes do not end by themselves: nothing moves but what a test asks for
        self.received = []  # (time, viewer, message) of all pages, pings and "shown" left out
        self.requests = []  # paths asked for by HTTP
        self.viewers, self.count, self.episodes, self.frames = {}, 0, [], {}
        self.refinement = {"type": "refine", "state": "idle", "text": "", "step": 0, "of": 0, "curves": {}}
        self.instruction = "put the red cube into the blue bowl"
        self.number = 0
        self.asked = False  # the robot asks for the next episode
        self.asks = False  # a person is asked how the episode ended
        self.loop, self.thread = None, None
        self.executed = []  # (episode, source, action) of every step
        self.begin()

    # ---- the episode

    def begin(self):
        self.arm = Arm(self.number)
        self.episode, self.number = f"demo_{self.number}", self.number + 1
        self.steps, self.sources, self.windows, self.history = 0, "", [], []
        self.mode, self.before_pause, self.holder = "policy", "policy", None
        self.running, self.outcome, self.success = True, "", None
        self.policy_action, self.human_action, self.confidence = None, None, None
        self.moved, self.captured = False, time.time() * 1000

    def labels(self):
        out = ["i" if source == "h" else "d" for source in self.sources]
        if self.success is False:
            after = self.sources.rfind("h") + 1
            out[after:] = "-" * (len(out) - after)
        for begin, end in self.windows:
            out[begin:end] = "u" * (end - begin)
        return "".join(out)

    def told(self, running=False):
        return {
            "name": self.episode,
            "steps": self.steps,
            "success": self.success,
            "outcome": self.outcome,
            "instruction": self.instruction,
            "sources": self.sources,
            "labels": self.labels(),
            "running": running,
            "history": self.history,
        }

    def pools(self):
        labels = "".join(episode["labels"] for episode in self.episodes) + (self.labels() if self.running else "")
        return {"desirable": labels.count("d"), "intervention": labels.count("i"), "undesirable": labels.count("u")}

    def finish(self, outcome, success):
        self.running, self.outcome, self.success, self.holder = False, outcome, success, None
        self.mode, self.human_action = "policy", None
        self.episodes.append(self.told())
        self.tell_all(self.list())

    def act(self):
        """One control step."""
        if not self.running or self.mode == "paused":
            return
        self.policy_action, self.confidence = self.arm.wants()
        action, source = self.policy_action, "p"
        self.human_action = None
        if self.mode == "human":
            source, holder = "h", self.viewers.get(self.holder)
            action = [0.0] * 6 + [self.arm.gripper]
            if holder and holder.visible and time.monotonic() - holder.action_at < 2 / self.hz:
                given = (holder.action + [0.0] * 7)[:7]
                action = given[:6] + [self.arm.gripper if given[6] is None else given[6]]
            self.moved |= any(action[:6]) or action[6] != self.arm.gripper
            self.human_action = action
            self.arm.doubts = False
        self.history.append(
            {
                "at": list(self.arm.at),
                "height": self.arm.height,
                "gripper": self.arm.gripper,
                "held": self.arm.held,
                "cube": list(self.arm.cube),
                "action": action,
            }
        )
        solved = self.arm.step(action)
        self.executed.append((self.episode, source, action))
        self.steps, self.sources = self.steps + 1, self.sources + source
        if self.bare:
            return
        if solved:
            self.finish("success", True)
        elif self.steps >= 400:
            self.finish("timeout", False)

    # ---- what pages are told

    def state(self, viewer):
        return {
            "type": "state",
            "step": self.steps,
            "episode": self.episode,
            "episode_state": "running" if self.running else "finished",
            "outcome": self.outcome,
            "success": self.success,
            "mode": self.mode,
            "source": self.sources[-1:],
            "holder": "nobody" if self.holder is None else "me" if self.holder == viewer else "other",
            "instruction": self.instruction,
            "policy_action": self.policy_action,
            "human_action": self.human_action,
            "gripper": self.arm.gripper,
            "confidence": self.confidence,
            "asks": self.asks and self.running,
            "captured_ms": self.captured,
            "pools": self.pools(),
            "k": self.k,
            "preview": self.windows[-1] if self.windows else None,
            "reason_no_motion": "Still until your first input." if self.mode == "human" and not self.moved else "",
        }

    def list(self):
        shown = [
            {key: value for key, value in episode.items() if key != "history"}
            for episode in self.episodes + ([self.told(True)] if self.running else [])
        ]
        return {"type": "episodes", "episodes": shown}

    def frame(self, viewer, data, binary=False):
        head = bytes([0x82 if binary else 0x81])
        size = len(data)
        head += (
            bytes([size])
            if size < 126
            else b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)
        )
        if (
            not self.silent and viewer.writer.transport.get_write_buffer_size() < 1 << 22
        ):  # a page that does not read misses some
            viewer.writer.write(head + data)

    def tell(self, viewer, message):
        self.frame(viewer, json.dumps(message).encode())

    def tell_all(self, message):
        for viewer in self.viewers.values():
            self.tell(viewer, message)

    def tell_state(self):
        for viewer in self.viewers.values():
            self.tell(viewer, self.state(viewer.name))

    def picture(self, viewer, kind, camera, arm, episode, step):
        header = json.dumps(
            {
                "kind": kind,
                "camera": camera,
                "step": step,
                "episode": episode,
                "captured_ms": self.captured,
                "format": "image/png",
            }
        ).encode()
        self.frame(viewer, struct.pack("<I", len(header)) + header + arm.look(camera), binary=True)

    # ---- what pages say

    def hear(self, viewer, message):
        kind = message["type"]
        viewer.heard = time.monotonic()
        if kind == "ping":
            return self.tell(viewer, {"type": "pong", "t": message["t"], "server_ms": time.time() * 1000})
        if kind == "shown":
            viewer.unseen[message["camera"]] -= 1
            return
        self.received.append((time.monotonic(), viewer.name, message))
        holds = self.holder == viewer.name
        if kind == "take_over":
            if self.holder is not None and not holds and not message.get("force"):
                return self.tell(
                    viewer, {"type": "notice", "level": "warn", "code": "held", "text": "someone else holds the arm"}
                )
            if not self.running:
                return self.tell(viewer, {"type": "notice", "level": "warn", "text": "no episode runs"})
            if self.holder is not None and not holds:
                self.tell(
                    self.viewers[self.holder], {"type": "notice", "level": "warn", "text": "someone else took the arm"}
                )
            if self.mode != "human" and self.before_pause != "human":
                begin = max(self.sources.rfind("h") + 1, self.steps - self.k)
                if begin < self.steps:
                    self.windows.append([begin, self.steps])
            self.holder, self.mode, self.before_pause, self.moved = viewer.name, "human", "human", False
            viewer.action_at = -1e9
        elif kind == "hand_back" and holds:
            self.holder, self.mode, self.before_pause, self.human_action = None, "policy", "policy", None
        elif kind == "pause":
            if message["paused"] and self.mode != "paused":
                self.before_pause, self.mode, self.human_action = self.mode, "paused", None
            elif not message["paused"] and self.mode == "paused":
                self.mode = self.before_pause
        elif kind in ("success", "failure") and (self.holder is None or holds):
            if self.running:
                self.finish(kind, kind == "success")
        elif kind == "reset" and (self.holder is None or holds) and self.running:
            self.finish("reset", False)
        elif kind == "instruction" and not self.running:
            self.instruction = message["text"]
        elif kind == "input" and holds:
            viewer.action, viewer.action_at = message["action"], time.monotonic()
            return
        elif kind == "visible":
            viewer.visible = message["visible"]
            viewer.action_at = -1e9
        elif kind == "replay":
            return self.replay(viewer, message)
        elif kind == "refine" and self.refinement["state"] != "running":
            self.loop.create_task(self.refine())
        self.tell_state()

    def replay(self, viewer, message):
        for episode in self.episodes:
            if episode["name"] == message["episode"]:
                step, arm = message["step"], Arm(int(episode["name"].split("_")[1]))
                then = episode["history"][step]
                arm.at, arm.height, arm.gripper, arm.held, arm.cube = (
                    then[key] for key in ("at", "height", "gripper", "held", "cube")
                )
                for camera in ("front", "wrist"):
                    self.picture(viewer, "replay", camera, arm, episode["name"], step)
                self.tell(
                    viewer,
                    {
                        "type": "replay_step",
                        "episode": episode["name"],
                        "step": step,
                        "source": episode["sources"][step],
                        "label": episode["labels"][step],
                        "action": then["action"],
                    },
                )

    async def refine(self):
        curves = {"loss": [], "reward_margin": [], "action_l1_desirable": [], "action_l1_undesirable": []}
        for step in range(1, 61):
            curves["loss"].append([step, 0.5 - 0.2 * (1 - math.exp(-step / 20)) + 0.012 * math.sin(step * 1.7)])
            curves["reward_margin"].append([step, 4 * (1 - math.exp(-step / 25)) + 0.2 * math.sin(step * 2.3)])
            curves["action_l1_desirable"].append([step, 0.09 + 0.12 * math.exp(-step / 18) + 0.006 * math.sin(step)])
            curves["action_l1_undesirable"].append(
                [step, 0.2 + 0.1 * (1 - math.exp(-step / 22)) + 0.008 * math.sin(step * 1.3)]
            )
            self.refinement = {
                "type": "refine",
                "state": "running",
                "text": f"Update {step} of 60",
                "step": step,
                "of": 60,
                "curves": curves,
            }
            if step % 4 == 0:
                self.tell_all(self.refinement)
            await asyncio.sleep(0.05)
        self.refinement = {
            **self.refinement,
            "state": "done",
            "text": "60 updates; the next episode runs with the refined policy.",
        }
        self.tell_all(self.refinement)

    # ---- HTTP and WebSocket

    def contract(self):
        return {**self.default_contract(), **self.changes}

    def default_contract(self):
        return {
            "version": 1,
            "action_size": 7,
            "control_hz": self.hz,
            "action_names": NAMES,
            "gripper": 6,
            "gripper_open": -1,
            "gripper_closed": 1,
            "cameras": ["front", "wrist"],
            "keys": KEYS,
            "directions": {"+0": "away", "-0": "toward", "+1": "left", "-1": "right", "+2": "up", "-2": "down"},
            "speed": 0.5,
            "token_needed": self.token is not None,
            "can": {"reset": True, "refine": True, "instruction": True, "replay": True},
        }

    def answer(self, path):
        name = "console.html" if path in ("/", "/console", "/console/") else path.removeprefix("/console/")
        file = FILES / name
        if "/" in name or not file.is_file():
            return 404, "text/plain", b"not found"
        text = file.read_text()
        if name == "console.html":
            text = text.replace("@CONSOLE_CONTRACT@", json.dumps(self.contract()).replace("<", "\\u003c"))
        return 200, TYPES[file.suffix], text.encode()

    async def connection(self, reader, writer):
        viewer = None
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines[1:] if line)}
                url = urllib.parse.urlparse(lines[0].split()[1])
                if headers.get("upgrade", "").lower() != "websocket":
                    self.requests.append(url.path)
                    status, kind, body = self.answer(url.path)
                    writer.write(
                        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                        f"Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n".encode()
                        + body
                    )
                    await writer.drain()
                    continue
                if self.token is not None and urllib.parse.parse_qs(url.query).get("token") != [self.token]:
                    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                key = hashlib.sha1(
                    (headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
                ).digest()
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                    + base64.b64encode(key)
                    + b"\r\n\r\n"
                )
                self.count += 1
                viewer = Viewer(f"viewer-{self.count}", writer)
                self.viewers[viewer.name] = viewer
                for message in (
                    {"type": "hello", "version": 1, "viewer": viewer.name},
                    self.state(viewer.name),
                    self.list(),
                    self.refinement,
                ):
                    self.tell(viewer, message)
                while True:
                    head = await reader.readexactly(2)
                    size = head[1] & 127
                    if size > 125:
                        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
                    mask, data = await reader.readexactly(4), await reader.readexactly(size)
                    if head[0] & 15 == 8:
                        return
                    if head[0] & 15 == 1:
                        self.hear(viewer, json.loads(bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))))
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            if viewer:
                self.lose(viewer)

    def lose(self, viewer):
        self.viewers.pop(viewer.name, None)
        if self.holder == viewer.name:
            self.holder, self.mode, self.before_pause = None, "policy", "policy"
            self.tell_state()

    async def run(self):
        self.loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self.connection, "127.0.0.1", self.port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        due = time.monotonic()
        while not self.stopping:
            self.captured = time.time() * 1000
            if self.asked and not self.running:
                self.asked = False
                self.begin()
            self.act()
            self.tell_state()
            for camera in ("front", "wrist"):
                for viewer in list(self.viewers.values()):
                    if viewer.unseen.get(camera, 0) < 2:  # a slow page misses some, and what it sees is fresh
                        viewer.unseen[camera] = viewer.unseen.get(camera, 0) + 1
                        self.picture(viewer, "camera", camera, self.arm, self.episode, self.steps)
            for viewer in list(self.viewers.values()):
                if time.monotonic() - viewer.heard > self.patience:
                    viewer.writer.transport.abort()
                    self.lose(viewer)
            due = max(due + 1 / self.hz, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        server.close()
        for viewer in list(self.viewers.values()):
            viewer.writer.transport.abort()

    def start(self):
        self.ready, self.stopping = threading.Event(), False
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)
        self.thread.start()
        assert self.ready.wait(10), "the fake server does not start"
        return self

    def stop(self):
        self.stopping = True
        self.thread.join(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/console"


if __name__ == "__main__":
    fake = FakeServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8765).start()
    print(fake.url)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        fake.stop()
