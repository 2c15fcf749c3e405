/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_OPENER_H
#define TOOLS_LOAD_OPENER_H

/* Connections that are opened again and again, as fast as possible or at a rate, and kept for a
 * while. The storm scenario is nothing else; in a soak they are the churn and the clients that
 * misbehave. One per worker and group; the worker's thread. */

#include "tools/load/client.h"
#include "tools/load/schedule.h"

/* How a kept connection is ended. */
enum opener_close {
    OPENER_FRAME, /* a close frame; the server ends it */
    OPENER_FIN,   /* end of file without one */
    OPENER_RESET,
    OPENER_MIXED, /* each of those in turn */
};

struct opener {
    struct worker *worker;
    struct schedule pace; /* per_second 0: as fast as `parallel` allows */
    uint32_t parallel;    /* being opened at a time, without a pace */
    uint64_t keep_ns;     /* from open to our end */
    enum opener_close how;
    bool is_aside;                 /* the run's counts are of messages, not of these */
    bool may_fail;                 /* else the first attempt that fails is a failure of the run */
    struct client_list spare;      /* may be opened */
    struct client_list held;       /* open, oldest first */
    uint64_t begun;                /* attempts */
    uint64_t opened;               /* of them were upgraded */
    uint64_t ended;                /* of these, by the server before we would */
    uint64_t refused[CLIENT_WHYS]; /* attempts that failed, by cause */
    uint64_t closes;               /* by us */
};

/* Takes all clients of a group on this worker. pace->per_second 0: no pace. */
void opener_init(struct opener *o, struct worker *w, const struct group *g);

/* Opens what is due and ends what was kept long enough. Each turn; `opening`: new ones, too. */
void opener_turn(struct opener *o, bool opening);

/* The role's callbacks, for clients that `o` has. */
void opener_on_open(struct opener *o, struct client *c);
void opener_on_end(struct opener *o, struct client *c, const struct client_end *end);
void opener_on_closed(struct opener *o, struct client *c);

/* When it wants to be called again at the latest. */
uint64_t opener_deadline(const struct opener *o);

#endif
