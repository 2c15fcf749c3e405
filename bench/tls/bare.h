/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef BENCH_TLS_BARE_H
#define BENCH_TLS_BARE_H

/* A server's handshakes by wolfSSL and nothing else, over bytes: what a handshake costs at the
 * least with this library. OpenSSL's headers and wolfSSL's don't go together, hence a file of its
 * own. One thread. */

#include <stdbool.h>

#include "core/base.h"

struct bare;
struct bare_handshake;

/* With the certificate and key in these files; tickets by the library's own keys. Exits when that
 * can't be. */
struct bare *bare_new(const char *cert_file, const char *key_file);
void bare_free(struct bare *b);

struct bare_handshake *bare_handshake_new(struct bare *b);
void bare_handshake_free(struct bare_handshake *hs);

/* Goes on with one flight of the client. Returns whether it is complete; exits when it fails. */
bool bare_handshake_step(struct bare_handshake *hs, struct bytes in);

/* What must be sent; a view until the next call. */
struct bytes bare_handshake_output(struct bare_handshake *hs);

#endif
