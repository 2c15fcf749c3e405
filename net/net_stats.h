/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_NET_STATS_H
#define NET_NET_STATS_H

/* The transport's counters: one row here is one line of /metrics. Rows of one metric stand
 * together. */

#include "core/stats.h"

/* X(id, name, labels, help, kind) */
#define NET_STATS(X)                                                                               \
    X(CONNECTIONS, "connections", NULL, "Connections attached now.", STATS_GAUGE)                  \
    X(WEBSOCKETS, "websockets", NULL, "WebSocket connections open now.", STATS_GAUGE)              \
    X(ACCEPTED, "connections_accepted_total", NULL, "Connections accepted.", STATS_COUNTER)        \
    X(HANDED_OVER, "connections_handed_over_total", NULL,                                          \
      "Sockets handed to a shard with more room.", STATS_COUNTER)                                  \
    X(ADOPTED, "connections_adopted_total", NULL, "Sockets taken from a full shard.",              \
      STATS_COUNTER)                                                                               \
    X(TURNED_AWAY, "connections_turned_away_total", NULL,                                          \
      "Sockets answered 503 and closed at accept: no shard had room, or no memory.",               \
      STATS_COUNTER)                                                                               \
    X(HEADS, "http_requests_total", NULL, "Complete request heads.", STATS_COUNTER)                \
    X(HTTP_101, "http_responses_total", "status=\"101\"", "Answers by status.", STATS_COUNTER)     \
    X(HTTP_200, "http_responses_total", "status=\"200\"", "", STATS_COUNTER)                       \
    X(HTTP_304, "http_responses_total", "status=\"304\"", "", STATS_COUNTER)                       \
    X(HTTP_400, "http_responses_total", "status=\"400\"", "", STATS_COUNTER)                       \
    X(HTTP_403, "http_responses_total", "status=\"403\"", "", STATS_COUNTER)                       \
    X(HTTP_404, "http_responses_total", "status=\"404\"", "", STATS_COUNTER)                       \
    X(HTTP_405, "http_responses_total", "status=\"405\"", "", STATS_COUNTER)                       \
    X(HTTP_408, "http_responses_total", "status=\"408\"", "", STATS_COUNTER)                       \
    X(HTTP_413, "http_responses_total", "status=\"413\"", "", STATS_COUNTER)                       \
    X(HTTP_414, "http_responses_total", "status=\"414\"", "", STATS_COUNTER)                       \
    X(HTTP_426, "http_responses_total", "status=\"426\"", "", STATS_COUNTER)                       \
    X(HTTP_429, "http_responses_total", "status=\"429\"", "", STATS_COUNTER)                       \
    X(HTTP_431, "http_responses_total", "status=\"431\"", "", STATS_COUNTER)                       \
    X(HTTP_501, "http_responses_total", "status=\"501\"", "", STATS_COUNTER)                       \
    X(HTTP_503, "http_responses_total", "status=\"503\"", "", STATS_COUNTER)                       \
    X(HTTP_505, "http_responses_total", "status=\"505\"", "", STATS_COUNTER)                       \
    X(HTTP_OTHER, "http_responses_total", "status=\"other\"", "", STATS_COUNTER)                   \
    X(RECV_BYTES, "received_bytes_total", NULL, "Bytes received from clients.", STATS_COUNTER)     \
    X(SENT_BYTES, "sent_bytes_total", NULL,                                                        \
      "Bytes sent to clients; where the kernel seals, before it does.", STATS_COUNTER)             \
    X(SENDS, "sends_total", NULL, "Gathered sends.", STATS_COUNTER)                                \
    X(MESSAGES_IN, "messages_received_total", NULL, "Data messages received.", STATS_COUNTER)      \
    X(PAYLOAD_COPIES, "payload_copies_total", NULL,                                                \
      "Payloads copied out of a receive buffer into a message.", STATS_COUNTER)                    \
    X(PINGS_IN, "pings_received_total", NULL, "Pings received.", STATS_COUNTER)                    \
    X(PINGS_OUT, "pings_sent_total", NULL, "Heartbeat pings sent.", STATS_COUNTER)                 \
    X(PONGS_IN, "pongs_received_total", NULL, "Pongs received.", STATS_COUNTER)                    \
    X(PONG_MISSES, "pong_misses_total", NULL, "Pings that stayed unanswered.", STATS_COUNTER)      \
    X(INFLATED, "messages_inflated_total", NULL, "Compressed messages inflated.", STATS_COUNTER)   \
    X(INFLATE_WAITS, "inflate_waits_total", NULL,                                                  \
      "Compressed messages that waited for a later turn.", STATS_COUNTER)                          \
    X(COMPRESSED, "messages_compressed_total", NULL, "Messages compressed.", STATS_COUNTER)        \
    X(COMPRESS_SKIPPED, "compress_skipped_total", NULL,                                            \
      "Messages sent as they are, since the turn had no time left to compress them.",              \
      STATS_COUNTER)                                                                               \
    X(QUEUE_BYTES, "queue_bytes", NULL, "Bytes in send queues.", STATS_GAUGE)                      \
    X(QUEUE_COST, "queue_cost_bytes", NULL,                                                        \
      "What --queue-memory bounds: bytes in send queues, and 64 for each message behind another.", \
      STATS_GAUGE)                                                                                 \
    X(ASSEMBLY_BYTES, "assembly_bytes", NULL, "Memory of incomplete messages and held input.",     \
      STATS_GAUGE)                                                                                 \
    X(CONN_POOL_BYTES, "pool_bytes", "pool=\"connections\"", "Memory mapped by pools.",            \
      STATS_GAUGE)                                                                                 \
    X(RX_POOL_BYTES, "pool_bytes", "pool=\"receive_state\"", "", STATS_GAUGE)                      \
    X(CHUNK_POOL_BYTES, "pool_bytes", "pool=\"queue_chunks\"", "", STATS_GAUGE)                    \
    X(ADDRESS_POOL_BYTES, "pool_bytes", "pool=\"addresses\"", "", STATS_GAUGE)                     \
    X(TLS_POOL_BYTES, "pool_bytes", "pool=\"tls_states\"", "", STATS_GAUGE)                        \
    X(SHAKE_POOL_BYTES, "pool_bytes", "pool=\"tls_handshakes\"", "", STATS_GAUGE)                  \
    X(CONN_POOL_FAILED, "pool_failures_total", "pool=\"connections\"",                             \
      "Slots refused: bound reached or no memory.", STATS_COUNTER)                                 \
    X(RX_POOL_FAILED, "pool_failures_total", "pool=\"receive_state\"", "", STATS_COUNTER)          \
    X(CHUNK_POOL_FAILED, "pool_failures_total", "pool=\"queue_chunks\"", "", STATS_COUNTER)        \
    X(ADDRESS_POOL_FAILED, "pool_failures_total", "pool=\"addresses\"", "", STATS_COUNTER)         \
    X(TLS_POOL_FAILED, "pool_failures_total", "pool=\"tls_states\"", "", STATS_COUNTER)            \
    X(SHAKE_POOL_FAILED, "pool_failures_total", "pool=\"tls_handshakes\"", "", STATS_COUNTER)      \
    X(DEFLATE_BYTES, "deflate_bytes", NULL, "Memory of compressors and inflaters.", STATS_GAUGE)   \
    X(REFUSING, "connections_refusing", NULL,                                                      \
      "Connections attached only to be told why they are refused.", STATS_GAUGE)                   \
    X(HOLDS, "receive_pauses_total", NULL, "Times that receiving was paused.", STATS_COUNTER)      \
    X(HELD, "receive_paused", NULL, "Connections whose receiving is paused.", STATS_GAUGE)         \
    X(ADDRESSES, "addresses", NULL, "Addresses known to the per-address limits.", STATS_GAUGE)     \
    X(TLS_FULL_13, "tls_handshakes_total", "version=\"1.3\",resumed=\"no\"",                       \
      "Handshakes completed.", STATS_COUNTER)                                                      \
    X(TLS_RESUMED_13, "tls_handshakes_total", "version=\"1.3\",resumed=\"yes\"", "",               \
      STATS_COUNTER)                                                                               \
    X(TLS_FULL_12, "tls_handshakes_total", "version=\"1.2\",resumed=\"no\"", "", STATS_COUNTER)    \
    X(TLS_RESUMED_12, "tls_handshakes_total", "version=\"1.2\",resumed=\"yes\"", "",               \
      STATS_COUNTER)                                                                               \
    X(TLS_STAPLED_13, "tls_ocsp_staples_total", "version=\"1.3\"",                                 \
      "Handshakes completed with an OCSP response: in TLS 1.2 seen in what was sent, in 1.3 due.", \
      STATS_COUNTER)                                                                               \
    X(TLS_STAPLED_12, "tls_ocsp_staples_total", "version=\"1.2\"", "", STATS_COUNTER)              \
    X(TLS_CONNECTIONS, "tls_connections", NULL, "TLS connections open now.", STATS_GAUGE)          \
    X(TLS_RUNNING, "tls_handshakes_running", NULL, "Handshakes that have a slot.", STATS_GAUGE)    \
    X(TLS_RENEWED, "tls_renewals_total", NULL,                                                     \
      "Shards that have let old certificates go, after a reload.", STATS_COUNTER)                  \
    X(TLS_WAITING, "tls_handshakes_waiting", NULL, "Clients in line for a slot.", STATS_GAUGE)     \
    X(TLS_RECORDS_IN, "tls_records_received_total", NULL, "Records with data opened.",             \
      STATS_COUNTER)                                                                               \
    X(TLS_RECORDS_OUT, "tls_records_sent_total", NULL, "Records with data sealed.", STATS_COUNTER) \
    X(TLS_PLAIN_IN, "tls_plaintext_received_bytes_total", NULL, "Bytes opened.", STATS_COUNTER)    \
    X(TLS_PLAIN_OUT, "tls_plaintext_sent_bytes_total", NULL,                                       \
      "Bytes sealed, but for those that the kernel seals.", STATS_COUNTER)                         \
    X(TLS_SEALED_BYTES, "tls_sealed_bytes", NULL, "Buffers of sealed records under way.",          \
      STATS_GAUGE)                                                                                 \
    X(KTLS_CONNECTIONS, "tls_kernel_connections", NULL,                                            \
      "TLS connections whose output the kernel seals now.", STATS_GAUGE)                           \
    X(KTLS_STARTED, "tls_kernel_started_total", NULL,                                              \
      "TLS connections whose output the kernel has begun to seal.", STATS_COUNTER)                 \
    X(KTLS_BYTES, "tls_kernel_sent_bytes_total", NULL, "Bytes given to the kernel to be sealed.",  \
      STATS_COUNTER)                                                                               \
    X(KTLS_REKEYED, "tls_kernel_rekeys_total", "result=\"ok\"",                                    \
      "Keys that the kernel was given after the first.", STATS_COUNTER)                            \
    X(KTLS_REKEY_FAILED, "tls_kernel_rekeys_total", "result=\"refused\"", "", STATS_COUNTER)       \
    X(TLS_TRUNCATED, "tls_truncations_total", NULL,                                                \
      "Connections that ended without close_notify or close frame.", STATS_COUNTER)                \
    X(CLOSE_1000, "close_frames_sent_total", "code=\"1000\"", "Close frames sent by code.",        \
      STATS_COUNTER)                                                                               \
    X(CLOSE_1001, "close_frames_sent_total", "code=\"1001\"", "", STATS_COUNTER)                   \
    X(CLOSE_1002, "close_frames_sent_total", "code=\"1002\"", "", STATS_COUNTER)                   \
    X(CLOSE_1007, "close_frames_sent_total", "code=\"1007\"", "", STATS_COUNTER)                   \
    X(CLOSE_1008, "close_frames_sent_total", "code=\"1008\"", "", STATS_COUNTER)                   \
    X(CLOSE_1009, "close_frames_sent_total", "code=\"1009\"", "", STATS_COUNTER)                   \
    X(CLOSE_1011, "close_frames_sent_total", "code=\"1011\"", "", STATS_COUNTER)                   \
    X(CLOSE_1012, "close_frames_sent_total", "code=\"1012\"", "", STATS_COUNTER)                   \
    X(CLOSE_1013, "close_frames_sent_total", "code=\"1013\"", "", STATS_COUNTER)                   \
    X(CLOSE_OTHER, "close_frames_sent_total", "code=\"other\"", "", STATS_COUNTER)

enum net_stat {
#define X(id, name, labels, help, kind) NET_STAT_##id,
    NET_STATS(X)
#undef X
    /* One row per enum tls_failure: tls_handshake_failures_total{reason="..."}. */
    NET_STAT_TLS_FAILURES,
    /* One row per enum tls_reason: tls_record_failures_total{reason="..."}. */
    NET_STAT_TLS_REASONS = NET_STAT_TLS_FAILURES + 15,
    /* One row per enum conn_ktls_fallback: tls_kernel_fallbacks_total{reason="..."}. */
    NET_STAT_KTLS_FALLBACKS = NET_STAT_TLS_REASONS + 20,
    /* One row per enum conn_end (net/conn.h) follows: connections_closed_total{reason="..."}. */
    NET_STAT_ENDS = NET_STAT_KTLS_FALLBACKS + 7,
    NET_STAT_COUNT = NET_STAT_ENDS + 34,
};

extern const struct stats_desc net_stat_descs[NET_STAT_COUNT];

#endif
