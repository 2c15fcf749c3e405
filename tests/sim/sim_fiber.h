/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_FIBER_H
#define TESTS_SIM_SIM_FIBER_H

/* Runs each shard's loop, unchanged, as a fiber of one thread. A fiber gives way in every io_poll()
 * and goes on when that would not wait any more: so a shard really sleeps, announced to the mesh
 * and all, while others run, and a wake-up that was forgotten leaves it asleep.
 *
 *      struct sim_fibers *f = sim_fibers_new(net);
 *      for each shard: sim_fibers_add(f, io, run_shard, shard);
 *      for (;;) {
 *          while (sim_fibers_step(f))
 *              clients' doings, now and then;
 *          clients' doings;
 *          if (scenario is over) break;
 *          if (sim_net_idle(net, min(sim_fibers_deadline_ns(f), clients' deadline)) == SIM_DEAD)
 * break;
 *      }
 *      tell the shards to end; step until sim_fibers_running(f) is 0; sim_fibers_free(f);
 *
 * A function that never calls io_poll() never gives way. Stacks are SIM_FIBER_STACK_BYTES. */

#include "tests/sim/io_sim.h"

#define SIM_FIBER_STACK_BYTES (1u << 20)

struct sim_fibers;

/* Takes net's hook (sim_net_on_wait). NULL when there is no memory. */
struct sim_fibers *sim_fibers_new(struct sim_net *net);

/* Frees all stacks; what a fiber that has not returned holds is lost. */
void sim_fibers_free(struct sim_fibers *f);

/* fn(arg) will run as a fiber, and poll only `io`. 0, -ENOMEM or -EMFILE. */
MUST_USE int sim_fibers_add(struct sim_fibers *f, struct io *io, void (*fn)(void *arg), void *arg);

/* Runs one fiber to its next io_poll() or its return: one that need not wait, by lot. False when
 * all wait or have returned. Not within a fiber. */
bool sim_fibers_step(struct sim_fibers *f);

/* The earliest time that a waiting fiber asked to be awake at, or IO_FOREVER. */
uint64_t sim_fibers_deadline_ns(const struct sim_fibers *f);

/* How many have not returned. */
uint32_t sim_fibers_running(const struct sim_fibers *f);

#endif
