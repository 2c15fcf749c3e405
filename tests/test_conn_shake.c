/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What of a turn is left to handshakes; the rest of net/conn_shake.h is tested by the simulation
 * and end to end. */

#include "net/conn_shake.h"

#include <criterion/criterion.h>

#include "net/conn_tls.h"

#define NOW_NS 1000

/* A shard that has neither connections nor handshakes. */
static uint64_t left_after_turn(uint64_t turn_work, uint64_t work_left)
{
    static struct net_tls tls;
    static struct net n;

    n.tls = &tls;
    n.turn_work = turn_work;
    n.work_left = work_left;
    cr_assert_eq(conn_shake_turn(&n, NOW_NS), IO_FOREVER, "it asks for no turn of its own");
    return n.work_left;
}

Test(conn_shake, a_quarter_of_the_turn_is_left_whatever_inflating_has_used)
{
    cr_assert_eq(left_after_turn(1000, 0), 250);
    cr_assert_eq(left_after_turn(1000, 249), 250);
    cr_assert_eq(left_after_turn(1000, 600), 600);
    cr_assert_eq(left_after_turn(UINT64_MAX, UINT64_MAX), UINT64_MAX, "no bound");
}
