/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_KTLS_H
#define NET_TLS_KTLS_H

/* Kernel TLS (Documentation/networking/tls.rst): what the kernel can seal, and the sending half of
 * a record layer lent to it. From then on the layer seals nothing itself; it says what the kernel's
 * key is, what goes as a record of its own (KeyUpdates, the last alert), and counts what is sent
 * under the key. Opening stays with tls_record_open().
 *
 *     tls_ktls_info()     the key as the kernel takes it; accepted: tls_ktls_lend()
 *     tls_ktls_may_send() before data, tls_ktls_count() behind it; and where an update is due first
 *     tls_ktls_update()   send it as a handshake record, then tls_ktls_info() again: the next key
 *     tls_ktls_end()      send it as an alert record, the last
 *
 * Any thread, one for each record layer; no state but the layer's. */

#include <linux/tls.h>

#include "net/tls_record.h"

/* What setsockopt(SOL_TLS, TLS_TX) takes. Holds a key: wipe it after use. */
union tls_ktls_info {
    struct tls_crypto_info head;
    struct tls12_crypto_info_aes_gcm_128 aes_128;
    struct tls12_crypto_info_aes_gcm_256 aes_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

#define TLS_KTLS_UPDATE_BYTES 5
#define TLS_KTLS_ALERT_BYTES 2
/* A record is counted for each so many bytes of a send that are begun. The kernel makes records of
 * 16 KiB and one of the rest, and ends one wherever it takes a send in part, which it does not say;
 * so this counts more than there are, but where a socket's buffer is tiny. Even if each byte had a
 * record, 2^23 KiB of them are fewer blocks than the 2^24.5 full records of RFC 8446 5.5. */
#define TLS_KTLS_COUNTED_BYTES 1024

/* A set of suites: this bit for each. */
#define TLS_KTLS_SUITE(version, aead) (1u << ((version)*TLS_AEAD_COUNT + (aead)))

/* What this kernel has. */
struct tls_ktls_probe {
    uint32_t suites; /* TLS_KTLS_SUITE()s that it seals */
    bool rekeys;     /* takes a next key (Linux 6.14) */
    int err;         /* why it has none at all, -errno: -ENOENT without its "tls" module */
};

/* Finds out, by a TCP connection to itself over loopback. Main, at start. */
void tls_ktls_probe(struct tls_ktls_probe *p);

/* The suites to be lent: none of 1.3 to a kernel that takes no next key, since a client may ask for
 * one at any time (RFC 8446 4.6.3). */
uint32_t tls_ktls_usable(const struct tls_ktls_probe *p);

/* Text for logs, such as "1.2 AES-128-GCM, 1.3 AES-128-GCM"; "none". Returns text. */
#define TLS_KTLS_TEXT_MAX 160
const char *tls_ktls_text(uint32_t suites, char text[TLS_KTLS_TEXT_MAX]);

/* Why the probe has found none, in the words of an operator, with the remedy. */
const char *tls_ktls_why(int err);

/* Whether that kernel may seal for r: its suite is in the set, and the client has not asked for
 * short records. */
bool tls_ktls_fits(const struct tls_record *r, uint32_t suites);

/* The key that r would seal its next record with. Returns how many bytes of *info are the option's
 * value. */
size_t tls_ktls_info(const struct tls_record *r, union tls_ktls_info *info);

/* The kernel has taken it: r seals nothing any more. */
void tls_ktls_lend(struct tls_record *r);

/* Whether data may be sent: r has neither failed nor ended, and its key is not used up. */
bool tls_ktls_may_send(struct tls_record *r);

/* Data is being sent under the key. */
void tls_ktls_count(struct tls_record *r, size_t bytes);

/* Whether new keys are due before the next data. */
bool tls_ktls_is_update_due(const struct tls_record *r);

/* The KeyUpdate that is due; it must be sent, and r has the key behind it already. */
void tls_ktls_update(struct tls_record *r, struct tls_work *work,
                     uint8_t message[TLS_KTLS_UPDATE_BYTES]);

/* As tls_record_seal_end(), not sealed. Returns 2, or 0: there is none. */
size_t tls_ktls_end(struct tls_record *r, uint8_t message[TLS_KTLS_ALERT_BYTES]);

#endif
