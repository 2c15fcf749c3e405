/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_NET_CONFIG_H
#define NET_NET_CONFIG_H

/* The transport's settings, filled from the flags of the same names. A struct of them is constant;
 * a shard may be given another one (net_settings.h). */

#include "core/options.h"
#include "net/proxy_header.h"

enum { NET_KTLS_OFF, NET_KTLS_AUTO };

struct net_config {
    /* HTTP */
    uint64_t max_head_bytes;         /* --max-head 8KiB */
    uint32_t max_headers;            /* --max-headers 64 */
    struct option_list allow_origin; /* --allow-origin, repeatable; empty: same host */

    /* WebSocket */
    uint64_t max_message_bytes;  /* --max-message 64KiB, up to 64MiB */
    uint32_t max_fragments;      /* --max-fragments 16384 */
    int compress;                /* --compress off|on */
    uint64_t compress_min_bytes; /* --compress-min 256B */
    uint64_t ping_interval_ns;   /* --ping-interval 25s; 0: no heartbeats */
    uint64_t pong_timeout_ns;    /* --pong-timeout 10s */
    uint32_t pong_misses;        /* --pong-misses 1 */
    uint64_t close_timeout_ns;   /* --close-timeout 5s */

    /* Times */
    uint64_t handshake_timeout_ns; /* --handshake-timeout 10s: from accept to a complete upgrade */
    uint64_t message_timeout_ns;   /* --message-timeout 30s: a begun message is complete by then */
    uint64_t drain_time_ns;        /* --drain-time 5s; 0: close everyone at once */

    /* Queues and memory */
    uint64_t max_queue_bytes;       /* --max-queue 1MiB per connection */
    uint64_t send_batch_bytes;      /* --send-batch 256KiB of one gathered send */
    uint64_t queue_memory_bytes;    /* --queue-memory 1GiB per node */
    uint64_t assembly_memory_bytes; /* --assembly-memory 256MiB per node */

    /* Counts and rates */
    uint32_t max_connections;               /* --max-connections; 0: what descriptors allow */
    uint32_t max_connections_per_ip;        /* --max-connections-per-ip; 0: off */
    struct option_rate connect_rate;        /* --connect-rate, per node */
    struct option_rate connect_rate_per_ip; /* --connect-rate-per-ip */
    struct option_rate message_rate;        /* --message-rate, per connection */
    struct option_rate byte_rate;           /* --byte-rate, per connection, bytes */

    /* TLS */
    struct option_list tls_cert;      /* --tls-cert, repeatable: certificate chains */
    struct option_list tls_key;       /* --tls-key: their keys, in the same order */
    struct option_list tls_client_ca; /* --tls-client-ca, repeatable; empty: clients need none */
    struct option_list tls_ocsp;      /* --tls-ocsp, repeatable: OCSP responses to staple */
    uint32_t tls_handshakes_max;      /* --tls-handshakes-max 64 per shard */
    uint64_t tls_ticket_lifetime_ns;  /* --tls-ticket-lifetime 12h; 0: no tickets */
    int ktls;                         /* --ktls off|auto: NET_KTLS_... */

    /* Sockets */
    uint32_t backlog;          /* --backlog 4096 */
    uint64_t tcp_sndbuf_bytes; /* --tcp-sndbuf 0: the kernel's default */
    struct option_list
        proxy_from; /* --proxy-from NET, repeatable: PROXY protocol is required there */
};

#endif
