/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Kept input of busy connections. On the shard's thread. */

#include "net/conn_rx.h"

#include <string.h>

#include "net/conn_tls.h"
#include "net/inflate.h"

struct conn_rx *conn_rx_get(struct conn *c)
{
    if (c->rx != NULL)
        return c->rx;
    c->rx = pool_acquire(&c->net->rxs);
    if (c->rx == NULL)
        conn_end(c, CONN_END_NO_MEMORY);
    else
        memset(c->rx, 0, sizeof(*c->rx));
    return c->rx;
}

static void charge(struct conn *c, const struct message *m)
{
    c->rx->charged += message_capacity(m);
    c->net->assembly_bytes += message_capacity(m);
}

static void discharge(struct conn *c, const struct message *m)
{
    DCHECK(c->rx->charged >= message_capacity(m));
    c->rx->charged -= message_capacity(m);
    c->net->assembly_bytes -= message_capacity(m);
}

/* Of a connection that ends. What a cut record lacks then makes the next ones unreadable. */
static void forget_input(struct conn *c)
{
    if ((c->flags & CONN_F_TLS_OPEN) && c->rx != NULL && c->rx->record != NULL)
        c->tls->is_lost = true;
    conn_rx_free(c);
}

/* Over the bound the largest holder of the shard goes, its memory at once: else the next piece
 * would find the node still over it. False when that is c. */
static bool keep_bound(struct conn *c)
{
    struct conn *largest;

    if (likely(!net_over_bound(c->net, NET_STAT_ASSEMBLY_BYTES, c->net->assembly_bytes,
                               c->net->config->assembly_memory_bytes)))
        return true;
    largest = net_end_largest_assembly(c->net);
    if (largest != NULL && largest != c)
        forget_input(largest);
    return c->state < CONN_ENDING;
}

static struct message *grow(struct conn *c, struct message *old, uint32_t len, uint64_t cap)
{
    struct message *m = cap > UINT32_MAX ? NULL : message_new(&c->net->shard->messages, cap);

    if (m == NULL) {
        conn_end(c, CONN_END_NO_MEMORY);
        return NULL;
    }
    if (old != NULL) {
        memcpy(message_payload(m), message_payload(old), len);
        discharge(c, old);
        message_free(&c->net->shard->messages, old);
    }
    charge(c, m);
    return m;
}

bool conn_rx_append(struct conn *c, struct message **m, uint32_t *len, const uint8_t *p, size_t n,
                    uint64_t want)
{
    uint64_t need = *len + (uint64_t)n;

    if (*m == NULL || message_capacity(*m) < need) {
        uint64_t cap = *m == NULL ? min_u64(want, CONN_RX_AT_ONCE) : 2 * (uint64_t)*len;
        struct message *bigger;

        if (m == &c->rx->assembly) /* no message becomes longer than that */
            cap = min_u64(cap, c->net->config->max_message_bytes);
        bigger = grow(c, *m, *len, max_u64(cap, need));

        if (bigger == NULL)
            return false;
        *m = bigger;
        if (!keep_bound(c))
            return false;
    }
    memcpy(message_payload(*m) + *len, p, n);
    *len += (uint32_t)n;
    return true;
}

struct message *conn_rx_take(struct conn *c, struct message **m, uint32_t len)
{
    struct message *taken = *m;

    discharge(c, taken);
    *m = NULL;
    taken->payload_len = len;
    return taken;
}

void conn_rx_put(struct conn *c, struct message **m, struct message *owned)
{
    DCHECK(*m == NULL);
    *m = owned;
    charge(c, owned);
}

void conn_rx_drop(struct conn *c, struct message **m)
{
    if (*m == NULL)
        return;
    discharge(c, *m);
    message_free(&c->net->shard->messages, *m);
    *m = NULL;
}

void conn_rx_trim(struct conn *c)
{
    struct conn_rx *rx = c->rx;

    if (rx == NULL || rx->head != NULL || rx->assembly != NULL || rx->rest != NULL ||
        rx->parked != NULL || rx->deflated != NULL || rx->record != NULL || rx->in_message ||
        rx->control_len > 0)
        return;
    pool_release(&c->net->rxs, rx);
    c->rx = NULL;
}

void conn_rx_free(struct conn *c)
{
    struct conn_rx *rx = c->rx;

    if (rx == NULL)
        return;
    inflate_cancel(c);
    conn_rx_drop(c, &rx->head);
    conn_rx_drop(c, &rx->assembly);
    conn_rx_drop(c, &rx->rest);
    conn_rx_drop(c, &rx->parked);
    conn_rx_drop(c, &rx->record);
    pool_release(&c->net->rxs, rx);
    c->rx = NULL;
}
