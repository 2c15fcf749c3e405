/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Plants one bug at a time, in a process of its own: some of them crash, which is a way of being
 * found. */

#include "tests/sim/sim_plants.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/plant.h"
#include "tests/sim/sim_nodes.h"
#include "tests/sim/sim_seed.h"

#ifdef TW_PLANT

static const char *const names[PLANT_MAX] = {
    [PLANT_SKIP_FRAME_AT_SPLIT] = "skip-frame-at-split",
    [PLANT_LOSE_BACKLOG_ITEM] = "lose-backlog-item",
    [PLANT_EARLY_UNREF] = "early-unref",
    [PLANT_REORDER_RING] = "reorder-ring",
    [PLANT_DOUBLE_DELIVERY] = "double-delivery",
    [PLANT_FORGET_REARM] = "forget-rearm",
    [PLANT_LEAK_ON_CLOSE] = "leak-on-close",
    [PLANT_FORGET_WAKE] = "forget-wake",
    [PLANT_WRONG_MASK_PHASE] = "wrong-mask-phase",
    [PLANT_STALE_INTEREST] = "stale-interest",
    [PLANT_LOSE_CREDIT] = "lose-credit",
    [PLANT_SHORT_SEND_AS_WHOLE] = "short-send-as-whole",
    [PLANT_TLS_SKIP_HEAD] = "tls-skip-head",
    [PLANT_TLS_CUT_AS_WHOLE] = "tls-cut-as-whole",
    [PLANT_TLS_NO_GOODBYE] = "tls-no-goodbye",
    [PLANT_TLS_KEEP_KEYS] = "tls-keep-keys",
    [PLANT_REDIS_FORGET_ROOM] = "redis-forget-room",
    [PLANT_REDIS_UNKNOWN_ALONE] = "redis-unknown-alone",
    [PLANT_REDIS_SMALL_GAP] = "redis-small-gap",
    [PLANT_REDIS_REPEAT] = "redis-repeat",
    [PLANT_REDIS_LOSE_CREDIT] = "redis-lose-credit",
    [PLANT_REDIS_MISS_END] = "redis-miss-end",
};

/* What the child tells, in memory that both see. */
struct finding {
    uint64_t seed; /* under way, or that found it */
    bool found;
    char failure[512];
};

void plants_list(void)
{
    for (int i = 1; i < PLANT_MAX; i++)
        printf("%s\n", names[i]);
}

static void search(struct finding *f, uint64_t from, uint64_t seeds)
{
    for (uint64_t i = 0; i < seeds; i++) {
        struct seed_result r;

        f->seed = from + i;
        if (plant_now >= PLANT_REDIS_FIRST)
            nodes_seed_run(f->seed, false, &r);
        else
            seed_run(f->seed, false, &r);
        if (r.ok)
            continue;
        snprintf(f->failure, sizeof(f->failure), "%s", r.failure);
        f->found = true;
        return;
    }
}

static bool find(enum plant plant, uint64_t from, uint64_t seeds)
{
    struct finding *f =
        mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t child;

    if (f == MAP_FAILED)
        return false;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        plant_now = plant;
        search(f, from, seeds);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        printf("FAILED: %s: no process for it\n", names[plant]);
        return false;
    }
    if (!f->found && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        f->found = true;
        snprintf(f->failure, sizeof(f->failure), "a crash (status %#x)", (unsigned)status);
    }
    if (f->found)
        printf("ok: %s found at seed %llu, number %llu: %s\n", names[plant],
               (unsigned long long)f->seed, (unsigned long long)(f->seed - from + 1), f->failure);
    else
        printf("FAILED: %s not found in %llu seeds\n", names[plant], (unsigned long long)seeds);
    status = f->found;
    munmap(f, sizeof(*f));
    return status != 0;
}

static enum plant by_name(const char *name)
{
    for (int i = 1; i < PLANT_MAX; i++) {
        if (strcmp(names[i], name) == 0)
            return (enum plant)i;
    }
    return PLANT_NONE;
}

int plants_run(const char *name, uint64_t count, uint64_t from, uint64_t seeds)
{
    uint64_t first = 0, passed = 0, failed = 0;

    if (name != NULL && strcmp(name, "all") != 0) {
        first = (uint64_t)by_name(name) - 1;
        count = 1;
        if (by_name(name) == PLANT_NONE) {
            fprintf(stderr, "no known bug is called %s; --plants lists them\n", name);
            return 2;
        }
    } else if (name != NULL || count >= PLANT_MAX - 1) {
        count = PLANT_MAX - 1;
    } else {
        first = (uint64_t)time(NULL) / 86400 * count; /* others every day */
    }
    for (uint64_t i = 0; i < count; i++) {
        if (find((enum plant)((first + i) % (PLANT_MAX - 1) + 1), from, seeds))
            passed++;
        else
            failed++;
    }
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed == 0 ? 0 : 1;
}

#else

void plants_list(void)
{
    puts("none: this build has none (TW_PLANT)");
}

int plants_run(const char *name, uint64_t count, uint64_t from, uint64_t seeds)
{
    (void)name, (void)count, (void)from, (void)seeds;
    plants_list();
    puts("0 passed, 1 failed");
    return 1;
}

#endif
