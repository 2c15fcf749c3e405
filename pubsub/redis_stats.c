/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The table of counters. Constant. */

#include "pubsub/redis_stats.h"

const struct stats_desc redis_stat_descs[REDIS_STAT_COUNT] = {
#define X(id, name, labels, help, kind)                                                            \
    [REDIS_STAT_##id] = {"tidewire_" name, labels, help, kind,                                     \
                         REDIS_STAT_##id == REDIS_STAT_CANARY_NS ? 1e-9 : 0},
    REDIS_STATS(X)
#undef X
#define X(id, label)                                                                               \
    [REDIS_STAT_DOWNS + REDIS_DOWN_##id] = {"tidewire_redis_downs_total", "reason=\"" label "\"",  \
                                            "Connections to Redis that ended, and attempts.",      \
                                            STATS_COUNTER, 0},
        REDIS_DOWNS(X)
#undef X
#define X(id, word, label, remedy)                                                                 \
    [REDIS_STAT_ERRORS + REDIS_ERROR_##id] = {"tidewire_redis_errors_total",                       \
                                              "error=\"" label "\"", "Error replies of Redis.",    \
                                              STATS_COUNTER, 0},
            REDIS_ERRORS(X)
#undef X
};
