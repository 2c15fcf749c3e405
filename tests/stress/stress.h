/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_STRESS_STRESS_H
#define TESTS_STRESS_STRESS_H

/* What the stress programs share: arguments, a clock, random numbers, a bell that sticks, and a
 * watch that ends the process when nothing moves any more. Exit status 1 is a violation. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base.h"

#define STRESS_SHARDS_MAX 16
/* Longer than any pause that a loaded machine makes; a lost wake lasts for ever. */
#define STRESS_STALL_MS 15000

struct stress_args {
    uint32_t total_ms;
    uint32_t shards;
};

/* PROGRAM [seconds [shards]] */
static inline struct stress_args stress_parse(int argc, char **argv, uint32_t shards)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : (long)shards;
    if (argc > 3 || !(seconds >= 0.1 && seconds <= 86400) || count < 2 ||
        count > STRESS_SHARDS_MAX) {
        fprintf(stderr, "usage: %s [seconds [shards]]   (0.1..86400, 2..%d)\n", argv[0],
                STRESS_SHARDS_MAX);
        exit(2);
    }
    return (struct stress_args){.total_ms = (uint32_t)(seconds * 1000), .shards = (uint32_t)count};
}

#define STRESS_REQUIRE(x)                                                                          \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "violation: %s at %s:%d\n", #x, __FILE__, __LINE__);                   \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static inline uint64_t stress_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NS_PER_MS;
}

static inline void stress_pause_ms(uint32_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
    nanosleep(&t, NULL);
}

static inline uint32_t stress_random(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((*state >> 33) % below);
}

/* Ends one wait, also one that begins later. */
struct stress_bell {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool rung;
};

static inline void stress_bell_init(struct stress_bell *b)
{
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->cond, NULL);
    b->rung = false;
}

static inline void stress_bell_deinit(struct stress_bell *b)
{
    pthread_mutex_destroy(&b->mutex);
    pthread_cond_destroy(&b->cond);
}

static inline void stress_bell_ring(struct stress_bell *b)
{
    pthread_mutex_lock(&b->mutex);
    b->rung = true;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->mutex);
}

/* Without a timeout: a wake that is lost is never made up for. */
static inline void stress_bell_wait(struct stress_bell *b)
{
    pthread_mutex_lock(&b->mutex);
    while (!b->rung)
        pthread_cond_wait(&b->cond, &b->mutex);
    b->rung = false;
    pthread_mutex_unlock(&b->mutex);
}

/* Sees whether a counter still moves. */
struct stress_watch {
    uint64_t progress;
    uint64_t since_ms;
};

static inline void stress_watch(struct stress_watch *w, uint64_t progress, const char *what)
{
    uint64_t now = stress_now_ms();
    if (progress != w->progress || w->since_ms == 0) {
        *w = (struct stress_watch){.progress = progress, .since_ms = now};
        return;
    }
    if (now - w->since_ms > STRESS_STALL_MS) {
        fprintf(stderr, "violation: %s: nothing has moved for %d ms: a wake was lost\n", what,
                STRESS_STALL_MS);
        _Exit(1);
    }
}

#endif
