/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* One question to one of several servers. On the shard's thread. */

#include "pubsub/redis_scout.h"

#include <stdio.h>

#define TEXT_MAX 256 /* of what on_useless() is told */
#define USELESS "its answer is of no use"
#define ERROR_MAX 160 /* of them a server's own words */

/* Of a cluster's list, where a node of the URL may stand twice: the next in turn that is another
 * one and not skipped. False: there is none, *at is just the next. */
static bool find_next(const struct redis_scout *s, uint32_t *at)
{
    for (uint32_t i = 1; s->events->is_skipped != NULL && i < s->endpoint_count; i++) {
        *at = (s->at + i) % s->endpoint_count;
        if (!redis_endpoint_is_same(&s->endpoints[*at], redis_scout_asked(s)) &&
            !s->events->is_skipped(s, &s->endpoints[*at]))
            return true;
    }
    *at = (s->at + 1) % s->endpoint_count;
    return s->events->is_skipped == NULL;
}

static void go_on(struct redis_scout *s)
{
    uint32_t at;

    (void)find_next(s, &at);
    s->at = at;
    redis_link_set_endpoint(&s->link, &s->endpoints[at]);
}

static void on_up(struct redis_link *l)
{
    struct redis_scout *s = l->owner;

    s->is_hurried = true;
    s->is_waiting = false;
    s->asked_ns = 0;
}

/* A server's own words, and what an operator can do if that is known. */
static void add_remedy(char out[TEXT_MAX], const char *what, const char *text, enum redis_error e)
{
    bool is_known = e != REDIS_ERROR_OTHER && e != REDIS_ERROR_ERR;

    snprintf(out, TEXT_MAX, "%s%.*s%s%s", what, ERROR_MAX, text, is_known ? "; remedy: " : "",
             is_known ? redis_error_remedy(e) : "");
}

static void on_down(struct redis_link *l, enum redis_down why, const char *text, bool was_up)
{
    struct redis_scout *s = l->owner;
    char refusal[TEXT_MAX];

    (void)was_up;
    s->is_waiting = false;
    if (why == REDIS_DOWN_STOPPED)
        return;
    if (why == REDIS_DOWN_REFUSED) {
        add_remedy(refusal, "", text, (enum redis_error)l->down_error);
        text = refusal;
    }
    if (s->is_doubted && s->events->on_doubted != NULL)
        s->events->on_doubted(s);
    else if (s->events->on_useless != NULL)
        s->events->on_useless(s, text);
    go_on(s);
}

static void useless(struct redis_scout *s, const char *text)
{
    redis_link_retry(&s->link, text);
}

static void on_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *r)
{
    struct redis_scout *s = l->owner;
    char text[TEXT_MAX];

    (void)tag;
    s->is_waiting = false;
    s->why = NULL;
    if (s->events->on_answer(s, r)) {
        s->last_use_ns = l->io->now_ns;
        s->due_ns = s->asked_ns + s->interval_ns; /* which the answer may have changed */
        return;
    }
    if (r->type == REDIS_TYPE_ERROR)
        add_remedy(text, USELESS ": ", r->text, redis_error_of(r->text, r->len));
    else
        snprintf(text, sizeof(text), USELESS "%s%s", s->why != NULL ? ": " : "",
                 s->why != NULL ? s->why : "");
    useless(s, text);
}

static void on_release(struct redis_link *l, struct message *m)
{
    (void)l;
    (void)m;
    CHECK(!"questions have no bodies");
}

static const struct redis_link_events link_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_release = on_release};

void redis_scout_init(struct redis_scout *s, struct io *io, const struct redis_link_config *config,
                      const struct redis_endpoint *endpoints, uint32_t endpoint_count,
                      const char *name, const struct redis_arg *args, uint32_t arg_count,
                      uint64_t interval_ns, const struct redis_scout_events *events, void *owner)
{
    struct redis_link_config link = *config;

    CHECK(endpoint_count > 0);
    *s = (struct redis_scout){.events = events,
                              .owner = owner,
                              .endpoints = endpoints,
                              .endpoint_count = endpoint_count,
                              .at = (uint32_t)io_random_below(io, endpoint_count),
                              .name = name,
                              .args = args,
                              .arg_count = arg_count,
                              .interval_ns = interval_ns};
    link.role = REDIS_ROLE_COMMAND;
    link.endpoint = endpoints[s->at];
    redis_link_init(&s->link, io, &link, &link_events, s);
}

void redis_scout_start(struct redis_scout *s)
{
    redis_link_start(&s->link);
}

void redis_scout_stop(struct redis_scout *s)
{
    redis_link_stop(&s->link);
}

void redis_scout_deinit(struct redis_scout *s)
{
    redis_link_deinit(&s->link);
}

void redis_scout_set_endpoints(struct redis_scout *s, const struct redis_endpoint *endpoints,
                               uint32_t count)
{
    CHECK(count > 0);
    s->endpoints = endpoints;
    s->endpoint_count = count;
    s->at = s->at % count;
}

void redis_scout_hurry(struct redis_scout *s)
{
    s->is_hurried = true;
}

/* Not while the next one's answer is waited for, nor again at once. */
void redis_scout_doubt(struct redis_scout *s)
{
    uint32_t at;

    s->is_hurried = true;
    if (!redis_link_is_up(&s->link) || s->is_waiting || s->asked_ns == 0 ||
        s->link.io->now_ns < s->asked_ns + REDIS_SCOUT_PAUSE_NS || !find_next(s, &at))
        return;
    s->is_doubted = true;
    useless(s, "the server that it names is of no use");
    s->is_doubted = false;
}

static void ask(struct redis_scout *s, uint64_t now_ns)
{
    s->asked_ns = now_ns;
    s->due_ns = now_ns + s->interval_ns;
    s->is_waiting = redis_link_command(&s->link, s->name, s->args, s->arg_count, 0) == 0;
    s->is_hurried = !s->is_waiting; /* no memory */
}

/* When the next question may be asked, or its answer is overdue. */
static uint64_t next_ns(const struct redis_scout *s)
{
    if (s->is_waiting)
        return s->asked_ns + REDIS_SCOUT_PATIENCE_NS;
    if (s->is_hurried)
        return s->asked_ns == 0 ? 0 : s->asked_ns + REDIS_SCOUT_PAUSE_NS;
    return s->due_ns;
}

uint64_t redis_scout_turn(struct redis_scout *s, uint64_t now_ns)
{
    uint64_t link_ns = redis_link_turn(&s->link, now_ns);

    if (!redis_link_is_up(&s->link))
        return link_ns;
    if (now_ns >= next_ns(s)) {
        if (s->is_waiting)
            useless(s, "it does not answer");
        else
            ask(s, now_ns);
    }
    return redis_link_is_up(&s->link) ? next_ns(s) : redis_link_turn(&s->link, now_ns);
}

void redis_scout_flush(struct redis_scout *s)
{
    redis_link_flush(&s->link);
}
