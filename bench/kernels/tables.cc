/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The hash map of channels and the timer wheel. Names read what/objects; an item is one operation.
 * One thread. */

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

extern "C" {
#define _Noreturn [[noreturn]] /* C11's keyword in the headers */
#include "core/map.h"
#include "core/wheel.h"
#undef _Noreturn
}

namespace
{

bytes key_of(const void *object)
{
    auto *name = static_cast<const std::string *>(object);
    return {reinterpret_cast<uint8_t *>(const_cast<char *>(name->data())), name->size()};
}

/* Channels in a map, and the order in which they are asked for. */
struct channels {
    std::vector<std::string> names;
    std::vector<uint32_t> order;
    map table;

    explicit channels(size_t count)
    {
        std::minstd_rand random(1);
        map_init(&table, key_of, 42);
        for (size_t i = 0; i < count; i++)
            names.push_back("room:" + std::to_string(i * 7919));
        for (auto &name : names)
            if (map_insert(&table, &name) != 0)
                abort();
        for (int i = 0; i < 4096; i++)
            order.push_back(static_cast<uint32_t>(random() % count));
    }
    ~channels()
    {
        map_deinit(&table);
    }
};

void map_hit(benchmark::State &state)
{
    channels c(static_cast<size_t>(state.range(0)));
    size_t i = 0;

    for (auto _ : state) {
        const auto &name = c.names[c.order[i++ & 4095]];
        benchmark::DoNotOptimize(map_find(&c.table, name.data(), name.size()));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(map_hit)->Arg(16)->Arg(1000)->Arg(100000);

void map_miss(benchmark::State &state)
{
    channels c(static_cast<size_t>(state.range(0)));
    std::string name = "nobody:00000000";
    uint64_t i = 0;

    for (auto _ : state) {
        i++;
        memcpy(&name[7], &i, 8);
        benchmark::DoNotOptimize(map_find(&c.table, name.data(), name.size()));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(map_miss)->Arg(1000)->Arg(100000);

/* A channel goes and comes again. */
void map_remove_insert(benchmark::State &state)
{
    channels c(static_cast<size_t>(state.range(0)));
    size_t i = 0;

    for (auto _ : state) {
        const auto &name = c.names[c.order[i++ & 4095]];
        void *object = map_remove(&c.table, name.data(), name.size());
        if (object == nullptr || map_insert(&c.table, object) != 0)
            abort();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(map_remove_insert)->Arg(1000)->Arg(100000);

constexpr uint64_t tick_ns = 100 * 1000000ULL;

/* A connection's deadline moves with every message. */
void wheel_rearm(benchmark::State &state)
{
    std::vector<wheel_timer> timers(static_cast<size_t>(state.range(0)));
    std::minstd_rand random(1);
    wheel w;
    size_t i = 0;

    wheel_init(&w, tick_ns, 0);
    for (auto _ : state) {
        wheel_arm(&w, &timers[i], random() % (25 * NS_PER_SEC));
        i = i + 1 == timers.size() ? 0 : i + 1;
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(wheel_rearm)->Arg(1000)->Arg(100000);

struct firing {
    wheel w;
    uint64_t now_ns = 0;
};

void fire_again(void *ctx, wheel_timer *t)
{
    auto *f = static_cast<firing *>(ctx);
    wheel_arm(&f->w, t, f->now_ns + 25 * NS_PER_SEC);
}

/* Heartbeats of so many connections: each tick fires its share, which arms itself anew. */
void wheel_heartbeats(benchmark::State &state)
{
    std::vector<wheel_timer> timers(static_cast<size_t>(state.range(0)));
    firing f;
    int64_t fired = 0;

    wheel_init(&f.w, tick_ns, 0);
    for (size_t i = 0; i < timers.size(); i++)
        wheel_arm(&f.w, &timers[i], 25 * NS_PER_SEC * i / timers.size());
    for (auto _ : state) {
        f.now_ns += tick_ns;
        fired += wheel_advance(&f.w, f.now_ns, fire_again, &f);
    }
    state.SetItemsProcessed(fired);
}
BENCHMARK(wheel_heartbeats)->Arg(1000)->Arg(100000);

} // namespace

BENCHMARK_MAIN();
