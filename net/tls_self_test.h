/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_SELF_TEST_H
#define NET_TLS_SELF_TEST_H

/* Proves, before the first client comes, that the library that is linked at run time gives all that
 * net/tls_handshake.h takes from it: handshakes within the process, by every certificate with each
 * version and AEAD, and records both ways over the exported keys. Where there are OCSP responses,
 * it finds out whether they are stapled in TLS 1.3 as well, without a leak
 * (tls_context_set_staples_13()): by a child of the process, and so only at start. A child has
 * duplicates of all sockets, and while it lives a socket that a shard closes is not closed for the
 * peer, nor for epoll (conn_finish_close() in core/io_epoll.c). Nothing else forks. */

#include "net/tls_context.h"

/* After tls_heap_init(). Some milliseconds per certificate. `at_start`: there are no shards and no
 * other threads yet; without it, what is not known by then about TLS 1.3 stays so. 0, or in
 * complaint one line and -ENOTSUP; -EINVAL: an OCSP response is not stapled. Main; nobody else has
 * ctx yet. */
MUST_USE int tls_self_test(struct tls_context *ctx, bool at_start,
                           char complaint[TLS_COMPLAINT_MAX]);

/* The version of the library that is linked at run time; a constant text. */
const char *tls_self_test_library(void);

#endif
