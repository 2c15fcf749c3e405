/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* URLs of Redis servers: what they mean, and what is wrong with them. */

#include "pubsub/redis_url.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

static struct redis_url parse(const char *text)
{
    struct redis_url url;
    char why[REDIS_URL_WHY_MAX] = "";

    cr_assert_eq(redis_url_parse(text, &url, why), 0, "%s: %s", text, why);
    return url;
}

Test(redis_url, parts_of_a_url)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        uint32_t db;
        const char *user, *password, *formatted;
    } rows[] = {
        {"redis://localhost", "localhost", 6379, 0, "", "", "localhost:6379"},
        {"redis://localhost/", "localhost", 6379, 0, "", "", "localhost:6379"},
        {"redis://127.0.0.1:7000/15", "127.0.0.1", 7000, 15, "", "", "127.0.0.1:7000"},
        {"redis://[::1]", "::1", 6379, 0, "", "", "[::1]:6379"},
        {"redis://[fe80::1]:1/2", "fe80::1", 1, 2, "", "", "[fe80::1]:1"},
        {"redis://:secret@h", "h", 6379, 0, "", "secret", "h:6379"},
        {"redis://alice:se:cret@h:65535", "h", 65535, 0, "alice", "se:cret", "h:65535"},
        {"redis://a%40b:p%3aq%2Fr%25@h/1", "h", 6379, 1, "a@b", "p:q/r%", "h:6379"},
        {"redis://alice:p@ss@h", "h", 6379, 0, "alice", "p@ss", "h:6379"},
        {"redis://redis_1.example-a.org:1", "redis_1.example-a.org", 1, 0, "", "",
         "redis_1.example-a.org:1"},
        {"unix:/run/redis.sock", "/run/redis.sock", 0, 0, "", "", "unix:/run/redis.sock"},
        {"redis+unix:///run/redis.sock?db=4", "/run/redis.sock", 0, 4, "", "",
         "unix:/run/redis.sock"},
        {"redis+unix://bob:pw@/a%20b", "/a b", 0, 0, "bob", "pw", "unix:/a b"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct redis_url url = parse(rows[i].text);
        char formatted[REDIS_ENDPOINT_TEXT_MAX];
        cr_assert_str_eq(url.endpoint.host, rows[i].host, "%s", rows[i].text);
        cr_assert_eq(url.endpoint.port, rows[i].port, "%s", rows[i].text);
        cr_assert_eq(url.endpoint.is_unix, rows[i].port == 0);
        cr_assert_eq(url.db, rows[i].db, "%s", rows[i].text);
        cr_assert_str_eq(url.user, rows[i].user, "%s", rows[i].text);
        cr_assert_str_eq(url.password, rows[i].password, "%s", rows[i].text);
        redis_endpoint_format(&url.endpoint, formatted);
        cr_assert_str_eq(formatted, rows[i].formatted);
    }
}

Test(redis_url, an_s_behind_the_scheme_asks_for_tls_and_changes_nothing_else)
{
    static const char *const rest[] = {"://:p%2fw@h:7/2", "://h", "+sentinel://a,b:1/m?sentinel=:x",
                                       "+cluster://u:p@a,[::1]"};

    for (size_t i = 0; i < ARRAY_LEN(rest); i++) {
        char plain_text[64], tls_text[64], plain_name[REDIS_URL_TEXT_MAX],
            tls_name[REDIS_URL_TEXT_MAX];
        snprintf(plain_text, sizeof(plain_text), "redis%s", rest[i]);
        snprintf(tls_text, sizeof(tls_text), "rediss%s", rest[i]);
        struct redis_url plain = parse(plain_text), tls = parse(tls_text);
        cr_assert(!plain.is_tls && tls.is_tls);
        cr_assert(!redis_url_is_tls(plain_text) && redis_url_is_tls(tls_text));
        cr_assert_eq(redis_url_is_cluster(tls_text), redis_url_is_cluster(plain_text));
        cr_assert_eq(redis_url_is_cluster(tls_text), tls.kind == REDIS_KIND_CLUSTER);
        redis_url_format(&plain, plain_name);
        redis_url_format(&tls, tls_name);
        cr_assert_str_eq(tls_name, plain_name, "rooms are shared out alike");
        tls.is_tls = false;
        cr_assert_arr_eq(&tls, &plain, sizeof(tls));
    }
    cr_assert(!parse("redis+unix:///a").is_tls && !parse("unix:/a").is_tls);
}

Test(redis_url, sentinels_and_clusters_have_several_hosts)
{
    struct redis_url url = parse("redis+sentinel://alice:p%2fw@s1,[::1]:1,s3:7/my%20master/2"
                                 "?sentinel=bob:x");
    char text[REDIS_URL_TEXT_MAX];

    cr_assert_eq(url.kind, REDIS_KIND_SENTINEL);
    cr_assert_eq(url.endpoint_count, 3);
    cr_assert_str_eq(url.endpoints[0].host, "s1");
    cr_assert_eq(url.endpoints[0].port, 26379);
    cr_assert_str_eq(url.endpoints[1].host, "::1");
    cr_assert_eq(url.endpoints[2].port, 7);
    cr_assert_str_eq(url.master, "my master");
    cr_assert_eq(url.db, 2);
    cr_assert_str_eq(url.user, "alice");
    cr_assert_str_eq(url.password, "p/w");
    cr_assert_str_eq(url.sentinel_user, "bob");
    cr_assert_str_eq(url.sentinel_password, "x");
    redis_url_format(&url, text);
    cr_assert_str_eq(text, "my master by sentinel s1:26379");

    url = parse("redis+sentinel://s1/m?sentinel=:pw");
    cr_assert_str_eq(url.master, "m");
    cr_assert_str_eq(url.sentinel_password, "pw");
    cr_assert_eq(url.db, 0);

    url = parse("redis+cluster://:pw@a,b:7001");
    cr_assert_eq(url.kind, REDIS_KIND_CLUSTER);
    cr_assert_eq(url.endpoint_count, 2);
    cr_assert_eq(url.endpoints[0].port, 6379);
    cr_assert_str_eq(url.endpoints[1].host, "b");
    cr_assert_str_eq(url.password, "pw");
    redis_url_format(&url, text);
    cr_assert_str_eq(text, "cluster of a:6379");

    url = parse("redis://h:1");
    cr_assert_eq(url.kind, REDIS_KIND_SINGLE);
    cr_assert_eq(url.endpoint_count, 1);
    redis_url_format(&url, text);
    cr_assert_str_eq(text, "h:1");
}

Test(redis_url, what_is_wrong_is_said_without_the_password)
{
    static const struct {
        const char *text, *complaint;
    } rows[] = {
        {"localhost:6379", "begins with"},
        {"http://localhost", "begins with"},
        {"", "begins with"},
        {"rediss:/h", "by TLS with rediss"},
        {"redisss://h", "begins with"},
        {"rediss+unix:///a", "begins with"},
        {"rediss://h/x", "database"},
        {"rediss+cluster://a/1", "no databases"},
        {"redis://", "host must be"},
        {"redis://:6379", "host must be"},
        {"redis://a b", "host must be"},
        {"redis://a,b", "host must be"},
        {"redis://[::1", "] behind"},
        {"redis://[zz]", "host must be"},
        {"redis://[::1]x", "port must be"},
        {"redis://h:", "port must be"},
        {"redis://h:0", "port must be"},
        {"redis://h:65536", "port must be"},
        {"redis://h:1:2", "port must be"},
        {"redis://h:99999999999999999999", "port must be"},
        {"redis://h/x", "database"},
        {"redis://h/1/2", "database"},
        {"redis://h/4294967296", "database"},
        {"redis://hunter2@h", "USER:PASSWORD"},
        {"redis://alice:@h", "empty"},
        {"redis://:hunter2%@h", "percent"},
        {"redis://:hunter2%zz@h", "percent"},
        {"redis://:hunter2%00@h", "percent"},
        {"redis+sentinel://a,b", "/MASTER"},
        {"redis+sentinel://a,b/", "/MASTER"},
        {"redis+sentinel://a,,b/m", "host must be"},
        {"redis+sentinel://a,b/m/x", "database"},
        {"redis+sentinel://a/m?", "sentinel="},
        {"redis+sentinel://a/m?x=1", "sentinel="},
        {"redis+sentinel://a/m?sentinel=hunter2", "USER:PASSWORD"},
        {"redis+sentinel://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/m", "at most 16"},
        {"redis+cluster://", "host must be"},
        {"redis+cluster://a,b/1", "no databases"},
        {"unix:", "path"},
        {"redis+unix://", "path"},
        {"redis+unix:///a?x=1", "db=NUMBER"},
        {"redis+unix:///a?db=", "database"},
        {"unix:/123456789012345678901234567890123456789012345678901234567890123456789012345678901"
         "234567890123456789012345678",
         "107"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct redis_url url;
        char why[REDIS_URL_WHY_MAX] = "";
        cr_assert_eq(redis_url_parse(rows[i].text, &url, why), -EINVAL, "%s", rows[i].text);
        cr_assert_not_null(strstr(why, rows[i].complaint), "%s: %s", rows[i].text, why);
        cr_assert_null(strstr(why, "hunter2"));
    }
}

Test(redis_url, names_and_secrets_have_bounds)
{
    char text[2000], why[REDIS_URL_WHY_MAX];
    struct redis_url url;

    snprintf(text, sizeof(text), "redis://%0*d", REDIS_HOST_MAX - 1, 1);
    cr_assert_eq(redis_url_parse(text, &url, why), 0);
    cr_assert_eq(strlen(url.endpoint.host), REDIS_HOST_MAX - 1);
    snprintf(text, sizeof(text), "redis://%0*d", REDIS_HOST_MAX, 1);
    cr_assert_eq(redis_url_parse(text, &url, why), -EINVAL);
    snprintf(text, sizeof(text), "redis://:%0*d@h", REDIS_SECRET_MAX - 1, 1);
    cr_assert_eq(redis_url_parse(text, &url, why), 0);
    cr_assert_eq(strlen(url.password), REDIS_SECRET_MAX - 1);
    snprintf(text, sizeof(text), "redis://:%0*d@h", REDIS_SECRET_MAX, 1);
    cr_assert_eq(redis_url_parse(text, &url, why), -EINVAL);
}

Test(redis_url, passwords_are_masked_wherever_they_stand)
{
    static const char *const rows[][2] = {
        {"redis://h", "redis://h"},
        {"redis://h:6379/2", "redis://h:6379/2"},
        {"redis://[::1]:6379", "redis://[::1]:6379"},
        {"unix:/a:b@c", "unix:/a:b@c"},
        {"redis+unix:///a:b", "redis+unix:///a:b"},
        {"redis+sentinel://a:1,b:2/m", "redis+sentinel://a:1,b:2/m"},
        {"redis://:pw@h", "redis://:***@h"},
        {"rediss://:pw@h", "rediss://:***@h"},
        {"rediss+sentinel://u:pw@a,b/m?sentinel=s:pw",
         "rediss+sentinel://u:***@a,b/m?sentinel=s:***"},
        {"redis://u:pw@h:1/2", "redis://u:***@h:1/2"},
        {"redis://u:@h", "redis://u:@h"},
        {"redis+unix://u:p/w@/a?db=1", "redis+unix://u:***@/a?db=1"},
        {"redis+sentinel://u:pw@a,b/m?sentinel=s:pw",
         "redis+sentinel://u:***@a,b/m?sentinel=s:***"},
        {"redis+sentinel://a/m?sentinel=:p@w:", "redis+sentinel://a/m?sentinel=:***"},
        {"redis+sentinel://a/m?sentinel=pw", "redis+sentinel://a/m?sentinel=***"},
        {"redis+sentinel://a/m?sentinel=", "redis+sentinel://a/m?sentinel="},
        /* What is no right URL. */
        {"redis://pw@h", "redis://***@h"},
        {"redis://u:p@w:/x?@h", "redis://u:***@h"},
        {"redis://u:pw", "redis://u:***"},
        {"redis://:1pw/x", "redis://:***"},
        {"u:pw@h", "u:***@h"},
        {"", ""},
    };
    char out[64], small[12];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        redis_url_mask(rows[i][0], out, sizeof(out));
        cr_assert_str_eq(out, rows[i][1], "%s", rows[i][0]);
    }
    redis_url_mask("redis://u:pw@host", small, sizeof(small));
    cr_assert_str_eq(small, "redis://u:*");
}

Test(redis_url, a_scheme_begins_a_url_and_a_host_does_not)
{
    cr_assert(redis_url_begins("redis://a") && redis_url_begins("rediss://a,b"));
    cr_assert(redis_url_begins("redis+sentinel://a") && redis_url_begins("redis+unix:///a"));
    cr_assert(redis_url_begins("unix:/a"));
    cr_assert(!redis_url_begins("redis-2:26379,b") && !redis_url_begins("redis-2"));
    cr_assert(!redis_url_begins("redis-2,redis://x") && !redis_url_begins("unix:26379"));
    cr_assert(!redis_url_begins("") && !redis_url_begins("http://a"));
}
