/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The storm: what one seed does. In the simulation's one thread. */

#include "tests/sim/sim_seed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_tls.h"
#include "tests/sim/sim_user.h"

#define WAVES_MAX 3
#define WAVE_USERS_MAX 7
/* How long a wave may rage: then the rest of it comes when all is calm. */
#define WAVE_NS (4 * NS_PER_SEC)
/* Longer than the longest stall of the network that may still be under way. */
#define STALLS_NS (600 * NS_PER_MS)
/* In the calm everything but time-outs takes no time: who still waits then was forgotten. */
#define CALM_NS (8 * NS_PER_SEC)

static void say(const struct world *w, const char *what)
{
    if (w->verbose)
        printf("  %8.3f s  %s: %u users, %llu steps, hash %016llx\n",
               (double)(world_now(w) % (1000 * NS_PER_SEC)) / 1e9, what, w->user_count,
               (unsigned long long)w->steps, (unsigned long long)w->hash);
}

static void draw_requests(struct user *u)
{
    struct world *w = u->w;

    if (!world_one_in(w, 8))
        return;
    /* Rarely so many that their answers fill what may wait of those. */
    for (uint64_t n = 1 + world_below(w, world_one_in(w, 12) ? 500 : 3); n > 0; n--)
        user_request(u, world_one_in(w, 2) ? "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
                                           : "POST /echo HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void bad_request(struct user *u)
{
    static const char *const texts[] = {
        "GET /echo HTTP/1.1\nHost: a\n\n",
        "GET /echo HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /rooms/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    };

    const char *text = texts[world_below(u->w, ARRAY_LEN(texts))];
    u->is_http = true;
    u->like_tls = text[0] == 0x16 && u->tls == NULL;
    user_request(u, text);
}

static void proxy_header(struct user *u)
{
    static const char v1[] = "PROXY TCP4 192.0.2.1 192.0.2.2 5000 8000\r\n";
    static const uint8_t v2[] = {0x0d, 0x0a, 0x0d, 0x0a, 0,   0x0d, 0x0a, 0x51, 0x55, 0x49,
                                 0x54, 0x0a, 0x21, 0x11, 0,   12,   192,  0,    2,    1,
                                 192,  0,    2,    2,    0x1, 0x2,  0x1,  0x3};

    const void *header = world_one_in(u->w, 2) ? (const void *)v1 : v2;
    size_t len = header == v1 ? sizeof(v1) - 1 : sizeof(v2);

    if (u->tls != NULL)
        sim_tls_lead(u, header, len);
    else
        user_queue(u, header, len);
}

static void come(struct world *w)
{
    static const char *const ips[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"};
    uint64_t n = 1 + world_below(w, world_one_in(w, 24) ? 5 * WAVE_USERS_MAX : WAVE_USERS_MAX);

    while (n-- > 0) {
        bool echo = world_one_in(w, 4);
        uint32_t room = echo ? USER_ECHO : (uint32_t)world_below(w, w->room_count);
        uint64_t ip = world_below(w, ARRAY_LEN(ips));
        bool wants_echo = !world_one_in(w, 4), deflate = world_one_in(w, 2);
        bool tls = w->has_tls && !world_one_in(w, 3);
        struct user *u = (tls ? user_new_tls : user_new)(w, room, wants_echo, deflate, ips[ip]);

        if (u == NULL)
            return;
        if (ip == 2 && w->config.net.proxy_from.count > 0)
            proxy_header(u);
        if (world_one_in(w, 24)) {
            bad_request(u);
            continue;
        }
        draw_requests(u);
        user_upgrade(u);
        script_draw(u);
    }
}

/* Those who are still there go on; some of them end now. */
static void go_on(struct world *w)
{
    for (uint32_t i = 0; i < w->user_count; i++) {
        if (user_is_alive(w->users[i]) && w->users[i]->fate == FATE_STAY)
            script_draw(w->users[i]);
    }
}

static bool scripts_ended(struct world *w)
{
    for (uint32_t i = 0; i < w->user_count; i++) {
        const struct user *u = w->users[i];

        if (u->state != USER_DONE && (u->todo > 0 || user_has_output(u)))
            return false;
    }
    return true;
}

/* One last message of everyone: who has not got it when all is calm will never get it. */
static void mark(struct world *w)
{
    for (uint32_t i = 0; i < w->user_count; i++) {
        struct user *u = w->users[i];

        if (!user_is_alive(u))
            continue;
        if (u->joined_time == 0)
            u->joined_time = ++w->time;
        user_publish(u, 8 + (uint32_t)world_below(w, 80), true);
        user_ping(u);
    }
}

/* Nothing is lost, nobody waits, nothing is held. */
static void calm(struct world *w)
{
    char text[256];

    world_calm(w, true);
    world_run(w, world_now(w) + STALLS_NS, NULL);
    mark(w);
    if (!world_run(w, world_now(w) + CALM_NS, oracle_is_settled)) {
        oracle_explain(w, text, sizeof(text));
        world_fail(w, "stalled: %s", text);
    }
    /* What somebody said last who has gone since may wait for --write-delay still. */
    world_run(w, world_now(w) + 20 * NS_PER_MS + w->config.pubsub.write_delay_ns, NULL);
    if (world_failure(w) == NULL)
        world_check_rest(w);
    oracle_check_rooms(w);
    say(w, "calm");
}

static void storms(struct world *w)
{
    uint64_t waves = 1 + world_below(w, WAVES_MAX);

    while (waves-- > 0 && world_failure(w) == NULL) {
        world_calm(w, false);
        go_on(w);
        come(w);
        world_run(w, world_now(w) + WAVE_NS, scripts_ended);
        say(w, "storm");
        calm(w);
    }
}

/* Everyone leaves first, or the node goes under them, in the storm or out of it. */
static void end(struct world *w)
{
    bool storm = world_one_in(w, 2);
    bool leave = world_one_in(w, 2);

    world_calm(w, !storm);
    for (uint32_t i = 0; i < w->user_count; i++) {
        struct user *u = w->users[i];

        if (storm && user_is_alive(u))
            script_draw(u);
        if (leave && u->fate == FATE_STAY)
            u->fate = (uint8_t)(FATE_CLOSE + world_below(w, FATE_COUNT - FATE_CLOSE));
    }
    world_run(w, world_now(w) + world_below(w, NS_PER_SEC), NULL);
    if (world_failure(w) == NULL)
        world_drain(w);
    oracle_check_rooms(w);
    say(w, "drained");
}

void seed_run(uint64_t seed, bool verbose, struct seed_result *result)
{
    struct world *w = calloc(1, sizeof(*w));
    uint64_t begin_ns;

    *result = (struct seed_result){0};
    CHECK(w != NULL);
    if (!world_init(w, seed, verbose)) {
        world_fail(w, "the world could not be made: no memory");
    } else {
        begin_ns = world_now(w);
        storms(w);
        if (world_failure(w) == NULL)
            end(w);
        result->virtual_ns = world_now(w) - begin_ns;
        result->users = w->user_count;
        for (uint32_t i = 0; i < w->user_count; i++)
            result->messages += w->users[i]->sent_count;
    }
    result->hash = w->hash;
    result->steps = w->steps;
    world_end(w);
    result->ok = world_failure(w) == NULL;
    if (!result->ok)
        snprintf(result->failure, sizeof(result->failure), "%s", w->failure);
    free(w);
}
