/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_HEAP_H
#define NET_TLS_HEAP_H

/* wolfSSL's allocations, by hooks of its own. Of the 60 KB that a WOLFSSL has with Debian's
 * library, 37 are room for certificates of the peer, all zeros for as long as none are shown.
 * Their pages go back to the kernel, which hands out new ones, zeros again, when they are written
 * to. */

#include <stdint.h>

/* From here on wolfSSL allocates here. Main, before there are other threads; again does nothing. */
void tls_heap_init(void);

/* Notes what wolfSSL allocates in large blocks on this thread, until tls_heap_slim(). */
void tls_heap_watch(void);

/* Gives back the pages of the blocks noted that hold nothing but zeros. The blocks stay as they
 * are, in content as well. */
void tls_heap_slim(void);

/* Bytes that wolfSSL has allocated on this thread, less those that it has freed here: whether
 * something leaks in the version that is linked, whatever other threads do meanwhile. After
 * tls_heap_init(). */
int64_t tls_heap_bytes(void);

#endif
