/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_HUB_CREDIT_H
#define PUBSUB_HUB_CREDIT_H

/* Who may publish when: credit at other homes (--mesh-window), the own home's backlog, and memory
 * of the mesh. On the shard's thread.
 *
 * Publishers that must wait for a home stand in one line, first come, first served, each with one
 * message; while somebody waits, whoever else wants to publish there goes to the end. When credit
 * comes, as many are let go as it serves, and what each one's message costs is set aside for it: so
 * none is woken in vain, and one that has much to say takes nothing from the others. */

#include "pubsub/hub.h"

/* Whether m's next message may be published now. */
bool hub_may_publish(const struct hub *h, const struct hub_member *m);

/* Puts m in line with a message of payload_len bytes; its connection is held (CONN_HOLD_CREDIT) by
 * the caller, and unheld when its turn has come. */
void hub_wait(struct hub *h, struct hub_member *m, size_t payload_len);

/* m publishes its message now: what was set aside for it is free for that. */
void hub_credit_return(struct hub *h, struct hub_member *m);
static inline void hub_credit_settle(struct hub *h, struct hub_member *m)
{
    if (unlikely(m->cost > 0))
        hub_credit_return(h, m);
}

/* m leaves: out of the line, and what was set aside for it goes to the next. Its message is lost,
 * and counted. */
void hub_credit_forget(struct hub *h, struct hub_member *m);

/* Whether all that was published at other homes is dealt with. */
bool hub_is_answered(const struct hub *h);

/* A home gives credit back. */
void hub_credit(struct hub *h, uint32_t home, uint64_t bytes);

/* Lets those in line before the own home go on, up to `room` bytes of messages. */
void hub_wake_own(struct hub *h, uint64_t room);

/* The mesh may have memory again: no credit may be on its way that would wake who waited for it.
 * End of turn. */
void hub_look_for_memory(struct hub *h);

#endif
