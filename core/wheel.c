/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Hashed timer wheel. On the shard's thread.
 *
 * A timer belongs to the tick at or after its deadline, and fires when that tick has come, so never
 * early. It waits in slot tick % WHEEL_SLOTS, or in `due` when its tick had come at the arming. */

#include "core/wheel.h"

static uint64_t tick_of_deadline(const struct wheel *w, uint64_t deadline_ns)
{
    return deadline_ns / w->tick_ns + (deadline_ns % w->tick_ns != 0);
}

static void list_init(struct wheel_timer *head)
{
    head->next = head;
    head->prev = head;
}

static bool list_is_empty(const struct wheel_timer *head)
{
    return head->next == head;
}

static void list_append(struct wheel_timer *head, struct wheel_timer *t)
{
    t->next = head;
    t->prev = head->prev;
    head->prev->next = t;
    head->prev = t;
}

static void list_remove(struct wheel_timer *t)
{
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->next = NULL;
    t->prev = NULL;
}

/* Moves all of `from` into `to`, a head that is not initialised yet. */
static void list_take(struct wheel_timer *to, struct wheel_timer *from)
{
    list_init(to);
    if (list_is_empty(from))
        return;
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    list_init(from);
}

void wheel_init(struct wheel *w, uint64_t tick_ns, uint64_t now_ns)
{
    CHECK(tick_ns > 0);
    *w = (struct wheel){.tick_ns = tick_ns, .now_tick = now_ns / tick_ns};
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++)
        list_init(&w->slots[i]);
    list_init(&w->due);
}

static void wheel_place(struct wheel *w, struct wheel_timer *t)
{
    uint64_t tick = tick_of_deadline(w, t->deadline_ns);
    if (tick <= w->now_tick) {
        list_append(&w->due, t);
        return;
    }
    uint32_t slot = tick % WHEEL_SLOTS;
    list_append(&w->slots[slot], t);
    w->busy[slot / 64] |= 1ULL << (slot % 64);
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ns)
{
    if (t->next != NULL)
        list_remove(t);
    else
        w->armed++;
    t->deadline_ns = deadline_ns;
    wheel_place(w, t);
}

void wheel_disarm(struct wheel *w, struct wheel_timer *t)
{
    if (t->next == NULL)
        return;
    list_remove(t);
    w->armed--;
}

/* Empties a list, firing what is due by now and putting the rest back. The callback may arm, disarm
 * and free timers of this very list, so only its head is looked at. */
static uint32_t wheel_fire(struct wheel *w, struct wheel_timer *list, wheel_fire_fn fire, void *ctx)
{
    struct wheel_timer firing;
    uint32_t count = 0;
    list_take(&firing, list);
    while (!list_is_empty(&firing)) {
        struct wheel_timer *t = firing.next;
        list_remove(t);
        if (tick_of_deadline(w, t->deadline_ns) > w->now_tick) {
            wheel_place(w, t);
            continue;
        }
        w->armed--;
        count++;
        fire(ctx, t);
    }
    return count;
}

/* The earliest tick that a timer in the slots has; UINT64_MAX without any. Looks at all. */
static uint64_t wheel_first_tick(const struct wheel *w)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++) {
        const struct wheel_timer *head = &w->slots[i];
        for (const struct wheel_timer *t = head->next; t != head; t = t->next)
            first = min_u64(first, tick_of_deadline(w, t->deadline_ns));
    }
    return first;
}

/* Fires the slots of the ticks behind now_tick up to `end`, at most one revolution. */
static uint32_t wheel_turn(struct wheel *w, uint64_t end, wheel_fire_fn fire, void *ctx)
{
    uint32_t count = 0;
    while (w->now_tick < end) {
        w->now_tick++;
        uint32_t slot = w->now_tick % WHEEL_SLOTS;
        if ((w->busy[slot / 64] >> (slot % 64) & 1) == 0)
            continue;
        w->busy[slot / 64] &= ~(1ULL << (slot % 64));
        count += wheel_fire(w, &w->slots[slot], fire, ctx);
    }
    return count;
}

uint32_t wheel_advance(struct wheel *w, uint64_t now_ns, wheel_fire_fn fire, void *ctx)
{
    uint64_t end = now_ns / w->tick_ns;
    uint32_t count = wheel_fire(w, &w->due, fire, ctx);
    while (w->now_tick < end) {
        /* After a long pause, revolutions in which nothing is due are skipped, not walked. */
        if (end - w->now_tick > WHEEL_SLOTS)
            w->now_tick = max_u64(w->now_tick, min_u64(end, wheel_first_tick(w) - 1));
        count += wheel_turn(w, min_u64(end, w->now_tick + WHEEL_SLOTS), fire, ctx);
    }
    return count;
}

/* The offset from slot `from` to the next busy slot, WHEEL_SLOTS when there is none. Bits may be
 * stale: a disarm leaves them. */
static uint32_t wheel_busy_offset(const struct wheel *w, uint32_t from)
{
    uint32_t offset = 0;
    while (offset < WHEEL_SLOTS) {
        uint32_t slot = (from + offset) % WHEEL_SLOTS;
        uint64_t bits = w->busy[slot / 64] >> (slot % 64);
        if (bits == 0) {
            offset += 64 - slot % 64;
            continue;
        }
        uint32_t skip = (uint32_t)__builtin_ctzll(bits);
        offset += skip;
        if (!list_is_empty(&w->slots[(slot + skip) % WHEEL_SLOTS]))
            break;
        offset++;
    }
    return offset;
}

uint64_t wheel_next_ns(const struct wheel *w)
{
    if (w->armed == 0)
        return UINT64_MAX;
    if (!list_is_empty(&w->due))
        return w->now_tick * w->tick_ns;
    uint64_t first = w->now_tick + 1;
    return (first + wheel_busy_offset(w, first % WHEEL_SLOTS)) * w->tick_ns;
}
