# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Start-up while any one allocation or system call fails: the server either starts and works, or
says why in one line and leaves with an exit code of its own."""

import errno
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults import Faults
from harness import SANITIZER_MARKS, binary, parse_logfmt, port_of
from wire import TEXT, Client

FLAGS = ("--echo", "--shards", "2", "--drain-time", "0", "--compress", "on", "--proxy-from",
         "10.0.0.0/8")
EXIT_CODES = (1, 3, 4, 5, 6)
LIMIT_S = 20.0

CALLS = {
    "heap": errno.ENOMEM, "mmap": errno.ENOMEM, "epoll_create": errno.EMFILE,
    "epoll_ctl": errno.ENOSPC, "socket": errno.EMFILE, "bind": errno.EADDRINUSE,
    "listen": errno.EADDRINUSE, "setsockopt": errno.ENOBUFS, "getsockname": errno.ENOBUFS,
    "eventfd": errno.ENFILE, "fcntl": errno.EMFILE, "dup": errno.EMFILE, "fopen": errno.EMFILE,
    "getrandom": errno.EINTR, "pthread_create": errno.EAGAIN, "uring_init": errno.ENOMEM,
    "uring_register": errno.ENOMEM, "uring_probe": errno.ENOMEM, "uring_submit": errno.EAGAIN,
    "uring_accept": errno.EMFILE, "epoll_wait": errno.EINTR,
}


class Start:
    """One start of the server with `rule` failing from its n-th call on, every `every`-th."""

    def __init__(self, backend, config, rule, first, every):
        self.what = f"{rule} {first} {every}"
        self.lines = []
        self.ports = {}
        self.faults = Faults()
        self.rule = rule
        self.faults.arm(rule, first, every, CALLS[rule])
        unix = f"unix:{config}.{rule}.{first}.{every}.sock"
        argv = [binary(), "serve", "--port", "0", "--admin-address", "127.0.0.1:0", "--address",
                "127.0.0.1", "--address", unix, "--io", backend, "--config", config, *FLAGS]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **self.faults.env})
        self.timer = threading.Timer(LIMIT_S, self.process.kill)
        self.timer.start()

    def is_ready(self):
        """Reads the log until the server is ready or has left."""
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            fields = parse_logfmt(line)
            if fields.get("msg") in ("listening", "admin listening"):
                if "unix" not in fields["address"]:
                    self.ports[fields["msg"]] = port_of(fields["address"])
            if fields.get("msg") == "ready":
                return True
        return False

    def stop(self):
        """Waits for the end; the exit code."""
        if not self.process.stderr.closed:
            self.lines += self.process.stderr.read().splitlines()
            self.process.stderr.close()
        code = self.process.wait()
        self.timer.cancel()
        return code

    def check(self):
        """Returns whether the rule's call came at all, and what was wrong."""
        problem = None
        try:
            if self.is_ready():
                self.check_works()
                self.process.terminate()
                assert self.stop() == 0, self.say()
            else:
                self.check_refusal(self.stop())
        except (AssertionError, OSError) as e:
            problem = f"{self.say()}: {e!r}"
        finally:
            self.process.kill()
            self.stop()
            failed = self.faults.failed(self.rule)
            self.faults.__exit__()
        if any(mark in line for mark in SANITIZER_MARKS for line in self.lines):
            problem = self.say()
        return failed > 0, problem

    def check_works(self):
        self.faults.disarm(self.rule)
        with Client(self.ports["listening"]) as c:
            c.echo(TEXT, "hello")
        with Client(self.ports["listening"], "/rooms/start") as c:
            c.echo(TEXT, "hello")

    def check_refusal(self, code):
        assert code in EXIT_CODES, f"{self.say()}\nexit code {code}"
        errors = [line for line in self.lines if line.startswith("tidewire: ")]
        assert len(errors) == 1 and len(self.lines) == 1, self.say()

    def say(self):
        return f"{self.what} fails: {self.lines}"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tidewire.conf"
    path.write_text("max-message = 1MiB\n")
    return str(path)


def each_call(backend, config, rule, every):
    """Fails the first call, the second, and so on, until a start does not come that far."""
    problems = []
    with ThreadPoolExecutor(2) as pool:
        n = 1
        came = True
        while came:
            batch = [Start(backend, config, rule, i, every) for i in (n, n + 1)]
            results = list(pool.map(Start.check, batch))
            problems += [problem for _, problem in results if problem is not None]
            came = all(failed for failed, _ in results)
            n += 2
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("rule", CALLS)
def test_a_start_works_or_says_why_not(backend, config, rule):
    each_call(backend, config, rule, 0)


@pytest.mark.parametrize("rule", CALLS)
def test_a_start_without_what_it_needs_says_so(backend, config, rule):
    """Every call of the kind fails, from the first, the second, ... on."""
    if CALLS[rule] in (errno.EINTR, errno.EAGAIN) and rule != "pthread_create":
        every = 2
    else:
        every = 1
    each_call(backend, config, rule, every)


def test_a_socket_file_in_use_is_left_alone(backend, config, new_server):
    """The second server is refused, and the first one still has its socket."""
    path = config + ".sock"
    flags = ("--address", "127.0.0.1", "--address", f"unix:{path}", "--drain-time", "0")
    new_server(*flags)
    argv = [binary(), "serve", "--port", "0", "--admin-address", "off", "--io", backend, *flags]
    second = subprocess.run(argv, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    assert second.returncode == 4, second.stderr
    assert "in use" in second.stderr, second.stderr
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
