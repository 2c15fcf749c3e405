# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Clients that people use: Debian's python3-websockets, the ws package of Node, Chromium."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import websockets

from harness import binary

NODE_DIR = Path(__file__).resolve().parent / "node"
TALK = ["Grüße", b"\x00\x01\xfe\xff", "", "x" * 60000]


def the_server(shared_server, compress):
    return shared_server("--compress", compress, "--page", "on")


@pytest.fixture(params=["off", "on"])
def compress(request):
    return request.param


# python3-websockets -------------------------------------------------------------------------------

def test_python_websockets_talk_in_a_room(shared_server, compress):
    url = f"ws://127.0.0.1:{the_server(shared_server, compress).port}/rooms/python"

    async def talk():
        async with websockets.connect(url) as a, websockets.connect(url) as b:
            names = [e.name for e in a.extensions]
            assert names == (["permessage-deflate"] if compress == "on" else [])
            await (await b.ping())
            await b.send("I am here")
            assert await b.recv() == "I am here"
            await a.send("me too")
            while await a.recv() != "me too":
                pass
            assert await b.recv() == "me too"
            for message in TALK:
                await a.send(message)
                assert await a.recv() == message
                assert await b.recv() == message
            await a.send(["frag", "men", "ted"])
            assert await a.recv() == "fragmented"
            assert await b.recv() == "fragmented"
            await (await a.ping(b"payload"))
            await b.close(4001, "done")
            assert b.close_code == 4001

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_python_websockets_see_the_close_code_of_a_violation(shared_server, compress):
    url = f"ws://127.0.0.1:{the_server(shared_server, compress).port}/rooms/python"

    async def talk():
        async with websockets.connect(url, compression=None) as a:
            await a.send("x" * 70000)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await a.recv()
            assert closed.value.code == 1009

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_many_python_websockets_see_one_order(shared_server, compress):
    url = f"ws://127.0.0.1:{the_server(shared_server, compress).port}/rooms/order"

    async def member(number, ready, everyone):
        async with websockets.connect(url, max_queue=None) as c:
            await c.send(f"join:{number}")
            while await c.recv() != f"join:{number}":
                pass
            ready.append(number)
            while len(ready) < 20:
                await asyncio.sleep(0.01)
            for i in range(10):
                await c.send(f"{number}:{i}")
            got = []
            while len(got) < 200:
                message = await c.recv()
                got += [] if message.startswith("join:") else [message]
            everyone.append(got)

    async def talk():
        ready, everyone = [], []
        await asyncio.gather(*(member(n, ready, everyone) for n in range(20)))
        return everyone

    everyone = asyncio.run(asyncio.wait_for(talk(), 60))
    assert len(everyone) == 20 and all(order == everyone[0] for order in everyone)
    assert sorted(everyone[0]) == sorted(f"{n}:{i}" for n in range(20) for i in range(10))


# Node ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def node_modules():
    """The ws package, installed once beside the binary."""
    cache = Path(os.environ.get("TW_NODE_CACHE", Path(binary()).parent / "e2e-node"))
    lock = NODE_DIR / "package-lock.json"
    stamp = cache / "installed-lock.json"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        cache.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_DIR / name, cache / name)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=cache,
                       check=True, timeout=120, stdin=subprocess.DEVNULL)
        shutil.copy(lock, stamp)
    return cache / "node_modules"


def test_node_ws_clients_talk_in_a_room(shared_server, compress, node_modules):
    url = f"ws://127.0.0.1:{the_server(shared_server, compress).port}/rooms/node"
    done = subprocess.run(["node", str(NODE_DIR / "talk.js"), url, compress], text=True, timeout=60,
                          env={**os.environ, "NODE_MODULES": str(node_modules)},
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["same"]
    assert said["short"] == ["text:Grüße", "binary:0001feff", "text:", "text:fragmented"]
    assert said["long"] == len("text:") + 60000
    assert (said["pong"], said["code"]) == ("payload", 4001)
    assert said["extensions"] == ("permessage-deflate" if compress == "on" else "")


# Chromium -----------------------------------------------------------------------------------------

BROWSER_TALK = """
    const done = arguments[arguments.length - 1];
    const open = () => new Promise((resolve, reject) => {
      const s = new WebSocket(`ws://${location.host}/rooms/browser`);
      s.binaryType = 'arraybuffer';
      s.received = [];
      s.onmessage = (e) => s.received.push(typeof e.data === 'string' ? 'text:' + e.data :
          'binary:' + Array.from(new Uint8Array(e.data)).join());
      s.onopen = () => resolve(s);
      s.onerror = () => reject(new Error('refused'));
    });
    const until = async (check) => {
      while (!check())
        await new Promise((resolve) => setTimeout(resolve, 10));
    };
    (async () => {
      const a = await open();
      const b = await open();
      b.send('join b');
      await until(() => b.received.includes('text:join b'));
      a.send('join a');
      await until(() => [a, b].every((s) => s.received.includes('text:join a')));
      a.received.length = b.received.length = 0;
      a.send('Grüße');
      a.send(new Uint8Array([0, 1, 254, 255]));
      a.send('');
      a.send('x'.repeat(60000));
      await until(() => a.received.length === 4 && b.received.length === 4);
      const closed = new Promise((resolve) => { a.onclose = resolve; });
      a.close(4001, 'done');
      const event = await closed;
      b.close();
      return {short: b.received.slice(0, 3), long: b.received[3].length, code: event.code,
              clean: event.wasClean, extensions: a.extensions};
    })().then(done, (e) => done(String(e)));
"""


def test_chromium_talks_in_a_room(shared_server, compress, browser):
    server = the_server(shared_server, compress)
    tab = browser.open(f"http://127.0.0.1:{server.port}/?room=unused")
    said = tab.run_async(BROWSER_TALK)
    assert isinstance(said, dict), said
    assert said["short"] == ["text:Grüße", "binary:0,1,254,255", "text:"]
    assert said["long"] == len("text:") + 60000
    assert (said["code"], said["clean"]) == (4001, True)
    assert said["extensions"].startswith("permessage-deflate") == (compress == "on")
