# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The figures of rooms over several nodes, each with the way it is measured; figures.py lists them.
Redis is a real server that only this measurement uses, over its socket file."""

import contextlib
import subprocess
import threading
import time

import load
from figures import MEMBERS, hurried, instructions_each, started
from nodes import Member
from peers import until
from redis_servers import RedisServer
from wire import BINARY, Client, frame

PAYLOAD = 125
NO_MASK = b"\0\0\0\0"
LATENCY_RATE, LATENCY_S = 5000, 3
CPU_MESSAGES, CPU_WINDOW, CPU_PAIRS = 200_000, 64, 3
RESUBSCRIBED = 100_000


@contextlib.contextmanager
def nodes(backend, count, redis, *flags):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(backend, "--shards", "1", "--drain-time", "0",
                                               "--redis", redis.unix_url, *flags))
                   for _ in range(count)]
        for s in servers:
            assert until(lambda s=s: s.get("/health/ready")[0] == 200), s.log()
        yield servers


def fanout_ratio():
    """Instructions per delivery with Redis behind the room, to those without."""
    with RedisServer() as redis:
        behind = instructions_each("fanout", MEMBERS, 1, 20, 220, "--redis", redis.unix_url)
    return behind / instructions_each("fanout", MEMBERS, 1, 20, 220)


def latency_p99_ms(backend):
    """From the call that sends on one node to the bytes at a member of the other, at a steady rate;
    one process on both ends, so that one clock counts. Hurried, as other programs are not what is
    meant."""
    total = LATENCY_RATE * LATENCY_S
    sent, got = [0] * total, [0] * total
    size = PAYLOAD + 2

    def read(sock):
        data, i = b"", 0
        while i < total:
            data += sock.recv(1 << 16)
            now = time.perf_counter_ns()
            while len(data) >= size:
                got[i] = now
                i, data = i + 1, data[size:]

    with hurried(), RedisServer() as redis, nodes(backend, 2, redis) as (a, b), \
            Client(a.port, "/rooms/l?echo=0") as here, Client(b.port, "/rooms/l?echo=0") as there:
        reader = threading.Thread(target=read, args=(there.sock,))
        reader.start()
        out = frame(BINARY, b"x" * PAYLOAD, mask=NO_MASK)
        begin = time.perf_counter_ns()
        for i in range(total):
            while time.perf_counter_ns() < begin + i * 1_000_000_000 // LATENCY_RATE:
                time.sleep(0.0001)
            sent[i] = time.perf_counter_ns()
            here.sock.sendall(out)
        reader.join()
    return sorted(t - s for s, t in zip(sent, got))[total * 99 // 100] / 1e6


def cpu_of_redis(backend):
    """Seconds that Redis takes for the messages of one node to another, in windows."""
    with RedisServer() as redis, nodes(backend, 2, redis, "--max-queue", "64MiB") as (a, b), \
            Client(a.port, "/rooms/l?echo=0") as here, Client(b.port, "/rooms/l?echo=0") as there:
        window = frame(BINARY, b"x" * PAYLOAD, mask=NO_MASK) * CPU_WINDOW
        before = redis.cpu_seconds()
        for _ in range(CPU_MESSAGES // CPU_WINDOW):
            here.sock.sendall(window)
            have = 0
            while have < (PAYLOAD + 2) * CPU_WINDOW:
                have += len(there.sock.recv(1 << 20))
        return redis.cpu_seconds() - before


def cpu_of_benchmark():
    """The same for redis-benchmark's PUBLISH: as many bytes, as many subscribers, as many at once."""
    with RedisServer() as redis:
        subscribers = [redis.connect() for _ in range(2)]

        def swallow(sock):
            with contextlib.suppress(OSError):
                while sock.recv(1 << 20):
                    pass

        for s in subscribers:
            s.send("SUBSCRIBE", "tidewire:l")
            threading.Thread(target=swallow, args=(s.sock,), daemon=True).start()
        before = redis.cpu_seconds()
        subprocess.run(["redis-benchmark", "-s", redis.path, "-n", str(CPU_MESSAGES), "-c", "1",
                        "-P", str(CPU_WINDOW), "-q", "PUBLISH", "tidewire:l",
                        "x" * (PAYLOAD + 26)], stdout=subprocess.DEVNULL, check=True, timeout=120)
        return redis.cpu_seconds() - before


def cpu_ratio():
    """Pairs in turn, so that what else the machine does hits both; the sums are compared."""
    ours = theirs = 0.0
    for i in range(CPU_PAIRS):
        theirs += cpu_of_benchmark()
        ours += cpu_of_redis(("epoll", "uring")[i % 2])
    return ours / theirs


def resubscribe_s(count=RESUBSCRIBED):
    """From Redis' first answer after a restart until it has confirmed all rooms, each with one
    member; one of them is published into meanwhile, and nothing of that is lost."""
    flags = ("--pin", "off", "--ping-interval", "0")
    with RedisServer() as redis, started("uring", "--shards", "6", "--redis", redis.unix_url,
                                         "--drain-time", "0", *flags) as server, \
            nodes("uring", 1, redis) as (other,):
        confirmed = lambda: server.metric("tidewire_redis_subscriptions_confirmed")
        crowd = subprocess.Popen([load.program(), "idle", "--url", f"ws://127.0.0.1:{server.port}/rooms/r{{n}}",
                                  "--connections", str(count), "--duration", "10m", "--threads",
                                  "6"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert until(lambda: confirmed() == count, 120), confirmed()
            speaker, hearer = Member(server, "r5", "a"), Member(other, "r5", "b")
            hearer.wait_for(speaker.say())
            redis.kill()
            assert until(lambda: server.metric("tidewire_redis_pairs_up") == 0)
            redis.start()
            begin = time.monotonic()
            assert until(lambda: server.metric("tidewire_redis_pairs_up") == 6, 20)
            assert until(lambda: other.get("/health/ready")[0] == 200)
            while confirmed() < count:
                speaker.say()
                assert time.monotonic() < begin + 60
            took = time.monotonic() - begin
            hearer.wait_for(speaker.say())
            assert hearer.got == [m for m in speaker.got if m in set(hearer.got)]
            assert len(hearer.got) >= speaker.sent - 1
            speaker.close()
            hearer.close()
        finally:
            crowd.kill()
            crowd.wait()
    return took
