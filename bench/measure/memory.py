# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/memory: what an idle connection costs in user space and in the kernel, plain,
compressed and over TLS 1.3, and what the heartbeats of a crowd cost.

User space is what the server's private memory grows by from a few connections to many. The
kernel's is the growth of those of its caches that connections are made of, for both ends, as both
are on this machine; it says something only where nothing else opens connections. The load generator holds the connections; one of them talks once a second."""

import argparse
import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import certs
import figures
from harness import ROOT, Server
from measure import machine
from probe import private_dirty

FEW = 100
CONNECT_S = 900  # TLS handshakes take a millisecond of both ends together
KINDS = ("plain", "compressed", "TLS")
HOLD_S = 600
QUIET_S = 2.5
FREED_S, FREED_BYTES = 30, 1 << 20
CACHES = {"TCP", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq", "io_kiocb",
          "skbuff_head_cache", "skbuff_small_head"}
PAGE = os.sysconf("SC_PAGESIZE")
PER_RING = 17000  # below RLIMIT_NOFILE, which bounds each shard's table with io_uring


class Row(NamedTuple):
    backend: str
    connections: int
    kind: str
    user_bytes: float
    kernel_bytes: float
    heartbeat_cpu: float  # of one core; None: not measured


def kernel_bytes():
    """In use, of the caches in CACHES (root only), and of TCP's buffers."""
    caches = re.findall(r"^(\w+) +(\d+) +\d+ +(\d+) ", Path("/proc/slabinfo").read_text(), re.M)
    pages = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M).group(1)
    return sum(int(n) * int(size) for name, n, size in caches if name in CACHES) + int(pages) * PAGE


def wait_until_freed():
    """What the connections before took goes back in the background."""
    before = kernel_bytes()
    for _ in range(FREED_S):
        time.sleep(1)
        now = kernel_bytes()
        if before - now < FREED_BYTES:
            return
        before = now


@contextlib.contextmanager
def held(program, server, count, kind):
    """That many connections besides those that are there, open and all but silent."""
    url = f"wss://127.0.0.1:{server.tls_port}" if kind == "TLS" else f"ws://127.0.0.1:{server.port}"
    more = {"plain": (), "compressed": ("--compress", "on"), "TLS": ("--tls-insecure",)}[kind]
    wanted = server.metric("tidewire_connections") + count
    argv = [program, "echo", "--url", url, "--connections", str(count), "--rate", "1",
            "--duration", f"{HOLD_S}s", "--warmup", "0", "--progress", "off", *more]
    p = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    try:
        deadline = time.monotonic() + CONNECT_S
        while server.metric("tidewire_connections") < wanted:
            if p.poll() is not None or time.monotonic() > deadline:
                p.kill()
                raise SystemExit(f"{count} connections were not to be had: {p.communicate()[0]}")
            time.sleep(0.2)
        time.sleep(QUIET_S)
        yield
    finally:
        p.kill()
        p.communicate()


def heartbeat_cpu(server, seconds):
    begin, before = time.monotonic(), figures.cpu_ns(server)
    time.sleep(seconds)
    return (figures.cpu_ns(server) - before) / 1e9 / (time.monotonic() - begin)


def flags_of(kind, store):
    if kind == "TLS":
        return ("--tls-port", "0", *store.ecdsa.flags())
    return ("--compress", "on") if kind == "compressed" else ()


def measure(program, backend, count, kind, heartbeat_s, store):
    wait_until_freed()
    shards = -(-count // PER_RING)
    flags = ["--echo", "--shards", str(shards), "--ping-interval", f"{heartbeat_s}s"]
    server = Server(backend, *flags, *flags_of(kind, store))
    try:
        with held(program, server, FEW, kind):
            user, kernel = private_dirty(server.process.pid), kernel_bytes()
            with held(program, server, count - FEW, kind):
                user = private_dirty(server.process.pid) - user
                kernel = kernel_bytes() - kernel
                cpu = heartbeat_cpu(server, heartbeat_s) if count > PER_RING else None
    finally:
        server.kill()
    return Row(backend, count, kind, user / (count - FEW), kernel / (count - FEW), cpu)


def plan():
    for kind in KINDS:
        for backend in ("uring", "epoll"):
            yield backend, 15000, kind
        yield "uring", 100000, kind  # epoll needs a descriptor for each


def write(path, where, heartbeat_s, rows):
    """Rows that were not measured now stay, with the machine as it was then."""
    said = json.loads(path.read_text()) if path.exists() else {"rows": []}
    kept = {(r["kind"], r["backend"], r["connections"]): {"machine": said.get("machine"), **r}
            for r in said["rows"]}
    kept.update({(r.kind, r.backend, r.connections): {"machine": where, **r._asdict()}
                 for r in rows})
    text = json.dumps({"heartbeat_s": heartbeat_s, "rows": list(kept.values())}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def main():
    p = argparse.ArgumentParser(prog="bench/memory", description=__doc__)
    p.add_argument("--heartbeat", type=int, default=25, metavar="SECONDS",
                   help="--ping-interval of the server, and how long its CPU is watched")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    p.add_argument("--only", default="", metavar="TEXT",
                   help='only rows that begin so, such as "TLS" or "TLS uring 100000"')
    args = p.parse_args()
    chosen = [row for row in plan() if "{2} {0} {1}".format(*row).startswith(args.only)]
    if not chosen:
        p.error(f"no row begins with {args.only}")
    machine.end_by_sigterm()
    program = Path(os.environ["TW_BUILD"]) / "tidewire-load"
    where, rows = machine.describe(), []
    print("| io | connections | | user bytes each | kernel bytes, both ends | CPU with heartbeats |\n"
          "| --- | --- | --- | --- | --- | --- |")
    store = certs.Store()
    try:
        for backend, count, kind in chosen:
            row = measure(program, backend, count, kind, args.heartbeat, store)
            rows.append(row)
            cpu = "" if row.heartbeat_cpu is None else f"{100 * row.heartbeat_cpu:.1f} % of a core"
            print(f"| {backend} | {count} | {kind} | {row.user_bytes:.0f} | {row.kernel_bytes:.0f} | "
                  f"{cpu} |", flush=True)
    finally:
        store.close()
    write(args.out / "memory.json", where, args.heartbeat, rows)


if __name__ == "__main__":
    main()
