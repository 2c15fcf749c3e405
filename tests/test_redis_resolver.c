/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Names to addresses on a thread of its own: answers, errors, forgotten lookups, the end while
 * getaddrinfo(3) is under way. The module is compiled into this program, with a getaddrinfo(3) that
 * answers what it is told to, when it is told to. */

#include "pubsub/redis_resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

static sem_t asked, may_answer; /* a call has begun; one may end */
static int answer;              /* what getaddrinfo() returns */

static void add_address(struct addrinfo **list, int family, const char *text)
{
    struct addrinfo *ai = calloc(1, sizeof(*ai) + sizeof(struct sockaddr_in6));

    ai->ai_family = family;
    ai->ai_addr = (struct sockaddr *)(ai + 1);
    ai->ai_addr->sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        ai->ai_addrlen = sizeof(struct sockaddr_in);
        inet_pton(AF_INET, text, &((struct sockaddr_in *)ai->ai_addr)->sin_addr);
    } else {
        ai->ai_addrlen = sizeof(struct sockaddr_in6);
        inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr);
    }
    ai->ai_next = *list;
    *list = ai;
}

static int test_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **list)
{
    (void)service;
    (void)hints;
    sem_post(&asked);
    sem_wait(&may_answer);
    *list = NULL;
    if (answer != 0 || strcmp(host, "empty") == 0)
        return answer;
    add_address(list, AF_INET6, "2001:db8::1");
    add_address(list, AF_INET, "192.0.2.1");
    return 0;
}

static void test_freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

#define getaddrinfo test_getaddrinfo
#define freeaddrinfo test_freeaddrinfo
#include "pubsub/redis_resolver.c" /* NOLINT(bugprone-suspicious-include): see above */
#undef getaddrinfo
#undef freeaddrinfo

static struct io *io;
static struct redis_resolver *resolver;

static void set_up(void)
{
    struct io_config cfg = {.conns_max = 10};
    const char *why;

    sem_init(&asked, 0, 0);
    sem_init(&may_answer, 0, 0);
    answer = 0;
    cr_assert_eq(io_epoll_new(&cfg, &io, &why), 0);
    cr_assert_eq(io_start(io), 0);
    resolver = redis_resolver_new();
    cr_assert_not_null(resolver);
}

static void tear_down(void)
{
    redis_resolver_free(resolver);
    io_free(io);
}

TestSuite(redis_resolver, .init = set_up, .fini = tear_down, .timeout = 20);

/* Sleeps in io_poll() until the answer wakes it. */
static int wait_for(struct redis_lookup *l, uint32_t attempt, struct io_addr *a)
{
    int err;

    while ((err = redis_lookup_result(l, attempt, a)) == -EINPROGRESS)
        cr_assert_geq(io_poll(io, IO_FOREVER), 0);
    return err;
}

static void expect_address(const struct io_addr *a, const char *text)
{
    char formatted[IO_ADDR_TEXT_MAX];

    io_addr_format(a, formatted);
    cr_assert_str_eq(formatted, text);
}

Test(redis_resolver, addresses_are_told_in_turns_and_the_io_is_woken)
{
    struct redis_lookup *l = redis_lookup_new(resolver, "redis.example", io);
    struct io_addr a;

    sem_wait(&asked);
    cr_assert_eq(redis_lookup_result(l, 0, &a), -EINPROGRESS, "the shard goes on meanwhile");
    sem_post(&may_answer);
    cr_assert_eq(wait_for(l, 0, &a), 0);
    expect_address(&a, "192.0.2.1:0");
    cr_assert_eq(redis_lookup_result(l, 1, &a), 0);
    expect_address(&a, "[2001:db8::1]:0");
    cr_assert_eq(redis_lookup_result(l, 2, &a), 0);
    expect_address(&a, "192.0.2.1:0");
    redis_lookup_free(l);
}

Test(redis_resolver, errors_are_told_apart)
{
    static const struct {
        int gai, err;
        const char *host;
    } rows[] = {{EAI_NONAME, -ENOENT, "a"},
                {EAI_AGAIN, -EAGAIN, "a"},
                {EAI_MEMORY, -ENOMEM, "a"},
                {EAI_FAIL, -ENOENT, "a"},
                {0, -ENOENT, "empty"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct io_addr a;
        answer = rows[i].gai;
        struct redis_lookup *l = redis_lookup_new(resolver, rows[i].host, io);
        sem_post(&may_answer);
        cr_assert_eq(wait_for(l, 0, &a), rows[i].err, "%zu", i);
        redis_lookup_free(l);
    }
}

Test(redis_resolver, lookups_may_be_forgotten_in_every_state)
{
    struct redis_lookup *lookups[4];
    struct io_addr a;

    for (int i = 0; i < 4; i++)
        lookups[i] = redis_lookup_new(resolver, "redis.example", io);
    sem_wait(&asked);
    redis_lookup_free(lookups[3]); /* queued, the last */
    redis_lookup_free(lookups[1]); /* queued */
    redis_lookup_free(lookups[0]); /* being asked for */
    sem_post(&may_answer);
    sem_post(&may_answer);
    cr_assert_eq(wait_for(lookups[2], 0, &a), 0);
    redis_lookup_free(lookups[2]); /* answered */
    lookups[0] = redis_lookup_new(resolver, "redis.example", io);
    sem_post(&may_answer);
    cr_assert_eq(wait_for(lookups[0], 0, &a), 0);
    redis_lookup_free(lookups[0]);
}

static uint32_t late_count(void)
{
    uint32_t count;

    pthread_mutex_lock(&resolver->lock);
    count = resolver->late_count;
    pthread_mutex_unlock(&resolver->lock);
    return count;
}

Test(redis_resolver, an_answer_that_came_too_late_is_for_the_next_who_asks)
{
    struct redis_lookup *l = redis_lookup_new(resolver, "slow.example", io);
    struct io_addr a;

    sem_wait(&asked);
    redis_lookup_free(l);
    sem_post(&may_answer);
    while (late_count() == 0)
        usleep(1000);
    for (int i = 0; i < 2; i++) { /* for each of a node's links */
        l = redis_lookup_new(resolver, "slow.example", io);
        cr_assert_eq(redis_lookup_result(l, 0, &a), 0);
        expect_address(&a, "192.0.2.1:0");
        redis_lookup_free(l);
    }
    cr_assert_eq(sem_trywait(&asked), -1, "nobody was asked again");
    l = redis_lookup_new(resolver, "other.example", io);
    cr_assert_eq(redis_lookup_result(l, 0, &a), -EINPROGRESS);
    sem_post(&may_answer);
    cr_assert_eq(wait_for(l, 0, &a), 0);
    redis_lookup_free(l);
    sem_wait(&asked);
    io->now_ns += 2 * LATE_NS;
    l = redis_lookup_new(resolver, "slow.example", io);
    cr_assert_eq(redis_lookup_result(l, 0, &a), -EINPROGRESS);
    cr_assert_eq(late_count(), 0);
    sem_post(&may_answer);
    cr_assert_eq(wait_for(l, 0, &a), 0);
    redis_lookup_free(l);
}

Test(redis_resolver, one_answer_is_for_all_who_ask_for_that_host)
{
    static const char *const hosts[] = {"a", "b", "a", "a", "b"};
    struct redis_lookup *lookups[ARRAY_LEN(hosts)];
    struct io_addr a;

    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        lookups[i] = redis_lookup_new(resolver, hosts[i], io);
    sem_wait(&asked);
    sem_post(&may_answer);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        if (strcmp(hosts[i], "a") == 0)
            cr_assert_eq(wait_for(lookups[i], 0, &a), 0);
        else
            cr_assert_eq(redis_lookup_result(lookups[i], 0, &a), -EINPROGRESS);
    }
    sem_wait(&asked);
    sem_post(&may_answer);
    cr_assert_eq(wait_for(lookups[4], 0, &a), 0);
    cr_assert_eq(wait_for(lookups[1], 0, &a), 0);
    cr_assert_eq(sem_trywait(&asked), -1);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
        redis_lookup_free(lookups[i]);
}

Test(redis_resolver, its_end_does_not_wait_for_a_name_server)
{
    struct redis_lookup *l = redis_lookup_new(resolver, "redis.example", io);

    sem_wait(&asked);
    redis_lookup_free(l);
    redis_resolver_free(resolver); /* returns, though nobody has answered */
    sem_post(&may_answer);
    resolver = NULL;
}

Test(redis_resolver, without_a_lookup_there_is_no_thread)
{
    cr_assert_not(resolver->has_thread);
}
