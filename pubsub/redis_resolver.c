/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* getaddrinfo(3) on a thread of its own. The lock guards everything but what a lookup is made with;
 * it is held for moments, never during a getaddrinfo(3). */

#include "pubsub/redis_resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pubsub/redis_url.h"

#define ADDRESSES_MAX 16
/* What is kept of answers that came too late: longer than two attempts of a link are apart. */
#define LATE_NS (15 * NS_PER_SEC)
#define LATE_MAX 16

enum lookup_state { LOOKUP_QUEUED, LOOKUP_RUNNING, LOOKUP_DONE, LOOKUP_FORGOTTEN };

struct redis_lookup {
    struct redis_resolver *resolver;
    struct redis_lookup *next; /* in the queue, or of those that are late */
    struct io *io;             /* woken when DONE */
    enum lookup_state state;
    int err; /* of DONE */
    uint32_t count;
    uint64_t done_ns; /* when it was answered; of those that are late */
    struct io_addr addresses[ADDRESSES_MAX];
    char host[REDIS_HOST_MAX];
};

struct redis_resolver {
    pthread_mutex_t lock;
    pthread_cond_t more; /* something was queued, or is_over */
    pthread_t thread;
    struct redis_lookup *first;
    struct redis_lookup **end; /* of the queue */
    struct redis_lookup *late; /* answered when nobody waited any more, one of a host */
    uint32_t late_count;
    bool has_thread;
    bool is_busy; /* within getaddrinfo() */
    bool is_over; /* who leaves last frees */
};

struct redis_resolver *redis_resolver_new(void)
{
    struct redis_resolver *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->more, NULL);
    r->end = &r->first;
    return r;
}

/* Forgets late answers that are too old by then, and those of host; NULL: of none. */
static void clear_late(struct redis_resolver *r, const char *host, uint64_t now_ns)
{
    struct redis_lookup **at = &r->late, *l;

    while ((l = *at) != NULL) {
        if (now_ns < l->done_ns + LATE_NS && (host == NULL || strcmp(l->host, host) != 0)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        r->late_count--;
        free(l);
    }
}

static void free_resolver(struct redis_resolver *r)
{
    clear_late(r, NULL, UINT64_MAX);
    pthread_cond_destroy(&r->more);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void redis_resolver_free(struct redis_resolver *r)
{
    bool has_thread, is_busy;
    pthread_t thread;

    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    CHECK(r->first == NULL);
    r->is_over = true;
    has_thread = r->has_thread;
    is_busy = r->is_busy;
    thread = r->thread;
    /* A busy thread frees r by itself, maybe right behind the unlock. */
    if (is_busy)
        pthread_detach(thread);
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
    if (is_busy)
        return;
    if (has_thread)
        pthread_join(thread, NULL);
    free_resolver(r);
}

/* The thread
 * --------------------------------------------------------------------------------------- */

static int error_of(int gai)
{
    switch (gai) {
    case 0:
        return 0;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        return -ENOENT;
    }
}

static uint32_t copy_addresses(const struct addrinfo *list, struct io_addr *addresses)
{
    uint32_t count = 0;

    for (const struct addrinfo *ai = list; ai != NULL && count < ADDRESSES_MAX; ai = ai->ai_next) {
        if (ai->ai_family == AF_INET || ai->ai_family == AF_INET6)
            io_addr_from_sockaddr(&addresses[count++], ai->ai_addr, ai->ai_addrlen);
    }
    return count;
}

/* Without the lock; nobody else looks at what it writes before the lookup is DONE. */
static int ask(const char *host, struct io_addr *addresses, uint32_t *count)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int err = error_of(getaddrinfo(host, NULL, &hints, &list));

    *count = 0;
    if (err != 0)
        return err;
    *count = copy_addresses(list, addresses);
    freeaddrinfo(list);
    return *count > 0 ? 0 : -ENOENT;
}

static void tell(struct redis_lookup *l, const struct redis_lookup *answered)
{
    l->err = answered->err;
    l->count = answered->count;
    memcpy(l->addresses, answered->addresses, sizeof(l->addresses));
    l->state = LOOKUP_DONE;
    io_wake(l->io, NULL); /* under the lock: whoever forgets the lookup knows that it is over */
}

/* With the lock. All others that wait for the same host. */
static void tell_others(struct redis_resolver *r, const struct redis_lookup *answered)
{
    struct redis_lookup **at = &r->first, *l;

    while ((l = *at) != NULL) {
        if (strcmp(l->host, answered->host) != 0) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        tell(l, answered);
    }
    r->end = at;
}

/* With the lock. The next who asks for that host gets it: where name servers take longer than a
 * link waits, nobody would ever have an answer. */
static void keep_late(struct redis_resolver *r, struct redis_lookup *l)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    l->done_ns = (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
    clear_late(r, l->host, l->done_ns);
    if (l->err != 0 || r->late_count == LATE_MAX) {
        free(l);
        return;
    }
    l->next = r->late;
    r->late = l;
    r->late_count++;
}

/* With the lock, which it gives up meanwhile. */
static void answer_first(struct redis_resolver *r)
{
    struct redis_lookup *l = r->first;

    r->first = l->next;
    if (r->first == NULL)
        r->end = &r->first;
    l->state = LOOKUP_RUNNING;
    r->is_busy = true;
    pthread_mutex_unlock(&r->lock);
    int err = ask(l->host, l->addresses, &l->count);
    pthread_mutex_lock(&r->lock);
    r->is_busy = false;
    l->err = err;
    tell_others(r, l);
    if (l->state == LOOKUP_FORGOTTEN) {
        keep_late(r, l);
        return;
    }
    l->state = LOOKUP_DONE;
    io_wake(l->io, NULL); /* as in tell() */
}

static void *run(void *ctx)
{
    struct redis_resolver *r = ctx;
    bool was_busy = false;

    pthread_mutex_lock(&r->lock);
    while (!r->is_over) {
        if (r->first == NULL) {
            pthread_cond_wait(&r->more, &r->lock);
            continue;
        }
        answer_first(r);
        was_busy = r->is_over;
    }
    pthread_mutex_unlock(&r->lock);
    if (was_busy)
        free_resolver(r);
    return NULL;
}

/* With the lock. Signals are the main thread's. */
static bool start_thread(struct redis_resolver *r)
{
    sigset_t all, old;

    if (r->has_thread)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r->has_thread = pthread_create(&r->thread, NULL, run, r) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r->has_thread;
}

/* Who asks
 * ----------------------------------------------------------------------------------------- */

/* With the lock. */
static const struct redis_lookup *find_late(struct redis_resolver *r, const char *host,
                                            uint64_t now_ns)
{
    const struct redis_lookup *l;

    clear_late(r, NULL, now_ns);
    for (l = r->late; l != NULL && strcmp(l->host, host) != 0; l = l->next)
        ;
    return l;
}

struct redis_lookup *redis_lookup_new(struct redis_resolver *r, const char *host, struct io *io)
{
    const struct redis_lookup *late;
    struct redis_lookup *l = calloc(1, sizeof(*l));
    bool ok;

    if (l == NULL)
        return NULL;
    *l = (struct redis_lookup){.resolver = r, .io = io, .state = LOOKUP_QUEUED};
    snprintf(l->host, sizeof(l->host), "%s", host);
    pthread_mutex_lock(&r->lock);
    late = find_late(r, host, io->now_ns);
    ok = late != NULL || start_thread(r);
    if (late != NULL) {
        tell(l, late);
    } else if (ok) {
        *r->end = l;
        r->end = &l->next;
        pthread_cond_signal(&r->more);
    }
    pthread_mutex_unlock(&r->lock);
    if (ok)
        return l;
    free(l);
    return NULL;
}

int redis_lookup_result(struct redis_lookup *l, uint32_t attempt, struct io_addr *a)
{
    int err = -EINPROGRESS;

    pthread_mutex_lock(&l->resolver->lock);
    if (l->state == LOOKUP_DONE) {
        err = l->err;
        if (err == 0)
            *a = l->addresses[attempt % l->count];
    }
    pthread_mutex_unlock(&l->resolver->lock);
    return err;
}

/* With the lock. */
static void dequeue(struct redis_resolver *r, struct redis_lookup *l)
{
    struct redis_lookup **at = &r->first;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (l->next == NULL)
        r->end = at;
}

void redis_lookup_free(struct redis_lookup *l)
{
    struct redis_resolver *r = l->resolver;

    pthread_mutex_lock(&r->lock);
    if (l->state == LOOKUP_QUEUED)
        dequeue(r, l);
    if (l->state == LOOKUP_RUNNING) {
        l->state = LOOKUP_FORGOTTEN; /* the thread frees it */
        l = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    free(l);
}
