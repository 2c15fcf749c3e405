/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_HUB_H
#define PUBSUB_HUB_H

/* A shard's table of its own subscribers by channel; it fans out. On the shard's thread.
 *
 * Messages that arrive for a channel in one turn wait until its end, then leave as one run: their
 * frames are laid side by side once, and every member's queue gets one reference to that. With
 * --write-delay they may wait longer, see hub_pending.h.
 *
 *   channel    JOINING  the home was asked; members are held (they publish nothing yet)
 *              JOINED   the home's handle is known
 *   The last member's leaving withdraws the interest; a channel still JOINING waits for the answer
 * first. */

#include "core/map.h"
#include "core/message.h"
#include "core/pool.h"
#include "core/ring.h"

struct conn;
struct pubsub;
struct hub_member;

enum hub_channel_state { HUB_JOINING, HUB_JOINED, HUB_REFUSED };

#define HUB_MEMBERS_INLINE 2

struct hub_channel {
    struct message *name;  /* payload: the name; a message of this shard */
    struct conn **members; /* members[0..count) */
    struct conn *few[HUB_MEMBERS_INLINE];
    struct message *more;           /* memory of members[] when there are many */
    struct hub_channel *next_dirty; /* on hub.dirty or hub.delayed */
    uint32_t count;
    uint32_t cap;
    uint32_t home_handle;   /* the home's handle once JOINED */
    uint32_t pending_first; /* indices into hub.pending + 1; 0: none */
    uint32_t pending_last;
    uint32_t delayed_cost; /* of what waits beyond the turn, see hub_pending.h */
    uint32_t window;       /* hub.window of the last fan-out */
    uint16_t home;
    uint8_t state;   /* enum hub_channel_state */
    uint8_t wants;   /* HOME_INTEREST_... told to the home */
    uint8_t refused; /* enum home_join: why, when REFUSED */
    bool is_delayed; /* on hub.delayed */
};

/* A message that waits for the end of the turn or window. */
struct hub_pending {
    struct message *message;    /* this shard's reference */
    struct message *compressed; /* the same, compressed; or NULL */
    uint32_t next;              /* index + 1 of the channel's next one */
};

struct hub {
    struct pubsub *pubsub;
    struct map channels; /* of struct hub_channel, by name */
    struct pool pool;
    struct hub_channel *dirty;   /* have pending messages, which leave at the end of the turn */
    struct hub_channel *delayed; /* may have pending messages, which leave when the window ends */
    struct hub_pending *pending;
    uint32_t pending_count;
    uint32_t pending_cap;
    uint32_t window;             /* counts them */
    uint64_t window_end_ns;      /* of the last one; 0 without delay */
    uint64_t delay_ns;           /* --write-delay; 0: none, or no longer */
    uint64_t delayed_cost;       /* sum over the channels */
    uint64_t window_bytes;       /* credit at each home: --mesh-window, or what its engine bears */
    uint64_t *credit_used;       /* by home: bytes published and not yet answered, or set aside */
    struct hub_member **waiting; /* by home: last of the line of publishers, see hub_credit.h */
    bool waits_for_memory;       /* some wait because the mesh is short of memory */
};

/* Embedded in a session. */
struct hub_member {
    struct conn *conn;
    struct hub_channel *channel;
    struct hub_member *next_waiting; /* while it waits for credit: the next in line, a circle */
    uint32_t place;                  /* channel->members[place] == conn */
    uint32_t cost; /* of the message that waits for credit; then, until it is published, the credit
                      that is set aside for it; else 0 */
};

MUST_USE int hub_init(struct hub *h, struct pubsub *p);
void hub_deinit(struct hub *h);

/* Makes m (its conn set; zero otherwise) a member. Returns 0, or why its connection must end (enum
 * conn_end). Holds it (CONN_HOLD_APP) while the home has not answered. */
MUST_USE int hub_join(struct hub *h, const void *name, uint32_t len, struct hub_member *m);
void hub_leave(struct hub *h, struct hub_member *m);

/* The member that a connection in a channel is; defined by the dialect. */
struct hub_member *hub_member_of(struct conn *c);

/* Publishes m (takes it): framed, origin this shard. */
void hub_publish(struct hub *h, struct hub_channel *ch, struct message *m);

/* The home's call, direct or through the mesh. home_handle 0: refused, `how` says why (enum
 * home_join). */
void hub_joined(struct hub *h, uint32_t hub_handle, uint32_t home_handle, uint32_t how);
#endif
