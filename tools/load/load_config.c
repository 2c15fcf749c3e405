/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The one table of all flags of the load generator, and the checks that span several. Main thread.
 *
 * A row names the scenarios that know it; in others the flag is unknown, so none is without
 * effect. Rows of one group stand together. */

#include "tools/load/load_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/load/opener.h"
#include "tools/load/stamp.h"
#include "tools/load/target.h"
#include "tools/load/verify.h"

#define WHERE "Where"
#define TLS "TLS"
#define CROWD "Connections"
#define MESSAGES "Messages"
#define COMING "Coming and going"
#define RUN "The run"
#define GENERATOR "The generator itself"
#define OUTPUT "Output"

#define MIB (1ULL << 20)
#define AT(member) offsetof(struct load_config, member)

static const char *const io_choices[] = {"auto", "uring", "epoll", NULL};
static const char *const opcode_choices[] = {"binary", "text", NULL};
static const char *const progress_choices[] = {"auto", "on", "off", NULL};
static const char *const gets_choices[] = {"all", "others", "nothing", NULL};

static const char *const close_choices[] = {"frame", "fin", "reset", "mixed", NULL};

_Static_assert(OPENER_FRAME == 0 && OPENER_FIN == 1 && OPENER_RESET == 2, "close");
_Static_assert(CORE_IO_AUTO == 0 && CORE_IO_URING == 1 && CORE_IO_EPOLL == 2, "io");
_Static_assert(LOAD_BINARY == 0 && LOAD_TEXT == 1, "opcode");
_Static_assert(LOAD_PROGRESS_AUTO == 0 && LOAD_PROGRESS_ON == 1, "progress");
_Static_assert(LOAD_GETS_ALL == 0 && LOAD_GETS_OTHERS == 1, "publisher-gets");

static const char *check_url(const void *value)
{
    return target_check(value);
}

static const char *check_path(const void *value)
{
    return target_check_path(value);
}

static const char *check_pid(const void *value)
{
    char *end;
    long n = strtol(value, &end, 10);
    return *end == '\0' && n > 0 ? NULL : "is no process id; give a number such as that of pidof";
}

const struct load_option load_table[] = {
    {{.name = "url",
      .group = WHERE,
      .arg = "URL",
      .help = "The server, and the path of the connections if it has one: "
              "ws[s]://HOST[:PORT][/PATH]. In the path {n} is the connection's number, {room} that "
              "of its room, {run} a number "
              "drawn for this run.",
      .def = "ws://127.0.0.1:8000",
      .check = check_url,
      .offset = AT(url),
      .type = OPTION_TEXT},
     LOAD_ALL},
    {{.name = "path",
      .group = WHERE,
      .arg = "PATH",
      .help = "The path of the connections instead of that of --url. Without either: /echo for "
              "echo, /rooms/load-{run}-{room} for rooms.",
      .check = check_path,
      .offset = AT(path),
      .type = OPTION_TEXT},
     LOAD_ALL},
    {{.name = "publish-path",
      .group = WHERE,
      .arg = "PATH",
      .help = "The path of publishers where it is another one than that of subscribers.",
      .check = check_path,
      .offset = AT(publish_path),
      .type = OPTION_TEXT},
     LOAD_FANOUT},
    {{.name = "server-pid",
      .group = WHERE,
      .arg = "PID",
      .help = "A process of the server on this host: processor time per message, its children's "
              "included, is told as user and system.",
      .check = check_pid,
      .offset = AT(server_pid),
      .type = OPTION_LIST},
     LOAD_ALL},

    {{.name = "tls",
      .group = TLS,
      .help = "Speaks TLS although --url says ws://; with wss:// it does anyway. Version 1.3 or "
              "1.2, AES-128-GCM where the server does not prefer another suite.",
      .def = "off",
      .offset = AT(tls),
      .type = OPTION_BOOL},
     LOAD_ALL},
    {{.name = "tls-ca",
      .group = TLS,
      .arg = "FILE",
      .help = "PEM certificates of the authorities that are trusted.",
      .def = "/etc/ssl/certs/ca-certificates.crt",
      .offset = AT(tls_ca),
      .type = OPTION_TEXT},
     LOAD_ALL},
    {{.name = "tls-insecure",
      .group = TLS,
      .help = "Takes any certificate, and spares the arithmetic of judging it.",
      .def = "off",
      .offset = AT(tls_insecure),
      .type = OPTION_BOOL},
     LOAD_ALL},
    {{.name = "tls-name",
      .group = TLS,
      .arg = "NAME",
      .help = "The server's name, which is sent (SNI) and must be in its certificate. Without it "
              "that is the host of --url.",
      .offset = AT(tls_name),
      .type = OPTION_TEXT},
     LOAD_ALL},
    {{.name = "tls-resume",
      .group = TLS,
      .help = "Connections resume the session of the first one of their thread. Off: all "
              "handshakes are full ones.",
      .def = "off",
      .offset = AT(tls_resume),
      .type = OPTION_BOOL},
     LOAD_ALL},
    {{.name = "tls-handshakes",
      .group = TLS,
      .help = "So many handshakes of a thread are under way at a time, at most: one takes 60 KB "
              "and a millisecond, and servers lose patience with clients that begin more than "
              "they can go on with.",
      .def = "16",
      .min = 1,
      .max = 4096,
      .offset = AT(tls_handshakes),
      .type = OPTION_U32},
     LOAD_ALL},

    {{.name = "connections",
      .group = CROWD,
      .help = "How many connections there are; of a storm: at once; of a soak: those that echo.",
      .def = "64",
      .min = 1,
      .max = STAMP_SENDERS_MAX - 1,
      .offset = AT(connections),
      .type = OPTION_U32},
     LOAD_ALL & ~LOAD_FANOUT},
    {{.name = "subscribers",
      .group = CROWD,
      .help = "Connections that only receive, besides the publishers.",
      .def = "100",
      .max = STAMP_SENDERS_MAX / 2,
      .offset = AT(subscribers),
      .type = OPTION_U32},
     LOAD_ROOMS},
    {{.name = "publishers",
      .group = CROWD,
      .help = "Connections that send, and receive what --publisher-gets says.",
      .def = "1",
      .min = 1,
      .max = 100000,
      .offset = AT(publishers),
      .type = OPTION_U32},
     LOAD_ROOMS},
    {{.name = "rooms",
      .group = CROWD,
      .help = "Rooms, or whatever {room} in the path names: connections are spread over them in "
              "turn. Each needs a publisher where there are any.",
      .def = "1",
      .min = 1,
      .max = 100000,
      .offset = AT(rooms),
      .type = OPTION_U32},
     LOAD_ALL & ~LOAD_ECHO},
    {{.name = "publisher-gets",
      .group = CROWD,
      .help = "What the server sends to a publisher: all messages of its room, only those of "
              "others, or nothing.",
      .def = "all",
      .choices = gets_choices,
      .offset = AT(publisher_gets),
      .type = OPTION_ENUM},
     LOAD_FANOUT},
    {{.name = "connecting",
      .group = CROWD,
      .help = "How many connections of a thread are being opened at a time.",
      .def = "128",
      .min = 1,
      .max = 4096,
      .offset = AT(connecting),
      .type = OPTION_U32},
     LOAD_ALL},
    {{.name = "timeout",
      .group = CROWD,
      .help = "A connection that is not open after this has failed.",
      .def = "10s",
      .min = NS_PER_MS,
      .max = 3600 * NS_PER_SEC,
      .offset = AT(timeout_ns),
      .type = OPTION_DURATION},
     LOAD_ALL},
    {{.name = "greetings",
      .group = CROWD,
      .help = "So many messages the server sends to each connection by itself at the beginning; "
              "they are not judged.",
      .def = "0",
      .max = 1000,
      .offset = AT(greetings),
      .type = OPTION_U32},
     LOAD_TALK},

    {{.name = "payload",
      .group = MESSAGES,
      .help =
          "Bytes of each message. The first 16 name sender, number and time; of shorter ones the "
          "first five, or all, are the number alone, modulo 128 for each byte. So with 1 B "
          "there may be 64 messages of each connection under way, with 2 B 16320.",
      .def = "125",
      .min = 1,
      .max = 16 * MIB,
      .offset = AT(payload_bytes),
      .type = OPTION_SIZE},
     LOAD_ECHO},
    {{.name = "payload",
      .group = MESSAGES,
      .help = "Bytes of each message. The first 16 name sender, number and time.",
      .def = "125",
      .min = STAMP_BYTES,
      .max = 16 * MIB,
      .offset = AT(payload_bytes),
      .type = OPTION_SIZE},
     LOAD_ROOMS},
    {{.name = "opcode",
      .group = MESSAGES,
      .help = "Binary messages, or text (the bytes are the same, and ASCII).",
      .def = "binary",
      .choices = opcode_choices,
      .offset = AT(opcode),
      .type = OPTION_ENUM},
     LOAD_TALK},
    {{.name = "compress",
      .group = MESSAGES,
      .help = "Offers permessage-deflate and compresses what is sent; what comes is inflated and "
              "judged. The run fails when the server declines.",
      .def = "off",
      .offset = AT(compress),
      .type = OPTION_BOOL},
     LOAD_ALL},
    {{.name = "window",
      .group = MESSAGES,
      .help = "Closed loop: so many messages of each sender are under way; an answer (of all "
              "receivers) lets the next one go.",
      .def = "1",
      .min = 1,
      .max = 65536,
      .offset = AT(window),
      .type = OPTION_U32},
     LOAD_LOOP},
    {{.name = "lockstep",
      .group = MESSAGES,
      .help = "Whole windows in step: the next ones are sent when all answers of the former have "
              "come. Counts of the server then repeat.",
      .def = "off",
      .offset = AT(lockstep),
      .type = OPTION_BOOL},
     LOAD_LOOP},
    {{.name = "rate",
      .group = MESSAGES,
      .arg = "NUMBER",
      .help = "Open loop: so many messages a second of all senders together, evenly spread, "
              "whatever the answers do. Latency counts from the time when a message was due, so "
              "that a stall is not hidden. 0: closed loop.",
      .def = "0",
      .max = 100000000,
      .offset = AT(rate),
      .type = OPTION_U32},
     LOAD_LOOP},
    {{.name = "rate",
      .group = MESSAGES,
      .arg = "NUMBER",
      .help = "So many messages a second of all senders together, evenly spread, whatever the "
              "answers do.",
      .def = "2000",
      .min = 1,
      .max = 100000000,
      .offset = AT(rate),
      .type = OPTION_U32},
     LOAD_SOAK},
    {{.name = "echo-path",
      .group = MESSAGES,
      .arg = "PATH",
      .help = "The path of connections that get their own messages back.",
      .def = "/echo",
      .check = check_path,
      .offset = AT(echo_path),
      .type = OPTION_TEXT},
     LOAD_SOAK},
    {{.name = "echo-payload",
      .group = MESSAGES,
      .help = "Bytes of each of their messages.",
      .def = "16KiB",
      .min = STAMP_BYTES,
      .max = 16 * MIB,
      .offset = AT(echo_payload_bytes),
      .type = OPTION_SIZE},
     LOAD_SOAK},
    {{.name = "one-order",
      .group = MESSAGES,
      .help = "Fails the run when members of a room have seen the messages of several publishers "
              "in different orders.",
      .def = "off",
      .offset = AT(one_order),
      .type = OPTION_BOOL},
     LOAD_ROOMS},

    {{.name = "connect-rate",
      .group = COMING,
      .arg = "NUMBER",
      .help =
          "So many connections a second, evenly spread; their opening is timed from when it was "
          "due. 0: as fast as --connecting allows.",
      .def = "0",
      .max = 10000000,
      .offset = AT(connect_rate),
      .type = OPTION_U32},
     LOAD_STORM},
    {{.name = "keep",
      .group = COMING,
      .help = "How long each connection is kept.",
      .def = "0",
      .max = 86400 * NS_PER_SEC,
      .offset = AT(keep_ns),
      .type = OPTION_DURATION},
     LOAD_STORM},
    {{.name = "close",
      .group = COMING,
      .help = "How it is ended: by a close frame, by an end of file without one, by a reset, or "
              "each of them in turn.",
      .def = "frame",
      .choices = close_choices,
      .offset = AT(close),
      .type = OPTION_ENUM},
     LOAD_STORM},
    {{.name = "allow-refusals",
      .group = COMING,
      .help = "Connections that are refused, or that the server ends, are counted and do not fail "
              "the run.",
      .def = "off",
      .offset = AT(allow_refusals),
      .type = OPTION_BOOL},
     LOAD_STORM},
    {{.name = "churn",
      .group = COMING,
      .help = "Members a second that join a room and leave it again. 0: none.",
      .def = "20",
      .max = 10000,
      .offset = AT(churn),
      .type = OPTION_U32},
     LOAD_SOAK},
    {{.name = "slow-readers",
      .group = COMING,
      .help = "Members of rooms that nearly always do not read. The server may end them.",
      .def = "2",
      .max = 10000,
      .offset = AT(slow_readers),
      .type = OPTION_U32},
     LOAD_SOAK},
    {{.name = "bad-clients",
      .group = COMING,
      .help = "Connections a second that break the protocol, in eleven ways. 0: none.",
      .def = "5",
      .max = 10000,
      .offset = AT(bad_clients),
      .type = OPTION_U32},
     LOAD_SOAK},

    {{.name = "duration",
      .group = RUN,
      .help = "How long is measured.",
      .def = "10s",
      .min = 10 * NS_PER_MS,
      .max = 86400 * NS_PER_SEC,
      .offset = AT(duration_ns),
      .type = OPTION_DURATION},
     LOAD_ALL},
    {{.name = "warmup",
      .group = RUN,
      .help = "How long messages flow before that.",
      .def = "1s",
      .max = 3600 * NS_PER_SEC,
      .offset = AT(warmup_ns),
      .type = OPTION_DURATION},
     LOAD_ALL & ~LOAD_IDLE},
    {{.name = "messages",
      .group = RUN,
      .help = "Ends when each sender has sent so many and all have come back, instead of after "
              "--duration; there is no warm-up then. 0: for the duration.",
      .def = "0",
      .max = UINT32_MAX,
      .offset = AT(messages),
      .type = OPTION_U32},
     LOAD_LOOP},
    {{.name = "grace",
      .group = RUN,
      .help = "At the end messages that have not come are waited for so long; then they are lost.",
      .def = "5s",
      .max = 3600 * NS_PER_SEC,
      .offset = AT(grace_ns),
      .type = OPTION_DURATION},
     LOAD_ALL},

    {{.name = "threads",
      .group = GENERATOR,
      .help = "Threads, each with a ring or epoll of its own. 0: one, or as many as the limit of "
              "open files asks for (with io_uring it bounds each ring, with epoll the process).",
      .def = "0",
      .max = 64,
      .offset = AT(threads),
      .type = OPTION_U32},
     LOAD_ALL},
    {{.name = "io",
      .group = GENERATOR,
      .help = "How the generator does its own io; auto takes io_uring where the kernel has it.",
      .def = "auto",
      .choices = io_choices,
      .offset = AT(io),
      .type = OPTION_ENUM},
     LOAD_ALL},
    {{.name = "sources",
      .group = GENERATOR,
      .help = "Source addresses of each thread, all in 127.0.0.0/8, so that ports do not run out; "
              "only for a server on loopback. 0: one for 500 connections there, else the kernel's "
              "choice.",
      .def = "0",
      .max = 60000,
      .offset = AT(sources),
      .type = OPTION_U32},
     LOAD_ALL},

    {{.name = "json",
      .group = OUTPUT,
      .help = "Prints the result as one JSON object instead of a table.",
      .def = "off",
      .offset = AT(json),
      .type = OPTION_BOOL},
     LOAD_ALL},
    {{.name = "progress",
      .group = OUTPUT,
      .help = "A live line on standard error; auto: when that is a terminal.",
      .def = "auto",
      .choices = progress_choices,
      .offset = AT(progress),
      .type = OPTION_ENUM},
     LOAD_ALL},
};

const uint32_t load_table_len = ARRAY_LEN(load_table);

uint32_t load_options_of(uint32_t scenario, struct option *rows)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < load_table_len; i++) {
        if ((load_table[i].scenarios & scenario) == 0)
            continue;
        CHECK(n < LOAD_OPTIONS_MAX);
        rows[n++] = load_table[i].option;
    }
    return n;
}

/* Checks that span flags ------------------------------------------------------------------------
 */

static bool is_given(const struct options *o, const char *name)
{
    return options_source(o, name, NULL) != OPTION_DEFAULT;
}

/* A flag that another one makes meaningless is a mistake of whoever wrote both. */
static int check_pair(const struct options *o, bool other_is_on, const char *name,
                      const char *other)
{
    if (!other_is_on || !is_given(o, name))
        return 0;
    options_complain(o, name, stderr, "has no effect with --%s; leave one of them out", other);
    return OPTIONS_EXIT_USAGE;
}

static int check_rooms(const struct load_config *c, const struct options *o)
{
    if (c->rooms > c->publishers) {
        options_complain(o, "rooms", stderr,
                         "over the number of publishers, %u: rooms would be "
                         "silent; raise --publishers or lower --rooms",
                         c->publishers);
        return OPTIONS_EXIT_USAGE;
    }
    if (c->subscribers < c->rooms && c->publisher_gets != LOAD_GETS_ALL) {
        options_complain(o, "subscribers", stderr,
                         "fewer than rooms, %u: messages would reach "
                         "nobody; raise --subscribers or lower --rooms",
                         c->rooms);
        return OPTIONS_EXIT_USAGE;
    }
    return 0;
}

static int check_loop(const struct load_config *c, const struct options *o)
{
    int code = check_pair(o, c->rate > 0, "window", "rate");

    if (code == 0)
        code = check_pair(o, c->rate > 0, "lockstep", "rate");
    if (code == 0)
        code = check_pair(o, c->messages > 0, "duration", "messages");
    if (code == 0)
        code = check_pair(o, c->messages > 0, "warmup", "messages");
    return code;
}

/* Small stamps tell what is under way apart from what is late, if that is few enough. */
static int check_small(const struct load_config *c, const struct options *o)
{
    uint64_t most = stamp_small_numbers(stamp_small_bytes(c->payload_bytes)) - VERIFY_WINDOW;

    if (c->payload_bytes >= STAMP_BYTES)
        return 0;
    if (c->rate > 0 || c->compress) {
        options_complain(o, "payload", stderr, "needs %uB with --%s; give more, or leave that out",
                         STAMP_BYTES, c->rate > 0 ? "rate" : "compress");
        return OPTIONS_EXIT_USAGE;
    }
    if (c->window <= most)
        return 0;
    options_complain(o, "window", stderr,
                     "over %llu, which is all that so short a payload tells apart; give a smaller "
                     "one or a longer --payload",
                     (unsigned long long)most);
    return OPTIONS_EXIT_USAGE;
}

static int check_tls(const struct load_config *c, const struct options *o)
{
    static const char *const names[] = {"tls-ca", "tls-insecure", "tls-name", "tls-resume",
                                        "tls-handshakes"};

    for (size_t i = 0; i < ARRAY_LEN(names) && !c->tls && !target_is_tls(c->url); i++) {
        if (!is_given(o, names[i]))
            continue;
        options_complain(o, names[i], stderr,
                         "has no effect without TLS; give --tls or a wss:// "
                         "--url");
        return OPTIONS_EXIT_USAGE;
    }
    return c->tls_insecure ? check_pair(o, true, "tls-ca", "tls-insecure") : 0;
}

static int check_config(const struct load_config *c, const struct options *o)
{
    int code = c->window > 0 ? check_loop(c, o) : 0; /* 0: the scenario has no such flag */

    if (code == 0 && c->window > 0 && c->publishers == 0)
        code = check_small(c, o);
    if (code == 0)
        code = check_tls(c, o);
    if (code == 0 && c->publishers > 0)
        code = check_rooms(c, o);
    return code;
}

int load_config_read(struct load_config *c, const struct option *rows, uint32_t row_count, int argc,
                     char **argv, void (*print_help)(void *arg), void *arg,
                     struct options **options)
{
    char *no_environment[] = {NULL};
    struct options *o = NULL;

    memset(c, 0, sizeof(*c));
    *options = NULL;
    int code = options_read(rows, row_count, c, argc, argv, no_environment, NULL, stderr, &o);
    if (code != 0)
        return code;
    if (options_request(o) == OPTIONS_HELP) {
        print_help(arg);
        code = LOAD_DONE;
    } else {
        code = check_config(c, o);
    }
    if (code == 0 && options_request(o) == OPTIONS_PRINT_CONFIG) {
        options_print_config(o, stdout);
        code = LOAD_DONE;
    }
    if (code != 0) {
        options_free(o);
        return code;
    }
    *options = o;
    return 0;
}
