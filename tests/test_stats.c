/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

#include <criterion/criterion.h>

#include <signal.h>
#include <string.h>

#include "core/stats.h"

enum { CONNECTIONS, OPEN, CLOSED_1000, CLOSED_1009, BUSY, STATS_LEN };

static const struct stats_desc descs[STATS_LEN] = {
    [CONNECTIONS] = {"tidewire_connections_total", NULL, "Connections accepted.", STATS_COUNTER, 0},
    [OPEN] = {"tidewire_connections", NULL, "Connections open.", STATS_GAUGE, 0},
    [CLOSED_1000] = {"tidewire_closes_total", "code=\"1000\"", "Closes by code.", STATS_COUNTER, 0},
    [CLOSED_1009] = {"tidewire_closes_total", "code=\"1009\"", "Not shown.", STATS_COUNTER, 1},
    [BUSY] = {"tidewire_busy_seconds", NULL, "Time not\nwaiting, \\ all.", STATS_COUNTER, 1e-9},
};

static const struct stats_desc other[] = {
    {"tidewire_other_total", NULL, "Other.", STATS_COUNTER, 0},
};

static struct stats_registry registry;

static const char *render(void)
{
    static char text[8192];
    size_t len = stats_render(&registry, text, sizeof(text));
    cr_assert_eq(len, strlen(text));
    return text;
}

Test(stats, an_empty_registry_renders_nothing)
{
    char text[4] = "abc";
    cr_assert_eq(stats_render(&registry, text, sizeof(text)), 0);
    cr_assert_str_empty(text);
}

Test(stats, the_text_has_help_and_type_once_for_each_name)
{
    static stats_value a[STATS_LEN], b[STATS_LEN], c[1];
    stats_register(&registry, descs, STATS_LEN, 0, a);
    stats_register(&registry, other, 1, 0, c);
    stats_register(&registry, descs, STATS_LEN, 1, b);
    stats_add(&a[CONNECTIONS], 40);
    stats_add(&b[CONNECTIONS], 2);
    stats_set(&a[OPEN], 7);
    stats_inc(&b[CLOSED_1009]);
    stats_set(&b[BUSY], 1500000000);
    stats_inc(&c[0]);
    cr_assert_str_eq(render(), "# HELP tidewire_connections_total Connections accepted.\n"
                               "# TYPE tidewire_connections_total counter\n"
                               "tidewire_connections_total 42\n"
                               "# HELP tidewire_connections Connections open.\n"
                               "# TYPE tidewire_connections gauge\n"
                               "tidewire_connections 7\n"
                               "# HELP tidewire_closes_total Closes by code.\n"
                               "# TYPE tidewire_closes_total counter\n"
                               "tidewire_closes_total{code=\"1000\"} 0\n"
                               "tidewire_closes_total{code=\"1009\"} 1\n"
                               "# HELP tidewire_busy_seconds Time not\\nwaiting, \\\\ all.\n"
                               "# TYPE tidewire_busy_seconds counter\n"
                               "tidewire_busy_seconds 1.5\n"
                               "# HELP tidewire_other_total Other.\n"
                               "# TYPE tidewire_other_total counter\n"
                               "tidewire_other_total 1\n");
}

Test(stats, a_sum_goes_over_all_shards_that_are_registered)
{
    static stats_value values[3][STATS_LEN];
    stats_register(&registry, descs, STATS_LEN, 5, values[0]);
    stats_register(&registry, descs, STATS_LEN, 0, values[1]);
    stats_register(&registry, descs, STATS_LEN, STATS_SHARDS_MAX - 1, values[2]);
    for (uint32_t s = 0; s < 3; s++)
        stats_set(&values[s][OPEN], s + 1);
    cr_assert_eq(stats_sum(&registry, descs, OPEN), 6);
    cr_assert_eq(stats_sum(&registry, descs, CONNECTIONS), 0);
    cr_assert_eq(stats_sum(&registry, other, 0), 0);
}

Test(stats, a_gauge_may_be_raised_on_one_shard_and_lowered_on_another)
{
    static stats_value a[STATS_LEN], b[STATS_LEN];
    stats_register(&registry, descs, STATS_LEN, 0, a);
    stats_register(&registry, descs, STATS_LEN, 1, b);
    stats_add(&a[OPEN], 5);
    stats_sub(&b[OPEN], 3);
    cr_assert_eq(stats_sum(&registry, descs, OPEN), 2);
    cr_assert_not_null(strstr(render(), "\ntidewire_connections 2\n"));
    stats_sub(&b[OPEN], 3);
    cr_assert_not_null(strstr(render(), "\ntidewire_connections -1\n"));
}

Test(stats, large_values_are_printed_in_full)
{
    static stats_value a[STATS_LEN];
    stats_register(&registry, descs, STATS_LEN, 0, a);
    stats_set(&a[CONNECTIONS], UINT64_MAX);
    stats_set(&a[BUSY], 123456789123);
    cr_assert_not_null(strstr(render(), "\ntidewire_connections_total 18446744073709551615\n"));
    cr_assert_not_null(strstr(render(), "\ntidewire_busy_seconds 123.456789123\n"));
}

Test(stats, a_text_that_does_not_fit_is_cut_and_its_length_told)
{
    static stats_value a[STATS_LEN];
    stats_register(&registry, descs, STATS_LEN, 0, a);
    const char *whole = render();
    size_t len = strlen(whole);
    cr_assert_eq(stats_render(&registry, NULL, 0), len);
    for (size_t cap = 1; cap <= len + 2; cap++) {
        char text[1024];
        memset(text, '!', sizeof(text));
        cr_assert_lt(cap, sizeof(text));
        cr_assert_eq(stats_render(&registry, text, cap), len);
        size_t shown = cap - 1 < len ? cap - 1 : len;
        cr_assert_eq(strlen(text), shown);
        cr_assert_eq(memcmp(text, whole, shown), 0);
        cr_assert_eq(text[cap], '!');
    }
}

Test(stats, a_shard_registers_a_table_once, .signal = SIGABRT)
{
    static stats_value a[STATS_LEN];
    stats_register(&registry, descs, STATS_LEN, 0, a);
    stats_register(&registry, descs, STATS_LEN, 0, a);
}
