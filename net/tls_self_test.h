/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_SELF_TEST_H
#define NET_TLS_SELF_TEST_H

/* Proves, before the first client comes, that the library that is linked at run time gives all that
 * net/tls_handshake.h takes from it: handshakes within the process, by every certificate with each
 * version and AEAD, and records both ways over the exported keys. */

#include "net/tls_context.h"

/* Some milliseconds per certificate. 0, or -ENOTSUP and in complaint one line. Any thread. */
MUST_USE int tls_self_test(struct tls_context *ctx, char complaint[TLS_COMPLAINT_MAX]);

#endif
