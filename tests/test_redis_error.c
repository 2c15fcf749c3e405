/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Error replies by their first words, as Redis 7.0 writes them. */

#include "pubsub/redis_error.h"

#include <stdbool.h>
#include <string.h>

#include <criterion/criterion.h>

static const struct {
    const char *text;
    enum redis_error kind;
} rows[] = {
    {"ERR unknown command 'foo'", REDIS_ERROR_ERR},
    {"ERR max number of clients reached", REDIS_ERROR_MAX_CLIENTS},
    {"ERR max number of clients reached, really", REDIS_ERROR_ERR},
    {"ERR", REDIS_ERROR_ERR},
    {"ERRATIC", REDIS_ERROR_OTHER},
    {"ER", REDIS_ERROR_OTHER},
    {"", REDIS_ERROR_OTHER},
    {"DENIED Redis is running in protected mode", REDIS_ERROR_DENIED},
    {"LOADING Redis is loading the dataset in memory", REDIS_ERROR_LOADING},
    {"NOAUTH Authentication required.", REDIS_ERROR_NOAUTH},
    {"WRONGPASS invalid username-password pair or user is disabled.", REDIS_ERROR_WRONGPASS},
    {"NOPERM this user has no permissions to run the 'publish' command", REDIS_ERROR_NOPERM},
    {"READONLY You can't write against a read only replica.", REDIS_ERROR_READONLY},
    {"OOM command not allowed when used memory > 'maxmemory'.", REDIS_ERROR_OOM},
    {"MISCONF Redis is configured to save RDB snapshots", REDIS_ERROR_MISCONF},
    {"MOVED 3999 127.0.0.1:6381", REDIS_ERROR_MOVED},
    {"ASK 3999 127.0.0.1:6381", REDIS_ERROR_ASK},
    {"CROSSSLOT Keys in request don't hash to the same slot", REDIS_ERROR_CROSSSLOT},
    {"TRYAGAIN Multiple keys request during rehashing of slot", REDIS_ERROR_TRYAGAIN},
    {"CLUSTERDOWN Hash slot not served", REDIS_ERROR_CLUSTERDOWN},
    {"MASTERDOWN Link with MASTER is down", REDIS_ERROR_MASTERDOWN},
    {"NOREPLICAS Not enough good replicas to write.", REDIS_ERROR_NOREPLICAS},
    {"BUSY Redis is busy running a script.", REDIS_ERROR_BUSY},
    {"NOPROTO unsupported protocol version", REDIS_ERROR_NOPROTO},
    {"WRONGTYPE Operation against a key holding the wrong kind of value", REDIS_ERROR_OTHER},
};

Test(redis_error, the_first_word_tells_the_kind)
{
    bool seen[REDIS_ERROR_COUNT] = {false};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        cr_assert_eq(redis_error_of(rows[i].text, strlen(rows[i].text)), rows[i].kind, "%s",
                     rows[i].text);
        seen[rows[i].kind] = true;
    }
    for (size_t i = 0; i < REDIS_ERROR_COUNT; i++)
        cr_assert(seen[i], "%s", redis_error_label((enum redis_error)i));
}

Test(redis_error, labels_differ_and_every_kind_has_a_remedy)
{
    for (size_t i = 0; i < REDIS_ERROR_COUNT; i++) {
        const char *label = redis_error_label((enum redis_error)i);
        cr_assert_eq(strspn(label, "abcdefghijklmnopqrstuvwxyz_"), strlen(label));
        cr_assert_gt(strlen(redis_error_remedy((enum redis_error)i)), 10);
        for (size_t j = 0; j < i; j++)
            cr_assert_str_neq(label, redis_error_label((enum redis_error)j));
    }
}
