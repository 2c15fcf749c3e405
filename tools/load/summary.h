/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_SUMMARY_H
#define TOOLS_LOAD_SUMMARY_H

/* All workers' counts of a run, added up. Main thread, after the join. */

#include "tools/load/client_tls.h"
#include "tools/load/run.h"

/* From this share of the wall clock on a thread of the generator, running or waiting for a core,
 * was never idle: it, not the server, set the pace. */
#define SUMMARY_BUSY_PERCENT 95

struct summary {
    struct tally sum;    /* begin_ns and end_ns are not used */
    struct tally total;  /* with what came before and after the measured part; ditto */
    double seconds;      /* of the measured part: mean of threads */
    double busiest_cpu;  /* of a thread: share of the wall clock, 0 to 1 */
    double busiest_wait; /* the same thread's, ready and without a core */
    struct verify_counts verify;
    uint32_t lost; /* connections that should not have ended */
    uint32_t ends[CLIENT_WHYS];
    uint64_t tls_full; /* handshakes */
    uint64_t tls_resumed;
    const struct tls_handshake_info *tls; /* of one of them; NULL: without TLS */
    const char *failure;                  /* the first one, or NULL */
    bool is_bottleneck;
};

/* Fills *s; borrows from r. */
void summary_make(const struct run *r, struct summary *s);

#endif
