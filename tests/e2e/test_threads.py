# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""All shards at work on each other's rooms, and a drain in the midst of it; meant for the server
built with ThreadSanitizer, whose first report ends it. TW_THREADS_SECONDS is the load's length."""

import os

from mixed import Mixed, start_all
from peers import check_gauges

SECONDS = float(os.environ.get("TW_THREADS_SECONDS", "3"))
FLAGS = ("--echo", "--shards", "4", "--compress", "on", "--compress-min", "100B", "--max-message",
         "1MiB", "--ping-interval", "300ms", "--pong-timeout", "1s", "--tcp-sndbuf", "64KiB",
         "--mesh-slots", "16", "--mesh-window", "64KiB", "--close-timeout", "1s")
LIMITS = ("--max-connections-per-ip", "100", "--connect-rate", "100000", "--message-rate", "100000",
          "--connect-rate-per-ip", "100000", "--byte-rate", "1GiB")


def test_four_shards_share_rooms_and_drain_in_the_midst_of_it(new_server):
    server = new_server(*FLAGS, *LIMITS, "--drain-time", "500ms")
    load = Mixed(server)
    start_all(load)
    load.wait(SECONDS)
    load.may_end = True
    server.terminate()
    load.wait(0.8)
    load.stop()
    server.stop()


def test_four_shards_share_rooms_until_all_have_left(new_server):
    server = new_server(*FLAGS, "--drain-time", "0")
    load = Mixed(server, seed=2)
    start_all(load)
    load.wait(SECONDS)
    load.stop()
    check_gauges(server)
