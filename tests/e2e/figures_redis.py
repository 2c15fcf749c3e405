# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The figures of rooms over several nodes, each with the way it is measured; figures.py lists them.
Redis is a real server that only this measurement uses, over its socket file."""

import contextlib
import re
import signal
import statistics
import subprocess
import tempfile
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
CPU_MESSAGES, CPU_PAIRS = 100_000, 5
WORK_MESSAGES = 2048
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


def messages_of_nodes(backend, redis, count, window, cost):
    """What `cost` grows by for that many messages of one node to another, so many at once."""
    with nodes(backend, 2, redis, "--max-queue", "64MiB") as (a, b), \
            Client(a.port, "/rooms/l?echo=0") as here, Client(b.port, "/rooms/l?echo=0") as there:
        out = frame(BINARY, b"x" * PAYLOAD, mask=NO_MASK) * window
        before = cost()
        for _ in range(count // window):
            here.sock.sendall(out)
            have = 0
            while have < (PAYLOAD + 2) * window:
                have += len(there.sock.recv(1 << 20))
        return cost() - before


def messages_of_benchmark(redis, count, window, cost):
    """The same for redis-benchmark's PUBLISH: as many bytes, as many subscribers, as many at once."""
    subscribers = [redis.connect() for _ in range(2)]

    def swallow(sock):
        with contextlib.suppress(OSError):
            while sock.recv(1 << 20):
                pass

    for s in subscribers:
        s.send("SUBSCRIBE", "tidewire:l")
        threading.Thread(target=swallow, args=(s.sock,), daemon=True).start()
    before = cost()
    subprocess.run(["redis-benchmark", "-s", redis.path, "-n", str(count), "-c", "1", "-P",
                    str(window), "-q", "PUBLISH", "tidewire:l", "x" * (PAYLOAD + 26)],
                   stdout=subprocess.DEVNULL, check=True, timeout=120)
    return cost() - before


def cpu_ratio(window):
    """CPU time of Redis. Pairs in turn, so that what else the machine does hits both; the medians
    are compared."""
    ours, theirs = [], []
    for i in range(CPU_PAIRS):
        with RedisServer() as redis:
            theirs.append(messages_of_benchmark(redis, CPU_MESSAGES, window, redis.cpu_seconds))
        with RedisServer() as redis:
            ours.append(messages_of_nodes(("epoll", "uring")[i % 2], redis, CPU_MESSAGES, window,
                                          redis.cpu_seconds))
    return statistics.median(ours) / statistics.median(theirs)


class CountedRedis(RedisServer):
    """Under callgrind, which counts its instructions."""

    def __init__(self):
        self.counts = tempfile.TemporaryDirectory(prefix="tw-callgrind-")
        super().__init__(prefix=("valgrind", "--tool=callgrind", "-q",
                                 f"--callgrind-out-file={self.counts.name}/out"))

    def instructions(self):
        """Ends it. Of all its life."""
        self.connect().send("SHUTDOWN", "NOSAVE")
        self.process.wait(20)
        with open(f"{self.counts.name}/out", encoding="latin-1") as f:
            return int(re.search(r"^summary: (\d+)", f.read(), re.M).group(1))

    def stop(self):
        super().stop()
        self.counts.cleanup()


def instructions_of_redis(drive, *args):
    """A message, by the difference of two runs: `drive` takes the server, how many, and args."""
    counts = []
    for messages in (WORK_MESSAGES, 3 * WORK_MESSAGES):
        with CountedRedis() as redis:
            drive(redis, messages, *args, lambda: 0)
            counts.append(redis.instructions())
    return (counts[1] - counts[0]) / (2 * WORK_MESSAGES)


def work_ratio(window):
    """Instructions of Redis."""
    ours = instructions_of_redis(lambda *args: messages_of_nodes("epoll", *args), window)
    return ours / instructions_of_redis(messages_of_benchmark, window)


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


# The price of connections -------------------------------------------------------------------------

def spread(redis, count, connections, batch, nodes_each, cost):
    """What `cost` grows by for messages that come by so many connections, each with so many at once
    in a room of its own, which so many others subscribe to."""
    rooms = [f"tidewire:{i}" for i in range(connections)]
    publishers = [redis.connect() for _ in rooms]
    subscribers = [(redis.connect(), room) for room in rooms for _ in range(nodes_each)]
    for s, room in subscribers:
        s.call("SUBSCRIBE", room)
    payload = "x" * (PAYLOAD + 26)
    out = [b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
           (len(room), room.encode(), len(payload), payload.encode()) for room in rooms]
    pushed = [len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
                  (len(room), room.encode(), len(payload), payload.encode())) for _, room in
              subscribers]
    waiting = [(p.sock, 4 * batch) for p in publishers] + \
        [(s.sock, size * batch) for (s, _), size in zip(subscribers, pushed)]
    before = cost()
    for _ in range(count // (connections * batch)):
        redis.pause()  # so that all of it is there when Redis looks
        for p, command in zip(publishers, out):
            p.sock.sendall(command * batch)
        redis.resume()
        for sock, size in waiting:
            while size > 0:
                size -= len(sock.recv(1 << 16))
    return cost() - before


class Traced(RedisServer):
    """Its system calls are counted by strace from the first call of calls() to the second."""

    trace = None

    def calls(self):
        with_file = f"{self.directory}/calls"
        if self.trace is None:
            self.trace = subprocess.Popen(["strace", "-f", "-c", "-o", with_file, "-p",
                                           str(self.process.pid)], stderr=subprocess.PIPE)
            self.trace.stderr.readline()  # attached
            return 0
        self.trace.send_signal(signal.SIGINT)
        self.trace.communicate(timeout=20)
        with open(with_file, encoding="ascii") as f:
            return int(f.read().splitlines()[-1].split()[3])


def print_prices():
    """What a message costs Redis: a line for each way to spread messages over connections and
    nodes."""
    ways = [(c, 16 // c, 2) for c in (1, 2, 4, 8, 16)] + [(c, 16, 2) for c in (2, 4, 8)]
    ways += [(1, 16, n) for n in (1, 4, 8, 16, 33)] + [(16, 1, n) for n in (4, 33)]
    print("| connections | at once on each | nodes | system calls | instructions | µs of CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in ways:
        with Traced() as redis:
            calls = spread(redis, WORK_MESSAGES, *way, redis.calls) / WORK_MESSAGES
        work = instructions_of_redis(spread, *way)
        cpu = []
        for _ in range(CPU_PAIRS):
            with RedisServer() as redis:
                cpu.append(spread(redis, 8192, *way, redis.cpu_seconds) / 8192)
        print("| %d | %d | %d " % way + f"| {calls:.2f} | {work:.0f} "
              f"| {statistics.median(cpu) * 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    print_prices()
