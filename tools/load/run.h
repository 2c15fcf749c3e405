/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_RUN_H
#define TOOLS_LOAD_RUN_H

/* A run: groups of connections with a role each, workers that drive them, phases that main sets.
 * Main thread; constant while workers run, but for `phase`. */

#include <stdatomic.h>

#include "net/tls_client.h"
#include "tools/load/json_out.h"
#include "tools/load/load_config.h"
#include "tools/load/proc.h"
#include "tools/load/target.h"
#include "tools/load/worker.h"

#define RUN_GROUPS_MAX 8
#define RUN_THREADS_MAX 64

/* Connections of one kind. */
struct group {
    const struct role *role;
    const char *path; /* with places */
    uint32_t count;
    uint32_t first_id;
    uint32_t rooms;         /* member i is in room i % rooms; 1 at least */
    uint32_t payload_bytes; /* of what it sends, 0: it sends nothing */
    bool waits;             /* its role opens it, not the connecting phase */
};

/* A kind of load. Callbacks not used are NULL. */
struct scenario {
    const char *name;
    const char *summary;
    const char *path; /* when neither --url nor --path has one */
    const char *sent; /* what `sent` and `received` count, for people: "answers" */
    const char *received;
    uint32_t bit; /* enum load_scenario_bit */
    /* Main: fills the groups and makes what workers share. An exit code. */
    int (*setup)(struct run *r);
    void (*teardown)(struct run *r);
    /* Worker: makes w->state. 0 or -errno. */
    int (*worker_init)(struct worker *w);
    void (*worker_deinit)(struct worker *w);
    /* Worker: every connection is open and messages may flow; and each turn from then until
     * PHASE_DRAIN, which returns when it wants the next one at the latest. */
    void (*on_start)(struct worker *w);
    uint64_t (*on_turn)(struct worker *w);
    /* Worker: at the beginning of PHASE_DRAIN. */
    void (*on_drain)(struct worker *w);
    /* Main: before workers are made, and when the measured part is over. */
    int (*before)(struct run *r);
    void (*after)(struct run *r);
    /* Main, after the join: what no worker alone can judge. */
    void (*finish)(struct run *r);
    /* Main: what is told besides; members of the outermost JSON object, rows of the table. */
    void (*json)(const struct run *r, struct json_out *j);
    void (*rows)(const struct run *r);
    bool is_silent;   /* no messages need come back */
    uint32_t sources; /* addresses to connect from, at least: ports that were used rest a while */
};

struct run {
    struct load_config config;
    const struct scenario *scenario;
    struct options *options;
    struct target target;
    struct tls_client *tls; /* NULL: without */
    const char *tls_name;   /* that the server's certificate must bear */
    struct group groups[RUN_GROUPS_MAX];
    uint32_t group_count;
    uint32_t client_count;
    uint32_t sender_count; /* of them */
    uint32_t opened_first; /* of them: in the connecting phase */
    uint32_t number;       /* {run} */
    const char *path;
    const char *backend; /* that runs */
    struct pattern pattern;
    void *shared; /* the scenario's */

    struct worker *workers;
    uint32_t threads;
    uint64_t start_ns;      /* when messages begin to flow; written before `phase` says so */
    _Atomic uint32_t phase; /* enum phase */

    /* Results, main's. */
    uint64_t measure_ns; /* length of the measured part, as main saw it */
    struct proc_cpu server_begin;
    struct proc_cpu server_end;
    bool has_server;
    bool interrupted;
    uint32_t opened; /* connections */
    uint64_t connect_ns;
};

extern const struct scenario scenario_echo;
extern const struct scenario scenario_fanout;
extern const struct scenario scenario_idle;
extern const struct scenario scenario_storm;
extern const struct scenario scenario_soak;

/* The longest payload of any group. */
static inline uint32_t run_payload_max(const struct run *r)
{
    uint32_t most = 0;

    for (uint32_t i = 0; i < r->group_count; i++)
        most = r->groups[i].payload_bytes > most ? r->groups[i].payload_bytes : most;
    return most;
}

/* The phase that the run is in. Any thread. */
static inline enum phase run_phase(const struct run *r)
{
    return (enum phase)atomic_load_explicit(&r->phase, memory_order_acquire);
}

/* Adds a group and gives it its numbers. */
struct group *run_add_group(struct run *r, const struct role *role, const char *path,
                            uint32_t count, uint32_t payload_bytes);

/* The whole run, results printed. Returns an exit code. */
int run_main(struct run *r);

#endif
