"""Serve an environment to apo-collect, apo-eval and apo-refine: docs/remote.md, protocol apo-environment, version 1.

Needs `pip install websockets msgpack numpy`. An environment is a class with these methods (Environment below):

    class Robot(Environment):
        def metadata(self): return {"name": "arm", "control_hz": 20, "max_steps": 200, "action": {"size": 7}, ...}
        def reset(self, seed, options): ...       # -> the fields of an observation
        def step(self, action): ...               # -> the same, after one control period
        def render(self, size): ...               # -> [size, size, 3] uint8, row 0 at the top

    serve(Robot, port=8765)

Each environment lives in a process of its own, and in one thread of it: what draws with OpenGL draws black in any
other. What is wrong with a request is answered as an error and the connection kept; what a method raises is answered
with ENVIRONMENT, and the next reset may work again.
"""

import argparse
import asyncio
import functools
import http
import math
import multiprocessing
import signal
import sys
import time
import traceback

import msgpack
import numpy as np

PROTOCOL = "apo-environment"
VERSION = 1
LARGEST_FRAME = 64 << 20


def pack(message):
    """MessagePack with numpy's arrays as maps {b"__ndarray__": True, b"data", b"dtype", b"shape"}, as openpi has them."""

    def default(value):
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
            return {
                b"__ndarray__": True,
                b"data": value.tobytes(),
                b"dtype": value.dtype.str,
                b"shape": list(value.shape),
            }
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"cannot send a {type(value).__name__}")

    return msgpack.packb(message, default=default)


def unpack(data):
    """What `pack` packed; ValueError for everything else."""

    def hook(pairs):
        pairs = {key.decode() if isinstance(key, bytes) else key: value for key, value in pairs.items()}
        if "__ndarray__" not in pairs:
            return pairs
        array = np.frombuffer(pairs["data"], np.dtype(pairs["dtype"]))
        return array.reshape([int(size) for size in pairs["shape"]])

    try:
        return msgpack.unpackb(data, object_hook=hook, strict_map_key=False)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


class Refused(Exception):
    """A request that cannot be served: its code and one sentence."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Environment:
    """What `serve` serves. The methods return the fields of an `observation`: obs, reward, terminated, truncated,
    success, outcome, flawless, concern, expert_action, facts ... (docs/remote.md); `step`, `type` and `id` are added.
    Without executed_action and action_source, a step counts as executed as asked."""

    want = ()  # what the client asked for of expert, concern, facts, state and model: the rest need not be computed

    def metadata(self):
        """The fields of the metadata that are the environment's own."""
        raise NotImplementedError

    def reset(self, seed, options):
        raise NotImplementedError

    def step(self, action):
        raise NotImplementedError

    def render(self, size):
        raise Refused("UNSUPPORTED", "this environment does not render")

    def close(self):
        """The client has gone."""


class Session:
    """One environment and what of the protocol is about it: who may ask for what, and when."""

    def __init__(self, environment):
        self.environment = environment
        self.metadata = environment.metadata()
        self.size = int(self.metadata["action"]["size"])
        self.steps = None  # since the reset; None: not reset
        self.over = False
        self.want = ()
        self.last = None

    def answer(self, request):
        try:
            reply = self.dispatch(request)
        except Refused as refused:
            reply = {"type": "error", "code": refused.code, "message": str(refused)}
        except Exception as error:  # the environment's own
            traceback.print_exc()
            self.steps = None
            reply = {"type": "error", "code": "ENVIRONMENT", "message": " ".join(f"{type(error).__name__}: {error}".split())}
        return {"id": request.get("id"), "env": request.get("env", 0), **reply}

    def dispatch(self, request):
        kind = request.get("type")
        if kind == "reset":
            return self.reset(request)
        if kind == "step":
            return self.step(request)
        if kind == "observe":
            self.need_reset()
            return self.last
        if kind == "render":
            self.need_reset()
            size = request.get("size")
            if not isinstance(size, int) or not 1 <= size <= 2048:
                raise Refused("BAD_MESSAGE", f"render: expected a size from 1 to 2048, found {size!r}")
            return {"type": "picture", "picture": np.asarray(self.environment.render(size), np.uint8)}
        raise Refused("UNKNOWN_TYPE", f"expected reset, step, observe, render or close, found {kind!r}")

    def need_reset(self):
        if self.steps is None:
            raise Refused("NOT_RESET", "expected a reset before this")

    def reset(self, request):
        seed = request.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
            raise Refused("BAD_MESSAGE", f"reset: expected a seed from 0 to 2^64 - 1, found {seed!r}")
        options = request.get("options") or {}
        if not isinstance(options, dict):
            raise Refused("BAD_MESSAGE", "reset: expected options as a map")
        known = set(self.metadata.get("disruptions", ()))
        for name in options.get("disruptions") or {}:
            if name not in known:
                raise Refused("UNSUPPORTED", f"reset: disruption {name!r} (available: {', '.join(sorted(known)) or 'none'})")
        unknown = set(options) - {"disruptions", "instruction"}
        if unknown:
            raise Refused("UNSUPPORTED", f"reset: options {', '.join(sorted(map(str, unknown)))}")
        self.steps, self.over = None, False
        self.want = self.environment.want = tuple(request.get("want") or ())
        reply = self.environment.reset(seed, options)
        self.steps = 0
        return self.observation(reply)

    def step(self, request):
        self.need_reset()
        if self.over:
            raise Refused("EPISODE_OVER", "the episode is over: expected a reset")
        try:
            action = np.asarray(request.get("action"), np.float32)
        except (TypeError, ValueError):
            raise Refused("BAD_ACTION", "expected an action as an array of numbers") from None
        if action.shape != (self.size,):
            raise Refused("BAD_ACTION", f"expected an action of {self.size} numbers, found shape {list(action.shape)}")
        if not np.isfinite(action).all():
            raise Refused("BAD_ACTION", f"expected a finite action, found {action.tolist()}")
        executed, source = self.limited(action)
        reply = self.environment.step(executed)
        self.steps += 1
        reply.setdefault("executed_action", executed)
        reply.setdefault("action_source", source)
        return self.observation(reply)

    def limited(self, action):
        """The action within action.low and action.high, and action_source: 3 where that changed it."""
        about = self.metadata["action"]
        executed = np.clip(
            action,
            np.asarray(about.get("low", -np.ones(self.size)), np.float32),
            np.asarray(about.get("high", np.ones(self.size)), np.float32),
        ).astype(np.float32)
        return executed, 1 if np.array_equal(executed, action) else 3

    def observation(self, reply):
        reply = {"type": "observation", "step": self.steps, "time_s": time.monotonic(), **reply}
        for key, name in (("expert_action", "expert"), ("concern", "concern"), ("facts", "facts"), ("state", "state"),
                          ("model", "model")):
            if name not in self.want:
                reply.pop(key, None)
        self.over = bool(reply.get("terminated") or reply.get("truncated"))
        self.last = {key: value for key, value in reply.items() if key not in ("executed_action", "action_source")}
        return reply


def work(make, pipe):
    """A process: one environment, asked through a pipe, in the one thread that made it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to stop
    try:
        session = Session(make())
        pipe.send_bytes(pack({"metadata": session.metadata}))
    except Exception as error:
        if not isinstance(error, (ValueError, ImportError)):  # which say all that there is to say
            traceback.print_exc()
        pipe.send_bytes(pack({"failure": f"{type(error).__name__}: {error}"}))
        return
    while True:
        try:
            request = unpack(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        if request.get("type") == "close":
            session.steps = None
            session.environment.close()
            continue
        pipe.send_bytes(pack(session.answer(request)))


class Server:
    def __init__(self, make, num_envs, token, name):
        context = multiprocessing.get_context("spawn")
        self.token, self.name = token, name
        self.driven = False
        self.pipes, self.processes = [], []
        for _ in range(num_envs):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(make, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        greetings = []
        for pipe in self.pipes:
            try:
                greetings.append(unpack(pipe.recv_bytes()))
            except (EOFError, OSError):
                greetings.append({"failure": "its process ended"})
            if "failure" in greetings[-1]:
                self.stop()
                raise SystemExit(f"cannot make the environment: {greetings[-1]['failure']}")
        self.metadata = {
            "protocol": PROTOCOL,
            "version": VERSION,
            "server": name,
            "num_envs": num_envs,
            **greetings[0]["metadata"],
        }

    def stop(self):
        for process in self.processes:
            process.terminate()

    async def speak(self, socket):
        from websockets.exceptions import ConnectionClosed

        if self.driven:
            await socket.send(pack({"protocol": PROTOCOL, "version": VERSION, "server": self.name, "busy": True}))
            await socket.close(1013, "another client drives this server")
            return
        self.driven = True
        loop = asyncio.get_running_loop()
        running = [False] * len(self.pipes)
        try:
            for env, pipe in enumerate(self.pipes):
                loop.add_reader(pipe.fileno(), self.forward, loop, socket, env, running)
            await socket.send(pack(self.metadata))
            async for frame in socket:
                if await self.request(socket, frame, running):
                    return
        except ConnectionClosed:
            pass
        finally:
            # what is still being done belongs to nobody
            while any(running):
                await asyncio.sleep(0.002)
            for pipe in self.pipes:
                loop.remove_reader(pipe.fileno())
                if pipe.fileno() >= 0:
                    try:
                        pipe.send_bytes(pack({"type": "close"}))
                    except OSError:
                        pass
            self.driven = False

    def forward(self, loop, socket, env, running):
        try:
            reply = self.pipes[env].recv_bytes()
        except (EOFError, OSError):
            loop.remove_reader(self.pipes[env].fileno())
            running[env] = False
            print(f"environment {env}: its process ended", file=sys.stderr, flush=True)
            loop.create_task(socket.close(1011, f"the process of environment {env} ended"))
            return
        running[env] = False
        loop.create_task(self.send(socket, reply))

    async def send(self, socket, reply):
        from websockets.exceptions import ConnectionClosed

        try:
            await socket.send(reply)
        except ConnectionClosed:
            pass

    async def request(self, socket, frame, running):
        """Passes a request on; True once the client said good-bye."""

        async def refuse(code, message, request=None):
            about = request if isinstance(request, dict) else {}
            await socket.send(
                pack({"type": "error", "id": about.get("id"), "env": about.get("env", 0), "code": code, "message": message})
            )

        if isinstance(frame, str):
            await refuse("BAD_MESSAGE", "expected a binary frame of msgpack, found a text frame")
            return False
        try:
            request = unpack(frame)
        except ValueError as error:
            await socket.send(f"expected msgpack: {error}")
            await socket.close(1007, "a frame that cannot be decoded")
            return True
        if not isinstance(request, dict) or not isinstance(request.get("id"), int):
            await refuse("BAD_MESSAGE", "expected a map with type and id")
            return False
        env = request.get("env", 0)
        if not isinstance(env, int) or not 0 <= env < len(self.pipes):
            await refuse("UNKNOWN_ENV", f"expected env from 0 to {len(self.pipes) - 1}, found {env!r}", request)
            return False
        if request.get("type") == "close":
            await socket.send(pack({"type": "closed", "id": request["id"], "env": env}))
            return True
        if running[env]:
            await refuse("OUT_OF_ORDER", f"environment {env} has not answered the request before", request)
            return False
        running[env] = True
        self.pipes[env].send_bytes(frame)
        return False

    def admit(self, connection, request):
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if request.headers.get("Origin") is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, "no web page may drive this server\n")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "expected Authorization: Bearer TOKEN\n")
        return None

    async def run(self, host, port):
        from websockets.asyncio.server import serve as listen

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with listen(
            self.speak, host, port, compression=None, max_size=LARGEST_FRAME, ping_interval=None, process_request=self.admit
        ) as server:
            actual = next(iter(server.sockets)).getsockname()[1]
            print(f"serving {self.metadata['name']} at ws://{host}:{actual}", flush=True)
            await stop.wait()
        self.stop()


def add_arguments(parser):
    """--host, --port, --token and --num-envs, for programs that call `serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one (default %(default)s)")
    parser.add_argument("--token", default="", help="that clients must show; needed for other addresses than this machine")
    parser.add_argument("--num-envs", type=int, default=1, help="environments, each a process (default %(default)s)")


def serve(make, host="127.0.0.1", port=8765, token="", num_envs=1, name="remote_environment.py"):
    """Serves `num_envs` environments made by `make` (picklable: a class, or functools.partial of one), until a signal."""
    if num_envs < 1:
        raise SystemExit(f"--num-envs: expected at least 1, found {num_envs}")
    if not token and host not in ("127.0.0.1", "::1", "localhost"):
        raise SystemExit(f"--host {host}: expected a --token for other addresses than this machine's")
    server = Server(make, num_envs, token, name)
    try:
        asyncio.run(server.run(host, port))
    except OSError as error:
        server.stop()
        raise SystemExit(f"cannot listen on {host}:{port}: {error.strerror}") from None


class Walk(Environment):
    """An example: a dot on a line should reach a flag. `python3 remote_environment.py` serves it."""

    def __init__(self, image_size=32, slow_ms=0.0):
        self.image_size, self.slow_ms = image_size, slow_ms

    def metadata(self):
        return {
            "name": "walk",
            "instruction": "walk to the flag",
            "control_hz": 10,
            "max_steps": 30,
            "action": {"size": 1, "low": [-1.0], "high": [1.0], "idle": [0.0], "names": ["stride"]},
            "cameras": {"top": [self.image_size] * 2, "side": [self.image_size] * 2},
            "states": {"position": 1},
            "capabilities": ["seed", "expert", "concern", "render"],
            "disruptions": [],
        }

    def reset(self, seed, options):
        random = np.random.default_rng(seed)
        self.position, self.flag = 0.0, float(random.uniform(0.5, 0.9)) * (1 if random.random() < 0.5 else -1)
        self.instruction = options.get("instruction") or "walk to the flag"
        return self.look()

    def step(self, action):
        time.sleep(self.slow_ms / 1000)
        self.position = max(-1.0, min(1.0, self.position + 0.1 * float(action[0])))
        return self.look()

    def look(self):
        there = abs(self.flag - self.position) < 0.05
        wrong_way = abs(self.flag - self.position) > abs(self.flag) + 0.2
        return {
            "obs": {
                "top_image": self.picture(self.image_size, self.image_size),
                "side_image": self.picture(self.image_size, self.image_size),
                "position": np.array([self.position], np.float32),
            },
            "instruction": self.instruction,
            "terminated": there,
            "success": there,
            "outcome": "success" if there else "",
            "concern": "off course" if wrong_way else None,
            "expert_action": np.array([max(-1.0, min(1.0, 10 * (self.flag - self.position)))], np.float32),
            "facts": {"side": "right" if self.flag > 0 else "left"},
        }

    def picture(self, height, width):
        picture = np.full((height, width, 3), 40, np.uint8)
        for place, color in ((self.flag, (60, 200, 60)), (self.position, (250, 250, 250))):
            column = min(width - 1, math.floor((place + 1) / 2 * width))
            picture[height // 4 : -(height // 4), max(0, column - 1) : column + 2] = color
        return picture

    def render(self, size):
        return self.picture(size, size)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(arguments)
    arguments.add_argument("--image-size", type=int, default=32, help="pixels of its pictures (default %(default)s)")
    arguments.add_argument("--slow-ms", type=float, default=0, help="milliseconds that a step takes (default %(default)s)")
    given = arguments.parse_args()
    if not 16 <= given.image_size <= 1024:
        arguments.error(f"--image-size: expected 16 to 1024, found {given.image_size}")
    serve(functools.partial(Walk, given.image_size, max(0.0, given.slow_ms)), given.host, given.port, given.token, given.num_envs)
