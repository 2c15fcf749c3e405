/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_SCENARIOS_H
#define TOOLS_LOAD_SCENARIOS_H

/* Parts of scenarios that the soak puts together. Threads as in struct scenario. */

#include "tools/load/run.h"

/* Connections that get their own messages back. */
extern const struct role echo_role;
void echo_finish(struct run *r);

/* Publishers and members of rooms: the first two groups of the run. on_turn is not for what they
 * send in open loop. */
int fanout_setup(struct run *r);
void fanout_teardown(struct run *r);
int fanout_worker_init(struct worker *w);
void fanout_worker_deinit(struct worker *w);
uint64_t fanout_turn(struct worker *w);
void fanout_finish(struct run *r);

#endif
