/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The one table of all flags of the server. Constant.
 *
 * A row is all there is to a flag: the command line, the config file, the environment, --help, the
 * man page, --print-config and the messages come from it. Rows of one group stand together. Each
 * row has its line in tools/deploy/tidewire.conf; a test compares the two. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/redis_url.h"
#include "tools/tidewire/address.h"
#include "tools/tidewire/config.h"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define WHERE "Where"
#define SHARDS "Shards"
#define SIZES "Limits: sizes"
#define TIMES "Limits: times"
#define COUNTS "Limits: counts and rates"
#define WEBSOCKET "WebSocket"
#define SOCKETS "Sockets"
#define ROOMS "Rooms"
#define TLS "TLS"
#define REDIS "Redis: several nodes"
#define OPERATIONS "Operations"

/* So that a count of bytes or events times the nanoseconds of a second fits into 64 bits. */
#define RATE_MAX (16 * GIB)

#define AT(member) offsetof(struct config, member)

static const char *const page_choices[] = {"auto", "on", "off", NULL};
static const char *const io_choices[] = {"auto", "uring", "epoll", NULL};
static const char *const ktls_choices[] = {"off", "auto", NULL};
static const char *const compress_choices[] = {"off", "on", NULL};
static const char *const order_choices[] = {"global", "local", NULL};
static const char *const away_choices[] = {"local", "refuse", NULL};
static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_choices[] = {"logfmt", "json", NULL};

/* A choice's value is its index. */
_Static_assert(CONFIG_PAGE_AUTO == 0 && CONFIG_PAGE_ON == 1 && CONFIG_PAGE_OFF == 2, "page");
_Static_assert(NET_KTLS_OFF == 0 && NET_KTLS_AUTO == 1, "ktls");
_Static_assert(CORE_IO_AUTO == 0 && CORE_IO_URING == 1 && CORE_IO_EPOLL == 2, "io");
_Static_assert(REDIS_ORDER_GLOBAL == 0 && REDIS_ORDER_LOCAL == 1, "redis-order");
_Static_assert(REDIS_AWAY_LOCAL == 0 && REDIS_AWAY_REFUSE == 1, "engine-down");
_Static_assert(LOG_DEBUG == 0 && LOG_INFO == 1 && LOG_WARN == 2 && LOG_ERROR == 3, "log-level");
_Static_assert(LOG_LOGFMT == 0 && LOG_JSON == 1, "log-format");

static const char *check_power_of_two(const void *value)
{
    uint32_t n = *(const uint32_t *)value;
    return (n & (n - 1)) == 0 ? NULL : "is no power of two; give one, such as 256 or 1024";
}

static const char *check_address(const void *value)
{
    struct address a;
    if (address_parse(value, 0, &a) == 0)
        return NULL;
    return "is no address; give an IPv4 or IPv6 address such as 127.0.0.1 or ::1, or unix:PATH of "
           "at most 107 bytes (the port is --port, names are not looked up)";
}

static const char *check_admin_address(const void *value)
{
    struct address a;
    if (strcmp(value, "off") == 0 || address_parse_with_port(value, &a) == 0)
        return NULL;
    return "is no address with a port; give one such as 127.0.0.1:8001 or [::1]:8001, unix:PATH of "
           "at most 107 bytes, or off";
}

static const char *check_port(const void *value)
{
    const char *text = value;
    size_t len = strlen(text);

    if (len > 0 && len <= 5 && strspn(text, "0123456789") == len && atoi(text) <= 65535)
        return NULL;
    return "is no port; give a number from 0 (a free one) to 65535, such as 443";
}

static const char *check_proxy_net(const void *value)
{
    struct proxy_net net;
    if (proxy_net_parse(value, &net) == 0)
        return NULL;
    return "is no network; give one such as 10.0.0.0/8, 192.0.2.7, fd00::/8 or unix";
}

/* "*", "*.example.com", or an origin as browsers send it (RFC 6454 6.2): scheme, host and, unless
 * it is the scheme's own, port; no path. */
static const char *check_origin(const void *value)
{
    static const char good[] =
        "is no origin; give one such as https://example.com or http://localhost:3000 (without a "
        "path), *.example.com, or *";
    const char *text = value;
    if (strcmp(text, "*") == 0)
        return NULL;
    const char *host = strstr(text, "://");
    if (strncmp(text, "*.", 2) == 0)
        host = text + 2;
    else if (host == NULL || host == text)
        return good;
    else
        host += 3;
    return host[0] == 0 || strpbrk(host, "/ \t*?#@,") != NULL ? good : NULL;
}

static const char *check_redis_prefix(const void *value)
{
    const char *text = value;
    size_t len = strlen(text);
    if (len > 64)
        return "is too long; 64 bytes are the most";
    /* Else "a:" with the room b:x would be "a:b:" with the room x. */
    return strchr(text, ':') == text + len - 1
               ? NULL
               : "must end with a colon and hold no other, such as tidewire: or staging:";
}

const struct option config_table[] = {
    {.name = "address",
     .group = WHERE,
     .arg = "ADDRESS",
     .help = "Listens here for clients: an IPv4 or IPv6 address, or unix:PATH for a Unix socket. "
             "Beyond loopback it also needs --insecure, since rooms authenticate nobody.",
     .def = "127.0.0.1",
     .check = check_address,
     .offset = AT(address),
     .type = OPTION_LIST},
    {.name = "port",
     .group = WHERE,
     .arg = "PORT",
     .help = "The TCP port of all addresses; 0 takes a free one, which the log names at start.",
     .def = "8000",
     .max = 65535,
     .offset = AT(port),
     .type = OPTION_U32},
    {.name = "admin-address",
     .group = WHERE,
     .arg = "ADDRESS:PORT",
     .help = "Serves /metrics and /health here: an address with its port, unix:PATH, or off. Keep "
             "it where only your monitoring reaches it.",
     .def = "127.0.0.1:8001",
     .check = check_admin_address,
     .offset = AT(admin_address),
     .type = OPTION_LIST},
    {.name = "insecure",
     .group = WHERE,
     .help = "Allows to listen beyond loopback although nobody is authenticated: whoever reaches "
             "the port can join and publish.",
     .def = "off",
     .offset = AT(insecure),
     .type = OPTION_BOOL},
    {.name = "page",
     .group = WHERE,
     .help = "Serves a small page at / on which two browsers can talk in a room. auto serves it as "
             "long as all addresses are loopback ones.",
     .def = "auto",
     .choices = page_choices,
     .offset = AT(page),
     .type = OPTION_ENUM},

    {.name = "shards",
     .group = SHARDS,
     .help = "How many threads serve connections; each owns its share of them. 0 is one for each "
             "usable core. More than cores are allowed, mainly for tests.",
     .def = "0",
     .max = 256,
     .offset = AT(core.shards),
     .type = OPTION_U32},
    {.name = "pin",
     .group = SHARDS,
     .help = "Binds each shard to a core. Switch it off where other busy programs share the cores.",
     .def = "on",
     .offset = AT(core.pin),
     .type = OPTION_BOOL},
    {.name = "incoming-cpu",
     .group = SHARDS,
     .help = "Gives a connection to the shard on the core where its packets arrive, instead of one "
             "by chance. For network cards with a queue for each core; elsewhere one shard may get "
             "most of them. Needs --pin, a core for each shard and Linux 6.2.",
     .def = "off",
     .offset = AT(core.incoming_cpu),
     .type = OPTION_BOOL},
    {.name = "io",
     .group = SHARDS,
     .help = "How shards talk to the kernel. auto takes io_uring where the kernel has all that is "
             "needed and epoll elsewhere, and the log says which and why.",
     .def = "auto",
     .choices = io_choices,
     .offset = AT(core.io),
     .type = OPTION_ENUM},
    {.name = "turn-budget",
     .group = SHARDS,
     .help = "How long a shard inflates and compresses at a stretch: large messages are inflated "
             "in slices of that, and those that take longer to compress are sent as they are. Less "
             "makes the delays of other clients more even.",
     .def = "2ms",
     .min = 100 * NS_PER_US,
     .max = NS_PER_SEC,
     .offset = AT(core.turn_budget_ns),
     .type = OPTION_DURATION},
    {.name = "recv-buffers",
     .group = SHARDS,
     .help =
         "The number of receive buffers of each shard with io_uring, a power of two; 0 chooses. "
         "All together they hold 256 KiB, so more of them are smaller ones; they help kernels "
         "that use a whole buffer for each receive, when the counter of starved receives grows.",
     .def = "0",
     .max = 256,
     .check = check_power_of_two,
     .offset = AT(core.recv_buffers),
     .type = OPTION_U32},
    {.name = "mesh-spin",
     .group = SHARDS,
     .help =
         "How long a shard that has sent something to another looks for the answer before it "
         "sleeps. It spares a message that crosses shards one of its two wake-ups, at the price "
         "of that much processor time; only where each shard has a core.",
     .def = "50us",
     .max = NS_PER_MS,
     .zero_off = true,
     .min = NS_PER_US,
     .offset = AT(core.mesh_spin_ns),
     .type = OPTION_DURATION},
    {.name = "mesh-slots",
     .group = SHARDS,
     .help = "The slots of the ring between each two shards, a power of two. What does not fit "
             "waits in a backlog; raise it when the backlogs of busy shards are often in use.",
     .def = "1024",
     .min = 16,
     .max = 65536,
     .check = check_power_of_two,
     .offset = AT(core.mesh_slots),
     .type = OPTION_U32},

    {.name = "max-head",
     .group = SIZES,
     .help = "The longest head of an HTTP request; a longer one is answered with 431. Raise it for "
             "clients that send large cookies.",
     .def = "8KiB",
     .min = 512,
     .max = 64 * KIB,
     .offset = AT(net.max_head_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "max-message",
     .group = SIZES,
     .help = "The longest message that a client may send, all fragments together; a longer one "
             "ends its connection with 1009 before it is buffered.",
     .def = "64KiB",
     .min = 1,
     .max = 64 * MIB,
     .offset = AT(net.max_message_bytes),
     .type = OPTION_SIZE},
    {.name = "max-queue",
     .group = SIZES,
     .help = "How many bytes may wait for one connection, and for every 64 of them one message. A "
             "client that reads more slowly than its rooms talk is disconnected with 1013 when its "
             "queue is full.",
     .def = "1MiB",
     .min = KIB,
     .max = GIB,
     .offset = AT(net.max_queue_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "send-batch",
     .group = SIZES,
     .help = "How many bytes of what waits for a connection leave in one send; a longer message "
             "leaves alone. Less makes the delays of other clients more even, at the price of more "
             "sends. Over TLS 48KiB are the most.",
     .def = "256KiB",
     .min = 4 * KIB,
     .max = 16 * MIB,
     .offset = AT(net.send_batch_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "queue-memory",
     .group = SIZES,
     .help =
         "How many bytes may wait for all connections of the node together; a message counts 64 "
         "more than it has. Above it the connection with the longest queue is disconnected. Set "
         "it well below the memory of the host.",
     .def = "1GiB",
     .min = 64 * KIB,
     .offset = AT(net.queue_memory_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "assembly-memory",
     .group = SIZES,
     .help = "How many bytes of messages that have begun but are not complete the node keeps for "
             "all connections. Above it the connection that holds most is disconnected.",
     .def = "256MiB",
     .min = 64 * KIB,
     .offset = AT(net.assembly_memory_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "mesh-window",
     .group = SIZES,
     .help = "How many bytes of publishes a shard may have under way to another shard. Without "
             "room it stops reading from the connections that publish there.",
     .def = "4MiB",
     .min = 4 * KIB,
     .max = 4 * GIB,
     .offset = AT(pubsub.mesh_window_bytes),
     .type = OPTION_SIZE},
    {.name = "mesh-backlog",
     .group = SIZES,
     .help = "How many bytes may wait from one shard to another before its rooms slow their "
             "publishers down.",
     .def = "16MiB",
     .min = 4 * KIB,
     .max = 16 * GIB,
     .offset = AT(pubsub.mesh_backlog_bytes),
     .type = OPTION_SIZE},

    {.name = "handshake-timeout",
     .group = TIMES,
     .help = "The longest from the accepted connection to the complete upgrade. Lower it against "
             "clients that connect and say nothing.",
     .def = "10s",
     .min = 10 * NS_PER_MS,
     .max = 3600 * NS_PER_SEC,
     .zero_off = true,
     .offset = AT(net.handshake_timeout_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},
    {.name = "message-timeout",
     .group = TIMES,
     .help = "A message that has begun must be complete by then, or its connection is closed. "
             "Raise it for large messages over slow links.",
     .def = "30s",
     .min = 10 * NS_PER_MS,
     .max = 3600 * NS_PER_SEC,
     .zero_off = true,
     .offset = AT(net.message_timeout_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},

    {.name = "max-headers",
     .group = COUNTS,
     .help = "The most header fields of an HTTP request; more are answered with 431.",
     .def = "64",
     .min = 1,
     .max = 128,
     .offset = AT(net.max_headers),
     .type = OPTION_U32,
     .reload = OPTION_RELOAD},
    {.name = "max-fragments",
     .group = COUNTS,
     .help = "The most fragments of one message; more end the connection. It stops clients that "
             "send messages byte by byte.",
     .def = "16384",
     .min = 1,
     .max = UINT16_MAX,
     .offset = AT(net.max_fragments),
     .type = OPTION_U32,
     .reload = OPTION_RELOAD},
    {.name = "max-connections",
     .group = COUNTS,
     .help = "The most connections of the node; more are turned away with 1013. 0 is as many as "
             "the limit of open files allows.",
     .def = "0",
     .max = 16000000,
     .offset = AT(net.max_connections),
     .type = OPTION_U32},
    {.name = "max-connections-per-ip",
     .group = COUNTS,
     .help = "The most connections of one address (of one /64 network with IPv6). Set it on the "
             "open internet, and --proxy-from with it if a proxy stands in front.",
     .def = "0",
     .max = 16000000,
     .zero_off = true,
     .offset = AT(net.max_connections_per_ip),
     .type = OPTION_U32,
     .reload = OPTION_RELOAD},
    {.name = "connect-rate",
     .group = COUNTS,
     .help = "The most new connections a second of the node, and how many may come at once. Set it "
             "so that a storm of reconnects does not starve those who are connected.",
     .def = "0",
     .max = RATE_MAX,
     .zero_off = true,
     .offset = AT(net.connect_rate),
     .type = OPTION_RATE,
     .reload = OPTION_RELOAD},
    {.name = "connect-rate-per-ip",
     .group = COUNTS,
     .help = "The most new connections a second of one address (of one /64 network with IPv6), and "
             "how many may come at once.",
     .def = "0",
     .max = RATE_MAX,
     .zero_off = true,
     .offset = AT(net.connect_rate_per_ip),
     .type = OPTION_RATE,
     .reload = OPTION_RELOAD},
    {.name = "message-rate",
     .group = COUNTS,
     .help = "The most messages a second of one connection, and how many may come at once; more "
             "end it with 1008.",
     .def = "0",
     .max = RATE_MAX,
     .zero_off = true,
     .offset = AT(net.message_rate),
     .type = OPTION_RATE,
     .reload = OPTION_RELOAD},
    {.name = "byte-rate",
     .group = COUNTS,
     .help = "The most bytes a second of one connection, and how many may come at once; more end "
             "it with 1008. The burst must hold a message of --max-message.",
     .def = "0",
     .max = RATE_MAX,
     .zero_off = true,
     .sized = true,
     .offset = AT(net.byte_rate),
     .type = OPTION_RATE,
     .reload = OPTION_RELOAD},

    {.name = "allow-origin",
     .group = WEBSOCKET,
     .arg = "ORIGIN",
     .help = "Accepts browsers on pages of this origin, https://example.com or *.example.com; * "
             "accepts all. Without it only pages of the host that is connected to are accepted.",
     .check = check_origin,
     .offset = AT(net.allow_origin),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
    {.name = "compress",
     .group = WEBSOCKET,
     .help = "Offers permessage-deflate. It saves bandwidth for text and costs processor time; a "
             "message to many is compressed once.",
     .def = "off",
     .choices = compress_choices,
     .offset = AT(net.compress),
     .type = OPTION_ENUM,
     .reload = OPTION_RELOAD},
    {.name = "compress-min",
     .group = WEBSOCKET,
     .help = "Messages shorter than this are sent as they are, since they would hardly shrink.",
     .def = "256B",
     .max = 64 * MIB,
     .offset = AT(net.compress_min_bytes),
     .type = OPTION_SIZE,
     .reload = OPTION_RELOAD},
    {.name = "ping-interval",
     .group = WEBSOCKET,
     .help = "A connection from which nothing has come for that long is pinged. Keep it below the "
             "idle timeout of the proxies on the way.",
     .def = "25s",
     .min = 10 * NS_PER_MS,
     .max = 24 * 3600 * NS_PER_SEC,
     .zero_off = true,
     .offset = AT(net.ping_interval_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},
    {.name = "pong-timeout",
     .group = WEBSOCKET,
     .help = "A ping that nothing has followed for that long counts as missed.",
     .def = "10s",
     .min = 10 * NS_PER_MS,
     .max = 3600 * NS_PER_SEC,
     .offset = AT(net.pong_timeout_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},
    {.name = "pong-misses",
     .group = WEBSOCKET,
     .help = "After so many missed pings in a row the connection is closed. Raise it for clients "
             "on links that often stall.",
     .def = "1",
     .min = 1,
     .max = 100,
     .offset = AT(net.pong_misses),
     .type = OPTION_U32,
     .reload = OPTION_RELOAD},
    {.name = "close-timeout",
     .group = WEBSOCKET,
     .help = "How long the server waits for the answer to its close frame before it closes the "
             "connection.",
     .def = "5s",
     .min = 10 * NS_PER_MS,
     .max = 3600 * NS_PER_SEC,
     .offset = AT(net.close_timeout_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},

    {.name = "backlog",
     .group = SOCKETS,
     .help = "How many connections may wait to be accepted on each listener. The kernel caps it at "
             "net.core.somaxconn; raise both for storms of reconnects.",
     .def = "4096",
     .min = 1,
     .max = 1u << 20,
     .offset = AT(net.backlog),
     .type = OPTION_U32},
    {.name = "tcp-sndbuf",
     .group = SOCKETS,
     .help = "The kernel's send buffer of each connection; 0 leaves it to the kernel. A fixed, "
             "small one bounds the memory of slow readers.",
     .def = "0",
     .max = GIB,
     .offset = AT(net.tcp_sndbuf_bytes),
     .type = OPTION_SIZE},
    {.name = "proxy-from",
     .group = SOCKETS,
     .arg = "NETWORK",
     .help = "Connections from this network (10.0.0.0/8, an address, or unix) begin with a PROXY "
             "protocol header that names the client. Name your load balancers here, nobody else.",
     .check = check_proxy_net,
     .offset = AT(net.proxy_from),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},

    {.name = "tls-port",
     .group = TLS,
     .arg = "PORT",
     .help = "Speaks TLS (https and wss) on this port of all TCP addresses; 0 takes a free one. "
             "Needs --tls-cert and --tls-key.",
     .check = check_port,
     .offset = AT(tls_port),
     .type = OPTION_LIST},
    {.name = "tls-cert",
     .group = TLS,
     .arg = "FILE",
     .help = "A certificate and its chain in PEM, the leaf first; several for several names or for "
             "both ECDSA and RSA. The first serves clients that name no known host. SIGHUP reads "
             "all files again.",
     .offset = AT(net.tls_cert),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
    {.name = "tls-key",
     .group = TLS,
     .arg = "FILE",
     .help = "The private key of the certificate at the same place in the list, in PEM, not "
             "encrypted.",
     .offset = AT(net.tls_key),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
    {.name = "tls-client-ca",
     .group = TLS,
     .arg = "FILE",
     .help = "Clients must show a certificate that one of these authorities (PEM) has signed. Then "
             "no session is resumed.",
     .offset = AT(net.tls_client_ca),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
    {.name = "tls-ocsp",
     .group = TLS,
     .arg = "FILE",
     .help =
         "An OCSP response in DER, stapled to the certificate that it speaks of, whose chain "
         "must hold the issuer; in TLS 1.3 only where wolfSSL leaks nothing, which a start with "
         "a response finds out. SIGHUP reads it again; an expired one is sent to nobody.",
     .offset = AT(net.tls_ocsp),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
    {.name = "tls-handshakes-max",
     .group = TLS,
     .help =
         "How many handshakes each shard has under way at once, of 25 to 60 KB each; more wait in "
         "order. One address gets a quarter of them. Raise it for very many clients far away "
         "that come at once.",
     .def = "64",
     .min = 1,
     .max = 65536,
     .offset = AT(net.tls_handshakes_max),
     .type = OPTION_U32},
    {.name = "tls-ticket-lifetime",
     .group = TLS,
     .help = "How long a client may come back by session ticket, without a full handshake. The "
             "tickets' keys change as often, and live twice as long. 0 gives no tickets.",
     .def = "12h",
     .min = 60 * NS_PER_SEC,
     .max = 7 * 24 * 3600 * NS_PER_SEC,
     .zero_off = true,
     .offset = AT(net.tls_ticket_lifetime_ns),
     .type = OPTION_DURATION},
    {.name = "ktls",
     .group = TLS,
     .help =
         "With auto the kernel seals what TLS connections are sent, where it can (its tls module; "
         "on io_uring Linux 6.8; for TLS 1.3 Linux 6.14). Never yet run on a kernel that can, but "
         "on a stand-in: try it before you rely on it.",
     .def = "off",
     .choices = ktls_choices,
     .offset = AT(net.ktls),
     .type = OPTION_ENUM},
    {.name = "redirect-http",
     .group = TLS,
     .help = "Answers every request to the plain port by a redirect to the first --tls-port, but "
             "not by Unix sockets or at the admin address. Leave it off behind a proxy that ends "
             "TLS itself.",
     .def = "off",
     .offset = AT(redirect_http),
     .type = OPTION_BOOL},

    {.name = "echo",
     .group = ROOMS,
     .help = "Serves /echo, which returns every message to its sender. For measurements and to try "
             "out clients.",
     .def = "off",
     .offset = AT(pubsub.echo),
     .type = OPTION_BOOL},
    {.name = "write-delay",
     .group = ROOMS,
     .help =
         "How long a message may wait to be sent together with others of its room, which spares "
         "processor time where rooms talk fast. A room that has been quiet for that long sends "
         "at once, so only those that talk faster than this are delayed.",
     .def = "0",
     .min = 100 * NS_PER_US,
     .max = NS_PER_SEC,
     .zero_off = true,
     .offset = AT(pubsub.write_delay_ns),
     .type = OPTION_DURATION},

    {.name = "redis",
     .group = REDIS,
     .arg = "URL",
     .help = "Makes rooms one with those of all nodes that are given the same: redis://, by TLS "
             "rediss://, and [[USER]:PASSWORD@]HOST[:PORT][/DB]; unix:PATH; "
             "redis[s]+sentinel://[...]HOST,.../MASTER[/DB] by Sentinels; "
             "redis[s]+cluster://[...]HOST,... by nodes. Several share the rooms by hashing.",
     .mask = redis_url_mask,
     .is_item = redis_url_begins,
     .offset = AT(pubsub.redis.urls),
     .type = OPTION_LIST},
    {.name = "redis-ca",
     .group = REDIS,
     .arg = "FILE",
     .help = "Authorities in PEM, one of which must have signed what servers at rediss:// show; it "
             "must be for the host by which they are connected. SIGHUP reads all these files "
             "again.",
     .def = REDIS_CA_FILE,
     .offset = AT(pubsub.redis.ca),
     .type = OPTION_TEXT,
     .reload = OPTION_RELOAD},
    {.name = "redis-cert",
     .group = REDIS,
     .arg = "FILE",
     .help = "The certificate in PEM, with its chain, that servers at rediss:// are shown: Redis "
             "wants one unless its tls-auth-clients is no.",
     .def = "off",
     .offset = AT(pubsub.redis.cert),
     .type = OPTION_TEXT,
     .reload = OPTION_RELOAD},
    {.name = "redis-key",
     .group = REDIS,
     .arg = "FILE",
     .help = "The private key of --redis-cert, in PEM, not encrypted.",
     .def = "off",
     .offset = AT(pubsub.redis.key),
     .type = OPTION_TEXT,
     .reload = OPTION_RELOAD},
    {.name = "redis-prefix",
     .group = REDIS,
     .arg = "TEXT",
     .help = "Begins the name of every channel in Redis; nodes with different ones do not meet. "
             "Ends with a colon and holds no other.",
     .def = "tidewire:",
     .check = check_redis_prefix,
     .offset = AT(pubsub.redis.prefix),
     .type = OPTION_TEXT},
    {.name = "redis-order",
     .group = REDIS,
     .help =
         "With global a message is delivered when it has come back from Redis, and all members on "
         "all nodes see one order. With local this node's members get it at once.",
     .def = "global",
     .choices = order_choices,
     .offset = AT(pubsub.redis.order),
     .type = OPTION_ENUM},
    {.name = "engine-down",
     .group = REDIS,
     .help = "What happens to rooms while Redis can not be reached: local, they go on within the "
             "node; refuse, messages are dropped and who comes is turned away with 1013. Those who "
             "are connected stay.",
     .def = "local",
     .choices = away_choices,
     .offset = AT(pubsub.redis.away),
     .type = OPTION_ENUM},
    {.name = "redis-queue",
     .group = REDIS,
     .help = "How many bytes of messages each shard may have under way to Redis without an answer. "
             "From a quarter of it on publishers are slowed down; what does not fit is dropped "
             "and counted.",
     .def = "16MiB",
     .min = 64 * KIB,
     .max = GIB,
     .offset = AT(pubsub.redis.queue_bytes),
     .type = OPTION_SIZE},
    {.name = "redis-linger",
     .group = REDIS,
     .help = "How long a room without members stays subscribed at Redis, for those who come back.",
     .def = "5s",
     .max = 3600 * NS_PER_SEC,
     .offset = AT(pubsub.redis.linger_ns),
     .type = OPTION_DURATION},
    {.name = "redis-timeout",
     .group = REDIS,
     .help = "How long a connection to Redis may take to be made, and how long who enters a room "
             "waits for Redis to confirm it; then it goes as --engine-down says.",
     .def = "1s",
     .min = 10 * NS_PER_MS,
     .max = 60 * NS_PER_SEC,
     .offset = AT(pubsub.redis.timeout_ns),
     .type = OPTION_DURATION},

    {.name = "drain-time",
     .group = OPERATIONS,
     .help = "At SIGTERM or SIGINT the connections are closed spread over that long, so that their "
             "clients do not all reconnect at once; 0 closes them at once.",
     .def = "5s",
     .max = 3600 * NS_PER_SEC,
     .offset = AT(net.drain_time_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},
    {.name = "log-level",
     .group = OPERATIONS,
     .help = "Lines below this level are not logged. debug has a line for each connection.",
     .def = "info",
     .choices = level_choices,
     .offset = AT(log_level),
     .type = OPTION_ENUM,
     .reload = OPTION_RELOAD},
    {.name = "log-format",
     .group = OPERATIONS,
     .help = "How lines of the log look: key=value for people, json for collectors.",
     .def = "logfmt",
     .choices = format_choices,
     .offset = AT(log_format),
     .type = OPTION_ENUM},
};

const uint32_t config_table_len = ARRAY_LEN(config_table);
