/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef BENCH_TLS_ROUNDS_H
#define BENCH_TLS_ROUNDS_H

/* What the programs of this folder share: arguments, the clock, and what may be said of
 * measurements that took turns. One thread. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ROUNDS_MAX 9999

/* [ROUNDS [FILE]]: how many rounds, and where the rows go as JSON, one a line; NULL: nowhere. */
struct rounds_arguments {
    size_t rounds;
    FILE *json;
};

/* Exits with 2 and the usage when they are wrong. */
struct rounds_arguments rounds_arguments_read(int argc, char **argv, size_t usual);

/* Processor time of this thread, the kernel's part included. */
uint64_t rounds_cpu_ns(void);

/* Quartiles of some values. */
struct rounds_spread {
    double low;
    double median;
    double high;
};

/* Of n values; sorts them. */
struct rounds_spread rounds_spread_of(double *values, size_t n);

/* Of their / ours, round by round: over 1 when ours take less. */
struct rounds_spread rounds_ratio_of(const double *theirs, const double *ours, size_t n);

/* One judged row; must 0: not judged. Nothing without a file. */
void rounds_write(FILE *json, const char *name, struct rounds_spread ratio, double must);

#endif
