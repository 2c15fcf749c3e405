/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The ring between two shards, and the send queues of a channel's members. Names read
 * what/members/messages; items are ring items or deliveries. One thread: what a core's cache holds
 * already, so the least that they cost. */

#include <benchmark/benchmark.h>

#include "bench/kernels/rig.h"

namespace
{

void ring_batch(benchmark::State &state)
{
    ring_rig *r = ring_rig_new(1024);
    auto batch = static_cast<uint32_t>(state.range(0));

    for (auto _ : state)
        benchmark::DoNotOptimize(ring_rig_round(r, batch));
    state.SetItemsProcessed(state.iterations() * batch);
    ring_rig_free(r);
}
BENCHMARK(ring_batch)->Arg(1)->Arg(16)->Arg(256);

/* 125 bytes for every member, as many messages as are published in a turn, and the gathered sends
 * that follow, without the sending. */
void fanout_enqueue(benchmark::State &state)
{
    auto members = static_cast<uint32_t>(state.range(0));
    auto messages = static_cast<uint32_t>(state.range(1));
    fanout_rig *r = fanout_rig_new(members);

    for (auto _ : state) {
        fanout_rig_enqueue(r, messages, 125);
        benchmark::DoNotOptimize(fanout_rig_send(r));
    }
    state.SetItemsProcessed(state.iterations() * members * messages);
    fanout_rig_free(r);
}
BENCHMARK(fanout_enqueue)->ArgsProduct({{100, 1000, 5000}, {1, 16}});

} // namespace

BENCHMARK_MAIN();
