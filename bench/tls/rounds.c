/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Arguments, clock and statistics of the programs of this folder. */

#include "bench/tls/rounds.h"

#include <stdlib.h>
#include <time.h>

#include "core/base.h"

struct rounds_arguments rounds_arguments_read(int argc, char **argv, size_t usual)
{
    struct rounds_arguments a = {usual, NULL};
    if (argc > 1)
        a.rounds = strtoul(argv[1], NULL, 10);
    if (a.rounds < 1 || a.rounds > ROUNDS_MAX || argc > 3) {
        fprintf(stderr, "usage: %s [ROUNDS [FILE]], 1 to %d\n", argv[0], ROUNDS_MAX);
        exit(2);
    }
    if (argc > 2 && (a.json = fopen(argv[2], "w")) == NULL) {
        fprintf(stderr, "%s: can't be written; name another file\n", argv[2]);
        exit(2);
    }
    return a;
}

uint64_t rounds_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct rounds_spread rounds_spread_of(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return (struct rounds_spread){values[(n - 1) / 4], values[(n - 1) / 2],
                                  values[(n - 1) * 3 / 4]};
}

struct rounds_spread rounds_ratio_of(const double *theirs, const double *ours, size_t n)
{
    static double ratios[ROUNDS_MAX];
    for (size_t i = 0; i < n; i++)
        ratios[i] = theirs[i] / ours[i];
    return rounds_spread_of(ratios, n);
}

void rounds_write(FILE *json, const char *name, struct rounds_spread ratio, double must)
{
    if (json != NULL)
        fprintf(json,
                "{\"figure\": \"%s\", \"low\": %.4f, \"value\": %.4f, \"high\": %.4f, "
                "\"must\": %.2f}\n",
                name, ratio.low, ratio.median, ratio.high, must);
}
