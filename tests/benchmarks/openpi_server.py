"""A server as openpi's own is built, for serving_benchmark to ask beside ours in one run.

    python tests/benchmarks/openpi_server.py 8101 &        # needs scripts/setup.sh --peers
    APO_PEER_PORT=8101 build/release/bin/serving_benchmark

As openpi's scripts/serve_policy.py (policies and serving/websocket_policy_server.py): asyncio `websockets` without compression, the
arrays of openpi-client's msgpack_numpy, metadata first, one inference at a time in the event loop, `server_timing` in the
answer. Its policy decides seven zeros, as the one that serving_benchmark serves.
"""

import asyncio
import sys
import time

import numpy as np
import websockets.asyncio.server as server
from openpi_client import msgpack_numpy


async def answer(socket):
    packer = msgpack_numpy.Packer()
    await socket.send(packer.pack({"server": "as openpi's"}))
    previous = None
    async for message in socket:
        begin = time.monotonic()
        msgpack_numpy.unpackb(message)
        started = time.monotonic()
        actions = np.zeros((1, 7), np.float32)
        timing = {"infer_ms": (time.monotonic() - started) * 1000}
        if previous is not None:
            timing["prev_total_ms"] = previous * 1000
        await socket.send(packer.pack({"actions": actions, "server_timing": timing}))
        previous = time.monotonic() - begin


async def main():
    async with server.serve(answer, "127.0.0.1", int(sys.argv[1]), compression=None, max_size=None) as running:
        await running.serve_forever()


asyncio.run(main())
