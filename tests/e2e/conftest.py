# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Fixtures: every test that takes `backend`, directly or through another fixture, runs on both.

    server          a shared server with /echo, two shards, no compression
    deflate_server  the same with --compress on
    shared_server   factory of shared servers by flags: one process per backend and flags
    new_server      factory of servers of the test's own, to be killed or drained
    browser         headless Chromium, its tabs closed after each test
"""

import pytest

from harness import BACKENDS, Server
from webdriver import Browser

COMMON = ("--echo", "--shards", "2", "--drain-time", "0")


def pytest_addoption(parser):
    parser.addoption("--backend", choices=BACKENDS, help="run on one backend only")


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        only = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend", [only] if only else list(BACKENDS), scope="session")


class Pool:
    """Servers that tests share, by backend and flags."""

    def __init__(self):
        self.servers = {}

    def get(self, backend, flags):
        key = (backend, flags)
        if key not in self.servers:
            self.servers[key] = Server(backend, *flags)
        self.check(key)
        return self.servers[key]

    def check(self, key):
        """Fails when that server is dead; the next test gets a new one."""
        server = self.servers[key]
        if not server.is_alive():
            del self.servers[key]
            server.kill()
            pytest.fail(f"the server died:\n{server.log()}")

    def stop(self):
        problems = []
        for (backend, flags), server in self.servers.items():
            try:
                server.stop()
            except AssertionError as e:
                problems.append(f"{backend} {' '.join(flags)}: {e}")
        assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def pool():
    p = Pool()
    yield p
    p.stop()


@pytest.fixture
def shared_server(pool, backend):
    used = []

    def get(*flags):
        server = pool.get(backend, (*COMMON, *flags))
        used.append((backend, (*COMMON, *flags)))
        return server

    yield get
    for key in set(used):
        pool.check(key)


@pytest.fixture
def server(shared_server):
    return shared_server("--compress", "off")


@pytest.fixture
def deflate_server(shared_server):
    return shared_server("--compress", "on", "--compress-min", "0")


@pytest.fixture
def new_server(backend):
    servers = []

    def start(*flags, **how):
        servers.append(Server(backend, *flags, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def chromium():
    b = Browser()
    yield b
    b.quit()


@pytest.fixture
def browser(chromium):
    chromium.console()
    yield chromium
    chromium.close_tabs()
