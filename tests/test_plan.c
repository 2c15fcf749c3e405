/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The arithmetic of `tidewire plan`, against figures worked out by hand. */

#include <criterion/criterion.h>

#include "tools/tidewire/plan.h"

#define GIB (1ULL << 30)

/* Ten million users in nodes of 16 GiB, of which 4 are kept back. */
static struct plan_input ten_million(void)
{
    return (struct plan_input){
        .users = 10000000,
        .ram_bytes = 16 * GIB,
        .reserve_bytes = 4 * GIB,
        .cores = 8,
        .busy_percent = 50,
        .payload_bytes = 106,
        .user_bytes = 400,
        .kernel_bytes = 4600,
        .delivery_ns = 5000,
        .publish_ns = 8000,
        .heartbeat_ns = 10000,
        .ping_interval_ns = 25 * NS_PER_SEC,
        .network_bits = 10000000000,
    };
}

static struct plan made(const struct plan_input *in)
{
    struct plan p;
    cr_assert_null(plan_check(in));
    plan_make(in, &p);
    return p;
}

Test(plan, the_rule_of_thumb_is_1_2_million_in_12_gb_and_9_servers_for_10_million)
{
    struct plan_input in = ten_million();
    struct plan p = made(&in);
    cr_assert_eq(p.thumb_conns_per_node, 1200000);
    cr_assert_eq(p.thumb_nodes, 9);
}

Test(plan, memory_holds_as_many_connections_as_fit_behind_the_reserve)
{
    struct plan_input in = ten_million();
    struct plan p = made(&in);
    cr_assert_eq(p.conn_bytes, 5000);
    cr_assert_eq(p.conns_per_node, 12 * GIB / 5000);
    cr_assert_eq(p.nodes_by_memory, 4, "2.58 million each");
    cr_assert_eq(p.nodes, 4);
    cr_assert_eq(p.users_per_node, 2500000);
}

Test(plan, processor_time_is_deliveries_publishes_and_heartbeats)
{
    struct plan_input in = ten_million();
    in.ping_interval_ns = 0;
    cr_assert_eq(made(&in).cpu_milli, 0);
    cr_assert_eq(made(&in).nodes_by_cpu, 0);
    in.rate = 1000000; /* 5 cores */
    cr_assert_eq(made(&in).cpu_milli, 5000);
    in.publish_rate = 500000; /* 4 more */
    cr_assert_eq(made(&in).cpu_milli, 9000);
    in.ping_interval_ns = 25 * NS_PER_SEC; /* 400,000 pings: 4 more */
    cr_assert_eq(made(&in).cpu_milli, 13000);
    cr_assert_eq(made(&in).nodes_by_cpu, 4, "8 cores, half of each");
    in.busy_percent = 100;
    cr_assert_eq(made(&in).nodes_by_cpu, 2);
}

Test(plan, what_is_needed_most_decides_and_spare_nodes_come_on_top)
{
    struct plan_input in = ten_million();
    in.rate = 12500000; /* of 200 bytes: 20 Gbit/s; 62.5 cores */
    in.spare = 2;
    struct plan p = made(&in);
    cr_assert_eq(p.network_bits, 20000000000);
    cr_assert_eq(p.nodes_by_network, 2);
    cr_assert_eq(p.nodes_by_cpu, 17);
    cr_assert_eq(p.nodes, 19);
    in.network_bits = 1000000000;
    cr_assert_eq(made(&in).nodes, 22);
    in.network_bits = 0;
    cr_assert_eq(made(&in).nodes_by_network, 0);
}

Test(plan, one_user_needs_one_node)
{
    struct plan_input in = ten_million();
    in.users = 1;
    struct plan p = made(&in);
    cr_assert_eq(p.nodes, 1);
    cr_assert_eq(p.users_per_node, 1);
}

Test(plan, the_largest_numbers_do_not_wrap)
{
    struct plan_input in = ten_million();
    in.users = UINT64_MAX;
    in.rate = UINT64_MAX;
    in.publish_rate = UINT64_MAX;
    struct plan p = made(&in);
    cr_assert_eq(p.network_bits, UINT64_MAX);
    cr_assert_gt(p.nodes, UINT64_MAX / 2000000000);
}

Test(plan, a_reserve_that_leaves_no_room_is_refused)
{
    struct plan_input in = ten_million();
    in.reserve_bytes = in.ram_bytes;
    cr_assert_not_null(plan_check(&in));
    in.reserve_bytes = in.ram_bytes - 4999;
    cr_assert_not_null(plan_check(&in));
    in.reserve_bytes = in.ram_bytes - 5000;
    cr_assert_null(plan_check(&in));
    cr_assert_eq(made(&in).conns_per_node, 1);
}
