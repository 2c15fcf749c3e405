/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Limits per address, counted in the address's home shard. On the shard's thread. */

#include "net/admission.h"

#include <string.h>
#include <sys/socket.h>

#include "net/conn.h"

enum admission_item {
    ITEM_ASK = SHARD_KIND(SHARD_MODULE_NET, 16),    /* a: connection; b, c: address; ptr: cost */
    ITEM_ANSWER = SHARD_KIND(SHARD_MODULE_NET, 17), /* the same, with the verdict in ptr as well */
    ITEM_LEAVE = SHARD_KIND(SHARD_MODULE_NET, 18),  /* b, c: address */
};

/* In ptr: what the connection has taken of --connect-rate (at most a second) above the verdict. */
#define COST_SHIFT 8
#define VERDICT_MASK 0xff

/* Rested addresses that one turn forgets at most. */
#define FORGET_PER_TURN 16

struct address_key {
    uint64_t words[2]; /* an IPv4-mapped address, or an IPv6 /64 with zeros behind */
};

struct admission_entry {
    struct address_key key;
    uint64_t rate_tat;            /* GCRA of --connect-rate-per-ip */
    struct admission_entry *next; /* on the idle list while count is 0 */
    struct admission_entry *prev;
    uint32_t count; /* admitted connections now */
    bool is_idle;   /* on the idle list */
};

static struct bytes entry_key(const void *object)
{
    const struct admission_entry *e = object;

    return (struct bytes){(uint8_t *)&e->key, sizeof(e->key)};
}

bool admission_is_on(const struct net *n)
{
    return n->config->max_connections_per_ip != 0 || n->config->connect_rate_per_ip.per_second != 0;
}

void admission_init(struct net *n)
{
    map_init(&n->admission.addresses, entry_key, n->shard->node->seed);
    pool_init(&n->admission.entries, "addresses", sizeof(struct admission_entry), 0, 0);
}

void admission_deinit(struct net *n)
{
    struct admission_entry *e;
    uint32_t cursor = 0;

    while ((e = map_next(&n->admission.addresses, &cursor)) != NULL)
        pool_release(&n->admission.entries, e);
    map_deinit(&n->admission.addresses);
    pool_deinit(&n->admission.entries);
}

void admission_forget_rates(struct net *n)
{
    struct admission_entry *e;
    uint32_t cursor = 0;

    while ((e = map_next(&n->admission.addresses, &cursor)) != NULL)
        e->rate_tat = 0;
}

static struct address_key key_of(const struct io_addr *a)
{
    struct address_key k;

    memcpy(&k, a->ip, sizeof(k));
    if (a->family == AF_INET6)
        k.words[1] = 0;
    return k;
}

static uint32_t home_of(const struct net *n, const struct address_key *k)
{
    const struct node *node = n->shard->node;

    /* Not the hash table's own bits: those of one home would share them. */
    return (uint32_t)((map_hash(~node->seed, k, sizeof(*k)) >> 32) * node->shard_count >> 32);
}

/* The home ----------------------------------------------------------------------------------------
 */

static void idle_push(struct admission *a, struct admission_entry *e)
{
    e->is_idle = true;
    e->next = NULL;
    e->prev = a->idle_tail;
    if (a->idle_tail != NULL)
        a->idle_tail->next = e;
    else
        a->idle_head = e;
    a->idle_tail = e;
}

static void idle_remove(struct admission *a, struct admission_entry *e)
{
    if (e->prev != NULL)
        e->prev->next = e->next;
    else
        a->idle_head = e->next;
    if (e->next != NULL)
        e->next->prev = e->prev;
    else
        a->idle_tail = e->prev;
    e->is_idle = false;
}

static struct admission_entry *entry_of(struct net *n, const struct address_key *k)
{
    struct admission *a = &n->admission;
    struct admission_entry *e = map_find(&a->addresses, k, sizeof(*k));

    if (e != NULL)
        return e;
    e = pool_acquire(&a->entries);
    if (e == NULL)
        return NULL;
    *e = (struct admission_entry){.key = *k};
    if (map_insert(&a->addresses, e) != 0) {
        pool_release(&a->entries, e);
        return NULL;
    }
    idle_push(a, e);
    return e;
}

static enum admission_verdict judge(struct net *n, const struct address_key *k)
{
    const struct option_rate *rate = &n->config->connect_rate_per_ip;
    uint32_t max = n->config->max_connections_per_ip;
    struct admission_entry *e = entry_of(n, k);

    if (e == NULL)
        return ADMISSION_NO_MEMORY;
    if (max != 0 && e->count >= max)
        return ADMISSION_ADDRESS_FULL;
    if (rate->per_second != 0) {
        uint64_t cost_ns = NS_PER_SEC / rate->per_second;

        if (!gcra_pass(&e->rate_tat, n->io->now_ns, cost_ns, cost_ns * rate->burst))
            return ADMISSION_ADDRESS_RATE;
    }
    if (e->is_idle)
        idle_remove(&n->admission, e);
    e->count++;
    return ADMISSION_OK;
}

static void left(struct net *n, const struct address_key *k)
{
    struct admission_entry *e = map_find(&n->admission.addresses, k, sizeof(*k));

    CHECK(e != NULL);
    CHECK(e->count > 0);
    if (--e->count == 0)
        idle_push(&n->admission, e);
}

uint64_t admission_sweep(struct net *n, uint64_t now_ns)
{
    struct admission *a = &n->admission;

    for (uint32_t i = 0; i < FORGET_PER_TURN && a->idle_head != NULL; i++) {
        struct admission_entry *e = a->idle_head;

        idle_remove(a, e);
        if (e->rate_tat > now_ns) {
            idle_push(a, e); /* the ones behind it may have rested already */
            return min_u64(e->rate_tat, max_u64(a->idle_head->rate_tat, now_ns));
        }
        map_remove(&a->addresses, &e->key, sizeof(e->key));
        pool_release(&a->entries, e);
        /* A turn of timers alone publishes nothing. */
        stats_set(&n->stats[NET_STAT_ADDRESSES], a->addresses.count);
    }
    return a->idle_head != NULL ? now_ns : IO_FOREVER;
}

/* The asking shard --------------------------------------------------------------------------------
 */

static void post_leave(struct net *n, uint32_t home, const struct address_key *k)
{
    struct ring_item item = {.kind = ITEM_LEAVE, .b = k->words[0], .c = k->words[1]};

    shard_post(n->shard, home, &item, 0);
}

static void take_verdict(struct net *n, struct conn *c, enum admission_verdict v, uint64_t cost_ns)
{
    if (v != ADMISSION_OK)
        conn_give_back_cost(n, cost_ns);
    if (c != NULL)
        conn_admitted(c, v);
}

void admission_ask(struct net *n, struct conn *c)
{
    struct address_key k = key_of(&c->peer);
    uint32_t home = home_of(n, &k);
    uint64_t cost_ns = conn_connect_cost(n);
    struct ring_item item = {.kind = ITEM_ASK,
                             .a = conn_handle(c),
                             .b = k.words[0],
                             .c = k.words[1],
                             .ptr = (void *)(uintptr_t)(cost_ns << COST_SHIFT)};

    if (home == n->shard->idx)
        take_verdict(n, c, judge(n, &k), cost_ns);
    else
        shard_post(n->shard, home, &item, 0);
}

void admission_leave(struct net *n, const struct io_addr *peer)
{
    struct address_key k = key_of(peer);
    uint32_t home = home_of(n, &k);

    if (home == n->shard->idx)
        left(n, &k);
    else
        post_leave(n, home, &k);
}

static void answered(struct net *n, uint32_t from, const struct ring_item *item)
{
    struct conn *c = pool_find(&n->conns, item->a);
    uintptr_t told = (uintptr_t)item->ptr;
    enum admission_verdict v = (enum admission_verdict)(told & VERDICT_MASK);
    struct address_key k = {{item->b, item->c}};

    take_verdict(n, c, v, told >> COST_SHIFT);
    if (c == NULL && v == ADMISSION_OK)
        post_leave(n, from, &k); /* it has gone meanwhile */
}

void admission_on_item(struct net *n, uint32_t from, const struct ring_item *item)
{
    struct address_key k = {{item->b, item->c}};
    struct ring_item answer = *item;

    switch (item->kind) {
    case ITEM_ASK:
        answer.kind = ITEM_ANSWER;
        answer.ptr = (void *)((uintptr_t)item->ptr | (uintptr_t)judge(n, &k));
        shard_post(n->shard, from, &answer, 0);
        return;
    case ITEM_ANSWER:
        answered(n, from, item);
        return;
    case ITEM_LEAVE:
        left(n, &k);
        return;
    default:
        CHECK(!"unknown net item");
    }
}
