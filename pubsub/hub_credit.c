/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The lines of publishers that wait. On the shard's thread. */

#include "pubsub/hub_credit.h"

#include "pubsub/pubsub.h"

/* How soon to look whether the mesh has memory again. */
#define MEMORY_LOOK_NS (5 * NS_PER_MS)

static bool is_own(const struct hub *h, uint32_t home)
{
    return home == h->pubsub->shard->idx;
}

bool hub_may_publish(const struct hub *h, const struct hub_member *m)
{
    const struct pubsub *p = h->pubsub;
    uint32_t home = m->channel->home;

    if (is_own(h, home))
        return m->cost > 0 || (!p->home.withheld && h->waiting[home] == NULL);
    if (unlikely(mesh_is_short(p->shard->mesh)))
        return false;
    return m->cost > 0 || (h->credit_used[home] < h->window_bytes && h->waiting[home] == NULL);
}

/* The line ----------------------------------------------------------------------------------------
 */

/* Behind the last; or before the first, which is behind the last as well, but not its successor. */
static void push(struct hub *h, struct hub_member *m, bool as_first)
{
    struct hub_member **last = &h->waiting[m->channel->home];

    if (*last == NULL) {
        m->next_waiting = m;
        *last = m;
        return;
    }
    m->next_waiting = (*last)->next_waiting;
    (*last)->next_waiting = m;
    if (!as_first)
        *last = m;
}

/* Takes m, whose predecessor is `before`, out. */
static void unlink_after(struct hub *h, struct hub_member *before, struct hub_member *m)
{
    struct hub_member **last = &h->waiting[m->channel->home];

    before->next_waiting = m->next_waiting;
    if (*last == m)
        *last = before == m ? NULL : before;
    m->next_waiting = NULL;
}

/* Lets those in front go on, as long as `room` bytes serve another one. */
static void wake(struct hub *h, uint32_t home, uint64_t room)
{
    while (h->waiting[home] != NULL && room > 0) {
        struct hub_member *last = h->waiting[home];
        struct hub_member *m = last->next_waiting;

        unlink_after(h, last, m);
        room -= min_u64(room, m->cost);
        if (!is_own(h, home))
            h->credit_used[home] += m->cost;
        conn_unhold(m->conn, CONN_HOLD_CREDIT);
    }
}

static void wait_for_memory(struct hub *h)
{
    struct shard *s = h->pubsub->shard;

    h->waits_for_memory = true;
    s->next_turn_ns = min_u64(s->next_turn_ns, s->io->now_ns + MEMORY_LOOK_NS);
}

static void wake_by_credit(struct hub *h, uint32_t home)
{
    if (h->waiting[home] == NULL)
        return;
    if (mesh_is_short(h->pubsub->shard->mesh))
        wait_for_memory(h);
    else if (h->credit_used[home] < h->window_bytes)
        wake(h, home, h->window_bytes - h->credit_used[home]);
}

/* Members ----------------------------------------------------------------------------------------
 */

void hub_credit_return(struct hub *h, struct hub_member *m)
{
    uint32_t home = m->channel->home;

    if (!is_own(h, home))
        h->credit_used[home] -= m->cost;
    m->cost = 0;
}

/* One that was let go and could not publish after all (the mesh is short) is the first again. */
void hub_wait(struct hub *h, struct hub_member *m, size_t payload_len)
{
    bool was_let_go = m->cost > 0;

    DCHECK(m->next_waiting == NULL);
    pubsub_stat(h->pubsub, PUBSUB_STAT_CREDIT_WAITS);
    hub_credit_settle(h, m);
    m->cost = (uint32_t)(sizeof(struct message) + payload_len);
    push(h, m, was_let_go);
    if (!is_own(h, m->channel->home) && mesh_is_short(h->pubsub->shard->mesh))
        wait_for_memory(h);
}

void hub_credit_forget(struct hub *h, struct hub_member *m)
{
    uint32_t home = m->channel->home;

    if (m->cost > 0)
        pubsub_stat(h->pubsub, PUBSUB_STAT_CREDIT_LOST);
    if (m->next_waiting != NULL) {
        struct hub_member *before = m;

        while (before->next_waiting != m)
            before = before->next_waiting;
        unlink_after(h, before, m);
        m->cost = 0;
    } else if (m->cost > 0) {
        hub_credit_return(h, m);
        if (!is_own(h, home))
            wake_by_credit(h, home);
    }
}

bool hub_is_answered(const struct hub *h)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < h->pubsub->shard->node->shard_count; i++)
        bytes += h->credit_used[i];
    return bytes == 0;
}

/* Events -----------------------------------------------------------------------------------------
 */

void hub_credit(struct hub *h, uint32_t home, uint64_t bytes)
{
    h->credit_used[home] -= bytes;
    h->pubsub->shard->awaiting -= bytes;
    wake_by_credit(h, home);
}

void hub_wake_own(struct hub *h, uint64_t room)
{
    wake(h, h->pubsub->shard->idx, room);
}

void hub_look_for_memory(struct hub *h)
{
    const struct shard *s = h->pubsub->shard;

    if (mesh_is_short(s->mesh)) {
        wait_for_memory(h);
        return;
    }
    h->waits_for_memory = false;
    for (uint32_t i = 0; i < s->node->shard_count; i++) {
        if (i != s->idx)
            wake_by_credit(h, i);
    }
}
