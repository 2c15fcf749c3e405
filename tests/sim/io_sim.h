/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_IO_SIM_H
#define TESTS_SIM_IO_SIM_H

/* The simulated io: core/io.h on a virtual network with a virtual clock, in one thread.
 *
 * A struct sim_net holds everything: the clock, the one random generator, the connections and their
 * buffers. Several struct io (one per shard) and any number of clients share it. Every choice is
 * drawn from the generator in a fixed order, so a seed and the same calls give the same run.
 *
 * What it does to whoever uses it, each at its own rate (struct sim_faults): bytes arrive in pieces
 * cut anywhere, late, or after a long stall; kernel buffers are small; sends are taken at once, in
 * parts over several polls, or whole but reported late; readiness comes in any order and is passed
 * over for a while; connections reset in the middle; accepts and adoptions fail for want of
 * descriptors; wakes come late; on_closed() comes late; a paused connection hands over what it
 * already had.
 *
 * What it finds by itself, kept as the first violation (sim_net_violation()):
 *  - calls that the contract forbids: a second send while one is under way, a send after
 *    io_shutdown() or io_close(), io_poll() within a callback, an io that is freed too early, ...
 *  - payload of a send that changes while the send is under way (a reference dropped too early);
 *  - writes beyond a lent slice. A slice is overwritten with noise when on_recv() has returned (and
 *    poisoned under ASan), so that a view kept too long shows up as wrong bytes.
 *  - bytes that the network itself lost or made up (a fault of the simulation, not of its user).
 *
 * The clock stands still but for sim_net_advance(). io_poll() never waits: it runs what is ready
 * and returns, at the latest with 0 callbacks. A driver looks like this:
 *
 *      for (;;) {
 *          for each shard, in an order drawn from sim_net_below():
 *              if (!sim_io_would_wait(io, deadline of the shard))
 *                  run one turn of the shard (it begins with io_poll());
 *          let the clients read, write, close, as the scenario draws;
 *          if (scenario is over) break;
 *          if (sim_net_idle(net, earliest deadline of all shards and clients) == SIM_DEAD) break;
 *      }
 *      CHECK(sim_net_violation(net) == NULL && sim_net_open_count(net) == 0);
 *
 * A shard that sim_io_would_wait() is asleep: run it only when that ends, and a wake-up that
 * somebody forgot is a stall that the scenario sees. A loop that can't be cut at its io_poll() runs
 * as a fiber (sim_fiber.h), asleep within io_poll(). */

#include "core/io.h"

/* The time on the wall when the clock is 0: 2001-09-09 01:46:40 UTC. */
#define SIM_WALL_START_NS (1000000000 * NS_PER_SEC)

struct sim_net;
struct sim_client;

/* Rates are in parts per million of the occasions; 0 switches a fault off. */
struct sim_faults {
    uint32_t split;        /* a piece of bytes is cut at a random place, in flight or when lent */
    uint32_t delay;        /* bytes, completions, accepts, wakes come up to delay_max_ns late */
    uint32_t stall;        /* ... up to stall_max_ns late */
    uint32_t pending;      /* a send that has room is IO_PENDING all the same */
    uint32_t skip;         /* something ready is passed over in this poll */
    uint32_t overrun;      /* a pause lets through what had already arrived, in this poll */
    uint32_t reset;        /* an arriving piece turns into a reset of its connection */
    uint32_t send_error;   /* a send fails at once with -ENOMEM, for want of the kernel's memory */
    uint32_t accept_error; /* an accept fails; the connection stays in the backlog */
    uint32_t adopt_error;  /* io_adopt() fails with -ENFILE */
    uint64_t delay_max_ns;
    uint64_t stall_max_ns;
    /* Kernel buffers of one direction, drawn from this range for each; 0: 64 KiB. */
    uint32_t buffer_min_bytes;
    uint32_t buffer_max_bytes;
};

/* What went over the network. dropped: sent, and lost with a reset or an end that nobody read. */
struct sim_stats {
    uint64_t connections;
    uint64_t resets; /* by the `reset` fault */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t dropped_bytes;
};

/* Draws a mixture of faults from a seed: each is off in some mixtures and frequent in others, so
 * that rare ones don't hide behind frequent ones. Resets and failures only when `harsh`. */
void sim_faults_draw(struct sim_faults *f, uint64_t seed, bool harsh);

/* faults NULL: none, everything arrives whole and at once. NULL when there is no memory. */
struct sim_net *sim_net_new(uint64_t seed, const struct sim_faults *faults);

/* Frees the network with its clients. Every io has been freed before. */
void sim_net_free(struct sim_net *net);

/* Changes the faults from now on, for instance to let everything settle at a scenario's end. */
void sim_net_set_faults(struct sim_net *net, const struct sim_faults *faults);

/* Clock, ns. Begins above zero. */
uint64_t sim_net_now(const struct sim_net *net);

/* Sets the clock forward; earlier times are ignored. */
void sim_net_advance(struct sim_net *net, uint64_t to_ns);

/* Uniform in [0, bound), from the network's generator; bound > 0. */
uint64_t sim_net_below(struct sim_net *net, uint64_t bound);

/* When something happens by itself: now, if an io has work or bytes can arrive at a client; the
 * earliest time at which something under way is due; or IO_FOREVER. What has arrived at a client
 * and waits for its sim_client_recv() is no event. */
uint64_t sim_net_next_ns(struct sim_net *net);

enum sim_idle {
    SIM_BUSY,     /* something can happen now; the clock stands */
    SIM_ADVANCED, /* the clock went to the next event or to deadline_ns, whichever is earlier */
    SIM_DEAD,     /* nothing will ever happen by itself, and there is no deadline */
};

enum sim_idle sim_net_idle(struct sim_net *net, uint64_t deadline_ns);

/* The first violation of the contract, or NULL. The text is the network's. */
const char *sim_net_violation(const struct sim_net *net);

/* Ends of connections that somebody still holds: attached to an io, tickets, in a backlog, clients
 * that are not freed. 0 when nothing has leaked. */
uint32_t sim_net_open_count(const struct sim_net *net);

/* Counters. At any time sent = received + dropped + what is under way. */
struct sim_stats sim_net_stats(const struct sim_net *net);

/* A listening socket for io_listen(). Several on one address share its connections at random, as
 * with SO_REUSEPORT. Returns its number, to be used as fd, or -ENOMEM. A number that was never
 * given to io_listen() needs no closing. */
int sim_net_listen(struct sim_net *net, const struct io_addr *a, uint32_t backlog);

/* Called at the beginning of every io_poll() that is not within another one's callbacks; io_poll()
 * goes on when it returns, so it should not return while sim_io_would_wait() is true. For fibers
 * (sim_fiber.h); NULL (the default): nothing is called, io_poll() never waits. */
void sim_net_on_wait(struct sim_net *net,
                     void (*wait)(void *ctx, struct io *io, uint64_t deadline_ns), void *ctx);

/* Shards --------------------------------------------------------------------------------------- */

/* An implementation of core/io.h on net; cfg->shard_idx seeds its io_random(). 0 or -ENOMEM. */
MUST_USE int io_sim_new(struct sim_net *net, const struct io_config *cfg, struct io **io);

/* Whether io_poll() with that deadline would find nothing to do. */
bool sim_io_would_wait(struct io *io, uint64_t deadline_ns);

/* Nobody will poll this io any more, though it is not freed: what is ready there keeps the clock
 * from going on no longer. Undone by io_poll(). Does nothing when io is freed already. */
void sim_net_retire(struct sim_net *net, struct io *io);

/* Clients -------------------------------------------------------------------------------------- */

enum sim_client_state {
    SIM_CLIENT_OPEN,    /* may send and receive; connecting counts as open */
    SIM_CLIENT_EOF,     /* the server has ended its side and everything was received */
    SIM_CLIENT_RESET,   /* reset by the server or the network */
    SIM_CLIENT_REFUSED, /* nobody listens there, or the backlog is full */
    SIM_CLIENT_CLOSED,  /* closed by sim_client_close() or _reset() */
};

/* Connects from `from` to a listener's address. NULL only when there is no memory. */
struct sim_client *sim_client_connect(struct sim_net *net, const struct io_addr *to,
                                      const struct io_addr *from);
enum sim_client_state sim_client_state(struct sim_client *c);

/* Sends what fits into the buffers on the way, 0..len; the rest is for later. 0 when not open. */
size_t sim_client_send(struct sim_client *c, const void *bytes, size_t len);

/* Takes what has arrived, at most cap; 0: nothing yet, or see sim_client_state(). A client that
 * does not call this has stopped reading: buffers on the way fill up. */
size_t sim_client_recv(struct sim_client *c, void *bytes, size_t cap);

/* Ends the sending side (FIN); receiving goes on. */
void sim_client_shutdown(struct sim_client *c);

/* Closes: what was sent still arrives, unless something unread was left (then it is a reset). */
void sim_client_close(struct sim_client *c);

/* Resets: what was sent may be lost. */
void sim_client_reset(struct sim_client *c);

/* Closes if need be, and forgets. */
void sim_client_free(struct sim_client *c);

#endif
