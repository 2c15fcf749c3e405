/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tools/load/histogram.h: buckets without gaps, errors under 0.8 %, quantiles by rank. */

#include "tools/load/histogram.h"

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static struct histogram h;

static void set_up(void)
{
    memset(&h, 0, sizeof(h));
}

TestSuite(load_histogram, .init = set_up);

Test(load_histogram, buckets_follow_each_other_without_gap_or_overlap)
{
    uint64_t next = 0;
    for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
        uint64_t top = histogram_bucket_top(b);
        cr_assert_geq(top, next);
        cr_assert_eq(histogram_bucket(next), b);
        cr_assert_eq(histogram_bucket(top), b);
        next = top + 1;
    }
    cr_assert_eq(next, 1ULL << HISTOGRAM_VALUE_BITS);
}

Test(load_histogram, a_value_is_told_with_less_than_one_percent_error)
{
    for (uint64_t v = 1; v < 1ULL << HISTOGRAM_VALUE_BITS; v += 1 + v / 3) {
        uint64_t top = histogram_bucket_top(histogram_bucket(v));
        cr_assert_geq(top, v);
        cr_assert_leq((double)(top - v), (double)v * 0.008);
    }
}

Test(load_histogram, quantiles_are_those_of_the_sorted_values)
{
    for (uint64_t v = 1; v <= 200; v++)
        histogram_add(&h, v);
    cr_assert_eq(histogram_quantile(&h, 0), 1);
    cr_assert_eq(histogram_quantile(&h, 500000), 100);
    cr_assert_eq(histogram_quantile(&h, 500001), 101);
    cr_assert_eq(histogram_quantile(&h, 990000), 198);
    cr_assert_eq(histogram_quantile(&h, 1000000), 200);
    cr_assert_eq(histogram_mean(&h), 100);
    cr_assert_eq(h.max, 200);
}

Test(load_histogram, one_outlier_in_a_thousand_is_the_maximum_and_no_p99)
{
    for (int i = 0; i < 999; i++)
        histogram_add(&h, 100);
    histogram_add(&h, 5000000);
    cr_assert_eq(histogram_quantile(&h, 990000), 100);
    cr_assert_eq(histogram_quantile(&h, 999000), 100);
    cr_assert_eq(histogram_quantile(&h, 999001), 5000000);
    cr_assert_eq(h.max, 5000000);
}

Test(load_histogram, an_empty_one_answers_zero)
{
    cr_assert_eq(histogram_quantile(&h, 500000), 0);
    cr_assert_eq(histogram_mean(&h), 0);
}

Test(load_histogram, values_beyond_its_range_count_as_the_largest)
{
    histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.buckets[HISTOGRAM_BUCKETS - 1], 1);
    cr_assert_eq(histogram_quantile(&h, 500000), UINT64_MAX);
}

Test(load_histogram, merged_ones_are_as_if_all_had_been_added_to_one)
{
    struct histogram *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    cr_assert(a != NULL && b != NULL);
    for (uint64_t v = 0; v < 100000; v += 7) {
        histogram_add(v % 2 == 0 ? a : b, v * v);
        histogram_add(&h, v * v);
    }
    histogram_merge(a, b);
    cr_assert_eq(memcmp(a, &h, sizeof(h)), 0);
    free(a);
    free(b);
}
