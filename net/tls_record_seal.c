/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Sealing records: gather in chunks that stay in the first cache level, and encrypt each in place.
 */

#include <assert.h>
#include <string.h>

#include "net/tls_record_internal.h"

/* Copied and sealed at a time; a multiple of TLS_AEAD_PIECE_BYTES. */
#define CHUNK_BYTES 4096

static_assert(CHUNK_BYTES % TLS_AEAD_PIECE_BYTES == 0, "chunks are whole pieces");

/* Steps over spans that are used up. */
static void skip_empty(struct tls_source *src)
{
    while (src->count > 0 && src->off == src->iov->iov_len) {
        src->iov++;
        src->count--;
        src->off = 0;
    }
}

/* What the source has, up to `most`. */
static size_t source_bytes(const struct tls_source *src, size_t most)
{
    size_t sum = 0;
    for (int i = 0; i < src->count && sum < most; i++)
        sum += src->iov[i].iov_len - (i == 0 ? src->off : 0);
    return min_size(sum, most);
}

/* Copies the next len bytes of the source, which has them, and steps behind them. */
static void take_source(struct tls_source *src, uint8_t *out, size_t len)
{
    while (len > 0) {
        size_t n = min_size(len, src->iov->iov_len - src->off);
        memcpy(out, (const uint8_t *)src->iov->iov_base + src->off, n);
        out += n;
        len -= n;
        src->off += n;
        skip_empty(src);
    }
}

/* Encrypts len bytes of the source, and in 1.3 the type behind them, at out. */
static void encrypt(struct tls_record *r, struct tls_aead_ctx *c, uint8_t type,
                    struct tls_source *src, size_t len, uint8_t *out)
{
    size_t total = len + (record_is_13(r) ? 1 : 0);
    for (size_t done = 0; done < total;) {
        size_t n = min_size(CHUNK_BYTES, total - done);
        size_t from_source = min_size(n, len - done);
        take_source(src, out + done, from_source);
        if (from_source < n)
            out[done + from_source] = type;
        tls_aead_crypt(c, out + done, n);
        done += n;
    }
    tls_aead_tag(c, out + total);
}

/* One record with len bytes of the source, 2^14 at the most. Returns its length. */
static size_t seal_record(struct tls_record *r, struct tls_work *work, uint8_t type,
                          struct tls_source *src, size_t len, uint8_t *out)
{
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[RECORD_AAD_BYTES_MAX];
    uint8_t *body = out + TLS_RECORD_HEAD_BYTES;
    size_t record_len = record_extra(r) + len;
    uint64_t counter = r->write_seq;

    out[0] = record_is_13(r) ? RECORD_TYPE_DATA : type;
    out[1] = 3;
    out[2] = 3;
    record_put_u16(out + 3, record_len - TLS_RECORD_HEAD_BYTES);
    if (record_has_explicit(r)) {
        counter += r->explicit_base;
        record_put_u64(body, counter);
        body += RECORD_EXPLICIT_NONCE_BYTES;
    }
    record_nonce(nonce, r->write_iv, counter);
    size_t aad_len = record_aad(r, aad, out, r->write_seq, len);
    tls_aead_load(&work->seal, (enum tls_aead)r->aead, record_write_key(r));
    tls_aead_start(&work->seal, true, nonce, aad, aad_len);
    encrypt(r, &work->seal, type, src, len, body);
    r->write_seq++;
    return record_len;
}

/* The same for a message of our own. */
static size_t seal_message(struct tls_record *r, struct tls_work *work, uint8_t type,
                           const uint8_t *message, size_t len, uint8_t *out)
{
    struct iovec iov = {(void *)message, len};
    struct tls_source src = {&iov, 1, 0};
    return seal_record(r, work, type, &src, len, out);
}

void record_update_message(const struct tls_record *r, uint8_t message[RECORD_UPDATE_BYTES])
{
    const uint8_t m[RECORD_UPDATE_BYTES] = {RECORD_MESSAGE_KEY_UPDATE, 0, 0, 1,
                                            (r->bits & RECORD_BIT_UPDATE_REQUEST) != 0};
    memcpy(message, m, sizeof m);
}

void record_next_write_keys(struct tls_record *r, struct tls_aead_ctx *c, struct record_keys *next)
{
    record_install_keys(r, c, next, record_write_secret(r), record_write_key(r), r->write_iv);
    r->write_seq = 0;
    r->bits &= (uint8_t) ~(RECORD_BIT_UPDATE_DUE | RECORD_BIT_UPDATE_REQUEST);
}

/* The KeyUpdate that is due: the last record under its key. */
static size_t seal_key_update(struct tls_record *r, struct tls_work *work, uint8_t *out)
{
    uint8_t message[RECORD_UPDATE_BYTES];
    struct record_keys next;

    record_update_message(r, message);
    record_next_keys(r, record_write_secret(r), &next);
    size_t n = seal_message(r, work, RECORD_TYPE_HANDSHAKE, message, sizeof message, out);
    record_next_write_keys(r, &work->seal, &next);
    return n;
}

bool record_check_limit(struct tls_record *r)
{
    if (likely(r->write_seq < record_key_limit(r)))
        return true;
    if (record_is_13(r))
        r->bits |= RECORD_BIT_UPDATE_DUE;
    else if (r->write_seq >= 2 * record_key_limit(r))
        record_fail(r, TLS_REASON_KEY_LIMIT);
    return r->reason == TLS_REASON_NONE;
}

size_t tls_record_seal(struct tls_record *r, struct tls_work *work, struct tls_source *src,
                       size_t plain_max, uint8_t *out, size_t room)
{
    size_t written = 0;

    if (!tls_record_is_writable(r) || !record_check_limit(r))
        return 0;
    if (unlikely((r->bits & RECORD_BIT_UPDATE_DUE) != 0)) {
        if (room < TLS_RECORD_UPDATE_BYTES)
            return 0;
        written = seal_key_update(r, work, out);
    }
    skip_empty(src);
    size_t space = room - written, extra = record_extra(r);
    if (src->count == 0 || plain_max == 0 || space <= extra)
        return written;
    size_t most = min_size(min_size(plain_max, r->fragment_max), space - extra);
    size_t len = source_bytes(src, most);
    return written + seal_record(r, work, RECORD_TYPE_DATA, src, len, out + written);
}

bool record_end_message(struct tls_record *r, uint8_t message[RECORD_ALERT_BYTES])
{
    int alert = r->reason == TLS_REASON_NONE ? RECORD_ALERT_CLOSE_NOTIFY
                                             : tls_reason_alert((enum tls_reason)r->reason);
    bool is_mute = (r->bits & RECORD_BIT_OUTPUT_ENDED) != 0 || alert < 0;

    message[0] = alert == RECORD_ALERT_CLOSE_NOTIFY ? RECORD_ALERT_WARNING : RECORD_ALERT_FATAL;
    message[1] = (uint8_t)alert;
    r->bits |= RECORD_BIT_OUTPUT_ENDED;
    return !is_mute;
}

size_t tls_record_seal_end(struct tls_record *r, struct tls_work *work, uint8_t *out)
{
    uint8_t message[RECORD_ALERT_BYTES];

    if ((r->bits & RECORD_BIT_LENT) != 0 || !record_end_message(r, message))
        return 0;
    return seal_message(r, work, RECORD_TYPE_ALERT, message, sizeof message, out);
}
