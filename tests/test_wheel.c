/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* core/wheel.h: when timers fire, in which order, and what callbacks may do. */

#include "core/wheel.h"

#include <string.h>

#include <criterion/criterion.h>

#define TICK 1000u
#define TIMERS 2000

struct probe {
    struct wheel_timer timer; /* first */
    uint64_t fired_at;
    uint32_t fired;
    uint32_t position; /* among all that fired */
};

static struct wheel wheel;
static struct probe probes[TIMERS];
static uint64_t now;
static uint32_t fired_total;
static struct probe *victim;

static void set_up(void)
{
    memset(probes, 0, sizeof(probes));
    wheel_init(&wheel, TICK, 0);
    now = 0;
    fired_total = 0;
}

TestSuite(wheel, .init = set_up);

static void on_fire(void *ctx, struct wheel_timer *t)
{
    struct probe *p = (struct probe *)t;
    cr_assert_eq(ctx, &wheel);
    cr_assert_not(wheel_is_armed(t));
    p->fired_at = now;
    p->fired++;
    p->position = fired_total++;
}

static uint32_t advance_to(uint64_t ns)
{
    now = ns;
    return wheel_advance(&wheel, ns, on_fire, &wheel);
}

static uint64_t random_state = 7;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % n);
}

Test(wheel, an_empty_wheel_waits_forever)
{
    cr_assert_eq(wheel_next_ns(&wheel), UINT64_MAX);
    cr_assert_eq(advance_to(1ULL << 62), 0);
    cr_assert_eq(wheel_next_ns(&wheel), UINT64_MAX);
}

Test(wheel, fires_once_never_early_and_at_most_a_tick_late_whatever_the_deadline)
{
    for (uint64_t deadline = 0; deadline < 700 * TICK; deadline += 333) {
        set_up();
        wheel_arm(&wheel, &probes[0].timer, deadline);
        for (uint64_t t = 1; probes[0].fired == 0; t += 250)
            advance_to(t);
        cr_assert_geq(now, deadline);
        cr_assert_lt(now, deadline + TICK + 250);
        cr_assert_eq(wheel.armed, 0);
        advance_to(now + 600 * TICK);
        cr_assert_eq(probes[0].fired, 1);
    }
}

Test(wheel, a_deadline_in_the_past_fires_at_the_next_advance)
{
    advance_to(10 * TICK + 5);
    wheel_arm(&wheel, &probes[0].timer, 3 * TICK);
    wheel_arm(&wheel, &probes[1].timer, 0);
    cr_assert_leq(wheel_next_ns(&wheel), now);
    cr_assert_eq(advance_to(10 * TICK + 5), 2);
}

Test(wheel, disarmed_timers_do_not_fire)
{
    wheel_arm(&wheel, &probes[0].timer, 5 * TICK);
    wheel_arm(&wheel, &probes[1].timer, 5 * TICK);
    wheel_disarm(&wheel, &probes[0].timer);
    wheel_disarm(&wheel, &probes[0].timer);
    cr_assert_not(wheel_is_armed(&probes[0].timer));
    cr_assert_eq(advance_to(5 * TICK), 1);
    cr_assert_eq(probes[0].fired, 0);
    wheel_disarm(&wheel, &probes[1].timer);
    cr_assert_eq(wheel.armed, 0);
}

Test(wheel, arming_again_moves)
{
    wheel_arm(&wheel, &probes[0].timer, 5 * TICK);
    wheel_arm(&wheel, &probes[0].timer, 900 * TICK);
    cr_assert_eq(wheel.armed, 1);
    cr_assert_eq(advance_to(899 * TICK), 0);
    cr_assert_eq(advance_to(900 * TICK), 1);
}

Test(wheel, random_timers_fire_in_order_of_ticks_however_time_jumps)
{
    for (uint32_t round = 0; round < 60; round++) {
        set_up();
        uint32_t span = 1 + random_below(round % 2 == 0 ? 3000 * TICK : 200 * TICK);
        for (uint32_t i = 0; i < TIMERS; i++)
            wheel_arm(&wheel, &probes[i].timer, random_below(span));
        while (wheel.armed > 0)
            advance_to(now + random_below(round % 3 == 0 ? 2 * TICK : 700 * TICK));
        static uint64_t tick_at[TIMERS];
        for (uint32_t i = 0; i < TIMERS; i++) {
            cr_assert_eq(probes[i].fired, 1);
            cr_assert_geq(probes[i].fired_at, probes[i].timer.deadline_ns);
            tick_at[probes[i].position] = (probes[i].timer.deadline_ns + TICK - 1) / TICK;
        }
        for (uint32_t i = 1; i < TIMERS; i++)
            cr_assert_leq(tick_at[i - 1], tick_at[i]);
    }
}

Test(wheel, following_next_ns_fires_everything_in_time)
{
    for (uint32_t round = 0; round < 30; round++) {
        set_up();
        for (uint32_t i = 0; i < 50; i++)
            wheel_arm(&wheel, &probes[i].timer, random_below(2000 * TICK));
        for (uint32_t i = 0; i < 50; i += 3)
            wheel_disarm(&wheel, &probes[i].timer);
        while (wheel.armed > 0) {
            uint64_t next = wheel_next_ns(&wheel);
            cr_assert_lt(next, now + (WHEEL_SLOTS + 2) * TICK);
            advance_to(max_u64(now, next));
            cr_assert(wheel.armed == 0 || wheel_next_ns(&wheel) > now, "it must not spin");
        }
        for (uint32_t i = 0; i < 50; i++) {
            cr_assert_eq(probes[i].fired, i % 3 != 0);
            if (i % 3 != 0)
                cr_assert_lt(probes[i].fired_at, probes[i].timer.deadline_ns + TICK);
        }
    }
}

Test(wheel, a_pause_of_a_century_is_skipped_quickly)
{
    wheel_arm(&wheel, &probes[0].timer, 40 * TICK);
    wheel_arm(&wheel, &probes[1].timer, 1ULL << 40);
    wheel_arm(&wheel, &probes[2].timer, UINT64_MAX);
    cr_assert_eq(advance_to(3155760000ULL * NS_PER_SEC), 2);
    cr_assert_lt(probes[0].position, probes[1].position);
    cr_assert_eq(wheel.armed, 1);
    wheel_disarm(&wheel, &probes[2].timer);
}

static void fire_and_rearm(void *ctx, struct wheel_timer *t)
{
    on_fire(ctx, t);
    wheel_arm(&wheel, t, 0);
}

Test(wheel, a_timer_that_rearms_itself_in_the_past_does_not_hold_the_advance)
{
    wheel_arm(&wheel, &probes[0].timer, TICK);
    for (uint32_t i = 1; i <= 5; i++) {
        now = 10 * TICK;
        cr_assert_eq(wheel_advance(&wheel, now, fire_and_rearm, &wheel), 1);
        cr_assert_eq(probes[0].fired, i);
    }
}

static void fire_and_disarm_victim(void *ctx, struct wheel_timer *t)
{
    on_fire(ctx, t);
    wheel_disarm(&wheel, &victim->timer);
    memset(&victim->timer, 0, sizeof(victim->timer));
}

Test(wheel, a_callback_may_disarm_and_free_any_other_timer)
{
    for (uint32_t who = 1; who < 6; who++) {
        set_up();
        victim = &probes[who];
        for (uint32_t i = 0; i < 5; i++)
            wheel_arm(&wheel, &probes[i].timer, 4 * TICK);
        wheel_arm(&wheel, &probes[5].timer, (4 + WHEEL_SLOTS) * TICK); /* same slot, next round */
        now = 300 * TICK;
        cr_assert_eq(wheel_advance(&wheel, now, fire_and_disarm_victim, &wheel), 5);
        cr_assert_eq(victim->fired, 0);
        cr_assert_eq(probes[5].fired, who != 5);
        cr_assert_eq(wheel.armed, 0);
    }
}

static void fire_and_move_victim(void *ctx, struct wheel_timer *t)
{
    on_fire(ctx, t);
    if (victim->fired == 0)
        wheel_arm(&wheel, &victim->timer, 20 * TICK);
}

Test(wheel, a_callback_may_move_a_timer_that_is_due_now)
{
    victim = &probes[1];
    wheel_arm(&wheel, &probes[0].timer, 4 * TICK);
    wheel_arm(&wheel, &probes[1].timer, 4 * TICK);
    now = 4 * TICK;
    cr_assert_eq(wheel_advance(&wheel, now, fire_and_move_victim, &wheel), 1);
    cr_assert_eq(advance_to(19 * TICK), 0);
    cr_assert_eq(advance_to(20 * TICK), 1);
}

Test(wheel, starts_at_any_time)
{
    wheel_init(&wheel, TICK, 1234567890123ULL);
    wheel_arm(&wheel, &probes[0].timer, 1234567890123ULL + 5 * TICK);
    cr_assert_eq(advance_to(1234567890123ULL + 4 * TICK), 0);
    cr_assert_eq(advance_to(1234567890123ULL + 6 * TICK), 1);
}
