# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Fixtures: every test that takes `backend`, directly or through another fixture, runs on both.

    server          a shared server with /echo, two shards, no compression
    deflate_server  the same with --compress on
    shared_server   factory of shared servers by flags: one process per backend and flags
    new_server      factory of servers of the test's own, to be killed or drained
    certs           certificates (certs.Store)
    tls_server      a shared server with TLS, by an ECDSA and an RSA certificate
    browser         headless Chromium, its tabs closed after each test
"""

import ssl

import pytest

import wire
from certs import Store
from harness import BACKENDS, Server
from webdriver import Browser

COMMON = ("--echo", "--shards", "2", "--drain-time", "0")


def pytest_addoption(parser):
    parser.addoption("--backend", choices=BACKENDS, help="run on one backend only")
    parser.addoption("--tls", action="store_true", help="servers are talked to over TLS")


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        only = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend", [only] if only else list(BACKENDS), scope="session")


def start_server(store, backend, *flags, **how):
    """With a store, a server that is talked to over TLS."""
    if store is None:
        return Server(backend, *flags, **how)
    server = Server(backend, *flags, "--tls-port", "0", *store.ecdsa.flags(), **how)
    server.port = server.tls_port
    wire.TLS_PORTS[server.port] = (client_context(store), "localhost")
    return server


class Pool:
    """Servers that tests share, by backend and flags; with `store` all of them over TLS."""

    def __init__(self, store=None):
        self.servers = {}
        self.store = store

    def get(self, backend, flags):
        key = (backend, flags)
        if key not in self.servers:
            self.servers[key] = start_server(self.store, backend, *flags)
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


def client_context(store):
    """Of a client that trusts the tests' authority."""
    return ssl.create_default_context(cafile=store.authority.file)


@pytest.fixture(scope="session")
def certs():
    store = Store()
    yield store
    store.close()


@pytest.fixture(scope="session")
def tls_store(request):
    """None without --tls."""
    return request.getfixturevalue("certs") if request.config.getoption("--tls") else None


@pytest.fixture(scope="session")
def pool(tls_store):
    p = Pool(tls_store)
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
def tls_server(shared_server, certs):
    return shared_server("--tls-port", "0", *certs.ecdsa.flags(), *certs.rsa.flags(), "--page", "on")


@pytest.fixture
def deflate_server(shared_server):
    return shared_server("--compress", "on", "--compress-min", "0")


@pytest.fixture
def new_server(backend, tls_store):
    servers = []

    def start(*flags, **how):
        servers.append(start_server(tls_store, backend, *flags, **how))
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
