/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Links on the real io implementations against a real redis-server: by address, by name, by the
 * path of a socket; through its restart and its standstill. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pubsub/redis_link.h"
#include "pubsub/redis_resolver.h"

#define PATIENCE_S 20

typedef int (*io_new_fn)(const struct io_config *cfg, struct io **io, const char **why);
static const io_new_fn backends[] = {io_uring_new, io_epoll_new};

/* A server of the test's own, in a directory of its own. */
static char directory[64], path[96], port_text[8];
static uint16_t port;
static pid_t server;

static void start_server(void)
{
    server = fork();
    if (server == 0) {
        execlp("redis-server", "redis-server", "--port", port_text, "--bind", "127.0.0.1",
               "--unixsocket", path, "--dir", directory, "--save", "", "--appendonly", "no",
               "--logfile", "log", (char *)NULL);
        _exit(127);
    }
    cr_assert_gt(server, 0);
}

static void kill_server(void)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    server = 0;
}

static uint16_t free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    close(fd);
    return ntohs(in.sin_port);
}

static void set_up(void)
{
    strcpy(directory, "/tmp/tw-redis-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/sock", directory);
    port = free_port();
    snprintf(port_text, sizeof(port_text), "%u", port);
    start_server();
}

static void tear_down(void)
{
    static const char *const files[] = {"sock", "log"};
    char file[128];

    if (server > 0)
        kill_server();
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(file, sizeof(file), "%s/%s", directory, files[i]);
        unlink(file);
    }
    rmdir(directory);
}

TestSuite(redis_server, .init = set_up, .fini = tear_down, .timeout = 120);

/* Two links on one io, and what they were told. */
struct rig {
    struct io *io;
    struct redis_resolver *resolver;
    struct redis_link publisher, subscriber;
    struct message_pool messages;
    uint32_t ups, downs, replies, subscribed, lost;
    uint32_t received; /* messages, in order */
    uint64_t released;
};

static void told_up(struct redis_link *l)
{
    ((struct rig *)l->owner)->ups++;
}

static void told_down(struct redis_link *l, enum redis_down why, const char *text, bool was_up)
{
    (void)why;
    (void)text;
    ((struct rig *)l->owner)->downs += was_up;
}

static void told_reply(struct redis_link *l, uint64_t tag, const struct redis_reply *reply)
{
    struct rig *r = l->owner;

    (void)tag;
    cr_assert_neq(reply->type, REDIS_TYPE_ERROR, "%s", reply->text);
    if (l == &r->publisher)
        r->replies++;
    else
        r->subscribed++;
}

static void told_lost(struct redis_link *l, uint64_t tag, bool was_sent)
{
    (void)tag;
    (void)was_sent;
    ((struct rig *)l->owner)->lost++;
}

static void told_push(struct redis_link *l, const struct redis_push *push)
{
    struct rig *r = l->owner;
    uint32_t number;

    if (push->kind != REDIS_PUSH_MESSAGE)
        return;
    cr_assert_eq(push->channel_len, 4);
    cr_assert_eq(memcmp(push->channel, "room", 4), 0);
    cr_assert_geq(push->payload_len, sizeof(number));
    memcpy(&number, push->payload, sizeof(number));
    cr_assert_eq(number, r->received, "in order");
    for (uint32_t i = sizeof(number); i < push->payload_len; i++)
        cr_assert_eq((uint8_t)push->payload[i], (uint8_t)(number + i));
    r->received++;
}

static void told_release(struct redis_link *l, struct message *m)
{
    struct rig *r = l->owner;

    r->released++;
    message_free(&r->messages, m);
}

static const struct redis_link_events events = {.on_up = told_up,
                                                .on_down = told_down,
                                                .on_reply = told_reply,
                                                .on_lost = told_lost,
                                                .on_push = told_push,
                                                .on_release = told_release};

static void start_link(struct rig *r, struct redis_link *l, enum redis_role role,
                       const struct redis_endpoint *e)
{
    const struct redis_link_config config = {.role = role,
                                             .endpoint = *e,
                                             .name = "tidewire-unit",
                                             .wants_master = true,
                                             .connect_timeout_ns = 500 * NS_PER_MS,
                                             .backoff_min_ns = 10 * NS_PER_MS,
                                             .backoff_max_ns = 200 * NS_PER_MS,
                                             .queue_bytes_max = 4u << 20,
                                             .reply_bytes_max = 4u << 20,
                                             .resolver = r->resolver};

    redis_link_init(l, r->io, &config, &events, r);
    redis_link_start(l);
}

static void rig_turn(struct rig *r)
{
    uint64_t next_ns = min_u64(redis_link_turn(&r->publisher, r->io->now_ns),
                               redis_link_turn(&r->subscriber, r->io->now_ns));

    redis_link_flush(&r->publisher);
    redis_link_flush(&r->subscriber);
    cr_assert_geq(io_poll(r->io, min_u64(next_ns, r->io->now_ns + 50 * NS_PER_MS)), 0);
}

#define rig_until(r, condition)                                                                    \
    do {                                                                                           \
        time_t end_ = time(NULL) + PATIENCE_S;                                                     \
        while (!(condition)) {                                                                     \
            cr_assert_lt(time(NULL), end_, "not in time: %s", #condition);                         \
            rig_turn(r);                                                                           \
        }                                                                                          \
    } while (0)

static void rig_init(struct rig *r, io_new_fn make, const struct redis_endpoint *e)
{
    struct io_config cfg = {.conns_max = 10};
    const char *why;

    *r = (struct rig){.resolver = redis_resolver_new()};
    cr_assert_eq(make(&cfg, &r->io, &why), 0, "%s", why);
    cr_assert_eq(io_start(r->io), 0);
    message_pool_init(&r->messages, 0);
    start_link(r, &r->publisher, REDIS_ROLE_COMMAND, e);
    start_link(r, &r->subscriber, REDIS_ROLE_SUBSCRIBER, e);
    rig_until(r, r->ups == 2);
}

static void rig_deinit(struct rig *r)
{
    redis_link_stop(&r->publisher);
    redis_link_stop(&r->subscriber);
    rig_until(r, redis_link_is_idle(&r->publisher) && redis_link_is_idle(&r->subscriber));
    redis_link_deinit(&r->publisher);
    redis_link_deinit(&r->subscriber);
    io_free(r->io);
    redis_resolver_free(r->resolver);
    message_pool_deinit(&r->messages);
}

static void subscribe(struct rig *r)
{
    const struct redis_arg room = {.head = "ro", .head_len = 2, .tail = "om", .tail_len = 2};
    uint32_t before = r->subscribed;

    cr_assert_eq(redis_link_subscribe(&r->subscriber, REDIS_PUSH_SUBSCRIBE, &room, 1, 0), 0);
    rig_until(r, r->subscribed == before + 1);
}

static void publish(struct rig *r, uint32_t number, uint32_t len)
{
    struct message *m = message_new(&r->messages, len);
    struct redis_arg args[] = {{.head = "room", .head_len = 4},
                               {.head = &number, .head_len = sizeof(number), .body = m}};

    cr_assert_not_null(m);
    for (uint32_t i = 0; i < len; i++)
        message_payload(m)[i] = (uint8_t)(number + sizeof(number) + i);
    cr_assert_eq(redis_link_command(&r->publisher, "PUBLISH", args, 2, number), 0);
}

/* Small ones, large ones, pipelined. */
static void exchange(struct rig *r, uint32_t count)
{
    uint32_t from = r->received;

    for (uint32_t i = from; i < from + count; i++)
        publish(r, i, i % 7 == 0 ? 100000 + i : i % 3 == 0 ? 2000 : i);
    rig_until(r, r->received == from + count && r->replies >= count);
}

static struct redis_endpoint endpoint(const char *host)
{
    struct redis_endpoint e = {.port = port};

    if (host == NULL) {
        e.is_unix = true;
        e.port = 0;
        host = path;
    }
    strcpy(e.host, host);
    return e;
}

Test(redis_server, messages_pass_by_address_name_and_socket)
{
    const struct redis_endpoint endpoints[] = {endpoint("127.0.0.1"), endpoint("localhost"),
                                               endpoint(NULL)};

    for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
        for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
            struct rig r;
            rig_init(&r, backends[b], &endpoints[i]);
            subscribe(&r);
            exchange(&r, 60);
            cr_assert_eq(r.released, 60);
            cr_assert_eq(r.lost, 0);
            rig_deinit(&r);
        }
    }
}

Test(redis_server, a_restart_is_survived)
{
    struct redis_endpoint endpoints[] = {endpoint("127.0.0.1"), endpoint(NULL)};

    for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
        for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
            struct rig r;
            rig_init(&r, backends[b], &endpoints[i]);
            subscribe(&r);
            exchange(&r, 3);
            kill_server();
            rig_until(&r, r.downs == 2);
            cr_assert_eq(redis_link_command(&r.publisher, "PING", NULL, 0, 0), -ENOTCONN);
            start_server();
            rig_until(&r, r.ups == 4);
            subscribe(&r);
            exchange(&r, 3);
            rig_deinit(&r);
        }
    }
}

Test(redis_server, one_that_stands_still_is_reopened_until_it_goes_on)
{
    struct redis_endpoint e = endpoint("127.0.0.1");

    for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
        struct rig r;
        rig_init(&r, backends[b], &e);
        subscribe(&r);
        kill(server, SIGSTOP);
        for (uint32_t i = 0; i < 30; i++)
            publish(&r, i, 100000); /* more than the kernel takes */
        for (int i = 0; i < 5; i++)
            rig_turn(&r);
        redis_link_reopen(&r.publisher, "silent");
        redis_link_reopen(&r.subscriber, "silent");
        cr_assert_eq(r.lost, 30);
        rig_until(&r, r.publisher.stats.downs[REDIS_DOWN_TIMEOUT] >= 2);
        cr_assert_eq(r.released, 30);
        kill(server, SIGCONT);
        rig_until(&r, r.ups == 4);
        rig_deinit(&r);
    }
}
