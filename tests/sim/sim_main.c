/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tidewire-sim: the whole node on a virtual network, seed by seed, against an oracle.
 *
 *     tidewire-sim --seeds N [--from S]          scenarios, then seeds S .. S+N-1, and of several
 *                                                nodes with Redis a tenth as many
 *     tidewire-sim --nodes --seed S|--seeds N    several nodes with Redis alone
 *     tidewire-sim --seed S [--verbose]          one seed, twice: the same run
 *     tidewire-sim --check-determinism N         each of N seeds twice
 *     tidewire-sim --scenarios                   the scenarios alone (also --heartbeats)
 *     tidewire-sim --plants                      lists the known bugs of a build with TW_PLANT
 *     tidewire-sim --plant NAME|all --seeds N    whether N seeds find it; N of them: --plants N
 *
 * The last line is `N passed, N failed`. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "core/simd.h"
#include "tests/sim/sim_nodes.h"
#include "tests/sim/sim_plants.h"
#include "tests/sim/sim_scenarios.h"
#include "tests/sim/sim_seed.h"

/* Seeds of a normal run that are run twice, and failures after which it stops. */
#define TWICE_SEEDS 10
#define FAILURES_MAX 10

struct arguments {
    uint64_t from;
    uint64_t seeds;
    uint64_t twice;
    uint64_t plants; /* how many; UINT64_MAX: list them */
    const char *plant;
    bool one;
    bool verbose;
    bool scenarios_only;
    bool nodes; /* several nodes with Redis */
};

struct counts {
    uint32_t passed;
    uint32_t failed;
};

static struct counts counts;

/* What the handler of crashes writes: prepared for each seed, a handler may not format. */
static char crash_text[256];
static size_t crash_text_len;

static void on_crash(int sig)
{
    (void)sig;
    if (write(STDOUT_FILENO, crash_text, crash_text_len) < 0)
        _exit(3);
    _exit(1);
}

static void prepare_crash(uint64_t seed)
{
    int n = snprintf(crash_text, sizeof(crash_text),
                     "FAILED: seed %llu (0: a scenario) crashed\n"
                     "    reproduce: tidewire-sim --seed %llu --verbose\n"
                     "%u passed, %u failed\n",
                     (unsigned long long)seed, (unsigned long long)seed, counts.passed,
                     counts.failed + 1);

    crash_text_len = min_size((size_t)n, sizeof(crash_text) - 1);
}

static void watch_crashes(void)
{
#ifndef TW_SANITIZED
    signal(SIGSEGV, on_crash);
    signal(SIGBUS, on_crash);
    signal(SIGFPE, on_crash);
#endif
    signal(SIGABRT, on_crash);
}

static void report(bool nodes, uint64_t seed, const char *failure)
{
    printf("FAILED: seed %llu: %s\n    reproduce: tidewire-sim %s--seed %llu --verbose\n",
           (unsigned long long)seed, failure, nodes ? "--nodes " : "", (unsigned long long)seed);
    fflush(stdout);
}

static void run_any(const struct arguments *a, uint64_t seed, bool verbose, struct seed_result *r)
{
    if (a->nodes)
        nodes_seed_run(seed, verbose, r);
    else
        seed_run(seed, verbose, r);
}

/* Runs a seed, or twice; returns whether all was well. */
static bool run_seed(const struct arguments *a, uint64_t seed, bool twice, struct seed_result *r)
{
    struct seed_result again;

    prepare_crash(seed);
    run_any(a, seed, a->verbose, r);
    if (!r->ok) {
        report(a->nodes, seed, r->failure);
        return false;
    }
    if (!twice)
        return true;
    run_any(a, seed, false, &again);
    if (again.ok && again.hash == r->hash && again.steps == r->steps)
        return true;
    report(a->nodes, seed, again.ok ? "two runs of it differ" : again.failure);
    return false;
}

static void run_seeds(const struct arguments *a)
{
    uint64_t begin = (uint64_t)clock(), messages = 0, users = 0, steps = 0;
    uint64_t virtual_ns = 0;
    double seconds;

    for (uint64_t i = 0; i < a->seeds && counts.failed < FAILURES_MAX; i++) {
        struct seed_result r;

        if (run_seed(a, a->from + i, i < a->twice, &r))
            counts.passed++;
        else
            counts.failed++;
        messages += r.messages;
        users += r.users;
        steps += r.steps;
        virtual_ns += r.virtual_ns;
    }
    seconds = (double)((uint64_t)clock() - begin) / CLOCKS_PER_SEC;
    printf("%llu seeds%s from %llu: %llu users, %llu messages, %llu steps, %.0f s of virtual time "
           "in %.1f s of processor time\n",
           (unsigned long long)a->seeds, a->nodes ? " of several nodes" : "",
           (unsigned long long)a->from, (unsigned long long)users, (unsigned long long)messages,
           (unsigned long long)steps, (double)virtual_ns / 1e9, seconds);
}

static void run_scenarios(const struct scenario *table)
{
    for (const struct scenario *s = table; s->name != NULL; s++) {
        char failure[512] = "";

        prepare_crash(0);
        s->run(failure, sizeof(failure));
        printf("%s: %s%s%s\n", failure[0] == '\0' ? "ok" : "FAILED", s->name,
               failure[0] == '\0' ? "" : ": ", failure);
        if (failure[0] == '\0')
            counts.passed++;
        else
            counts.failed++;
    }
    fflush(stdout);
}

static void run_one(const struct arguments *a)
{
    struct seed_result r;

    if (run_seed(a, a->from, true, &r)) {
        counts.passed++;
        printf("seed %llu: %u users, %u messages, %llu steps, %.3f s of virtual time, hash "
               "%016llx\n",
               (unsigned long long)a->from, r.users, r.messages, (unsigned long long)r.steps,
               (double)r.virtual_ns / 1e9, (unsigned long long)r.hash);
    } else {
        counts.failed++;
    }
}

/* Arguments ------------------------------------------------------------------------------------ */

static int usage(void)
{
    fputs("usage: tidewire-sim [--seeds N] [--from S] [--seed S] [--verbose] [--scenarios] "
          "[--nodes]\n"
          "                    [--check-determinism N] [--plants [N]] [--plant NAME|all]\n",
          stderr);
    return 2;
}

static bool is_number(const char *text)
{
    return text != NULL && text[0] >= '0' && text[0] <= '9';
}

static bool parse_number(char **argv, int *i, uint64_t *n)
{
    if (!is_number(argv[*i + 1]))
        return false;
    *n = strtoull(argv[++*i], NULL, 10);
    return true;
}

static bool parse_argument(struct arguments *a, char **argv, int *i)
{
    const char *arg = argv[*i];

    if (strcmp(arg, "--seeds") == 0)
        return parse_number(argv, i, &a->seeds);
    if (strcmp(arg, "--from") == 0)
        return parse_number(argv, i, &a->from);
    if (strcmp(arg, "--seed") == 0) {
        a->one = true;
        return parse_number(argv, i, &a->from);
    }
    if (strcmp(arg, "--check-determinism") == 0) {
        if (!parse_number(argv, i, &a->twice))
            return false;
        a->seeds = a->twice;
        return true;
    }
    if (strcmp(arg, "--plants") == 0) {
        a->plants = UINT64_MAX;
        (void)parse_number(argv, i, &a->plants);
        return true;
    }
    if (strcmp(arg, "--plant") == 0) {
        a->plant = argv[++*i];
        return a->plant != NULL;
    }
    if (strcmp(arg, "--verbose") == 0)
        a->verbose = true;
    else if (strcmp(arg, "--nodes") == 0)
        a->nodes = true;
    else if (strcmp(arg, "--scenarios") == 0 || strcmp(arg, "--heartbeats") == 0)
        a->scenarios_only = true;
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    struct arguments a = {.from = 1, .seeds = 1000, .twice = TWICE_SEEDS};

    for (int i = 1; i < argc; i++) {
        if (!parse_argument(&a, argv, &i))
            return usage();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_ERROR, LOG_LOGFMT);
    if (simd_init(NULL) != 0)
        return 2;
    if (a.plants == UINT64_MAX) {
        plants_list();
        return 0;
    }
    if (a.plant != NULL || a.plants > 0)
        return plants_run(a.plant, a.plants, a.from, a.seeds);
    watch_crashes();
    if (a.one) {
        run_one(&a);
    } else {
        if (!a.nodes) {
            run_scenarios(scenarios);
            run_scenarios(nodes_scenarios);
        }
        if (!a.scenarios_only)
            run_seeds(&a);
        if (!a.scenarios_only && !a.nodes) {
            a.nodes = true;
            a.seeds = (a.seeds + 9) / 10;
            a.twice = min_u64(a.twice, 2);
            run_seeds(&a);
        }
    }
    printf("%u passed, %u failed\n", counts.passed, counts.failed);
    return counts.failed == 0 ? 0 : 1;
}
