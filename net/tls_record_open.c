/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Opening records: header, then AEAD in place, then by content type. */

#include <string.h>

#include "core/plant.h"
#include "net/tls_record_internal.h"

enum {
    MESSAGE_HELLO_REQUEST = 0,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_TICKET = 4,
    ALERT_USER_CANCELED = 90,
};

/* What one record leads to, beside what enum tls_record_status says: nothing that concerns the
 * caller. */
#define RECORD_QUIET ((enum tls_record_status)(TLS_RECORD_FAILED + 1))

/* Judges a record by its header. */
static enum tls_reason check_head(const struct tls_record *r, const uint8_t *head, size_t len)
{
    size_t extra = record_extra(r) - TLS_RECORD_HEAD_BYTES;
    /* A 1.3 record without a type may still be authentic; it is wrong in another way. */
    size_t shortest = record_is_13(r) ? extra - 1 : extra;
    bool is_known = head[0] >= RECORD_TYPE_ALERT && head[0] <= RECORD_TYPE_DATA;
    if (record_is_13(r) ? head[0] != RECORD_TYPE_DATA : !is_known)
        return TLS_REASON_TYPE;
    /* 1.3 ignores the version (RFC 8446 5.1); it is authenticated. */
    if (!record_is_13(r) && (head[1] != 3 || head[2] != 3))
        return TLS_REASON_VERSION;
    /* RFC 8446 5.2 and 5.4, RFC 5246 6.2.1: content over 2^14 bytes, padding and type included. */
    if (len > TLS_RECORD_PLAIN_MAX + extra)
        return TLS_REASON_TOO_LONG;
    return len < shortest ? TLS_REASON_TOO_SHORT : TLS_REASON_NONE;
}

/* Decrypts the record at head, with `len` bytes behind its header, in place. True: it is authentic,
 * and *content is what was sealed. */
static bool decrypt(struct tls_record *r, struct tls_work *work, uint8_t *head, size_t len,
                    struct bytes *content)
{
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[RECORD_AAD_BYTES_MAX], tag[TLS_AEAD_TAG_BYTES];
    uint8_t *body = head + TLS_RECORD_HEAD_BYTES;
    *content = (struct bytes){body + record_explicit_bytes(r),
                              len - record_explicit_bytes(r) - TLS_AEAD_TAG_BYTES};
    record_nonce(nonce, r->read_iv, record_has_explicit(r) ? record_get_u64(body) : r->read_seq);
    size_t aad_len = record_aad(r, aad, head, r->read_seq, content->len);
    tls_aead_load(&work->open, (enum tls_aead)r->aead, record_read_key(r));
    tls_aead_start(&work->open, false, nonce, aad, aad_len);
    tls_aead_crypt(&work->open, content->ptr, content->len);
    tls_aead_tag(&work->open, tag);
    if (likely(tls_aead_is_same(tag, content->ptr + content->len)))
        return true;
    explicit_bzero(content->ptr, content->len);
    return false;
}

/* 1.3: takes padding and type off the end of *content (RFC 8446 5.4). Returns the type,
 * RECORD_TYPE_NONE when there is nothing but padding. */
static uint8_t strip_padding(struct bytes *content)
{
    const uint8_t *p = content->ptr;
    size_t n = content->len;
    while (n >= sizeof(uint64_t) && record_get_u64(p + n - sizeof(uint64_t)) == 0)
        n -= sizeof(uint64_t);
    while (n > 0 && p[n - 1] == 0)
        n--;
    content->len = n > 0 ? n - 1 : 0;
    return n > 0 ? p[n - 1] : RECORD_TYPE_NONE;
}

/* A record without data. */
static enum tls_record_status take_quiet(struct tls_record *r)
{
    return ++r->quiet > TLS_RECORD_QUIET_MAX ? record_fail(r, TLS_REASON_FLOOD) : RECORD_QUIET;
}

/* RFC 8446 6: whatever its level, an alert other than these two is fatal. RFC 5246 7.2: the level
 * decides. */
static enum tls_record_status take_alert(struct tls_record *r, struct bytes content)
{
    if (content.len != RECORD_ALERT_BYTES)
        return record_fail(r, content.len == 0 ? TLS_REASON_EMPTY : TLS_REASON_ALERT_FORM);
    uint8_t level = content.ptr[0], description = content.ptr[1];
    if (level != RECORD_ALERT_WARNING && level != RECORD_ALERT_FATAL)
        return record_fail(r, TLS_REASON_ALERT_LEVEL);
    if (description == RECORD_ALERT_CLOSE_NOTIFY) {
        r->bits |= RECORD_BIT_INPUT_CLOSED;
        return TLS_RECORD_CLOSED;
    }
    if (record_is_13(r) ? description == ALERT_USER_CANCELED : level == RECORD_ALERT_WARNING)
        return take_quiet(r);
    r->peer_alert = description;
    return record_fail(r, TLS_REASON_PEER_ALERT);
}

/* RFC 8446 4.6.3. A record must end with it, since the next one has another key (5.1), and here
 * must begin with it too. */
static enum tls_record_status take_key_update(struct tls_record *r, struct tls_work *work,
                                              struct bytes content)
{
    static const uint8_t head[] = {RECORD_MESSAGE_KEY_UPDATE, 0, 0, 1};
    struct record_keys next;

    if (content.len < RECORD_UPDATE_BYTES || memcmp(content.ptr, head, sizeof head) != 0)
        return record_fail(r, TLS_REASON_UPDATE_FORM);
    if (content.len > RECORD_UPDATE_BYTES)
        return record_fail(r, TLS_REASON_UPDATE_TAIL);
    if (content.ptr[4] > 1)
        return record_fail(r, TLS_REASON_UPDATE_VALUE);
    if (take_quiet(r) == TLS_RECORD_FAILED)
        return TLS_RECORD_FAILED;
    record_next_keys(r, record_read_secret(r), &next);
    record_install_keys(r, &work->open, &next, record_read_secret(r), record_read_key(r),
                        r->read_iv);
    r->read_seq = 0;
    if (content.ptr[4] == 1 && !PLANTED(PLANT_TLS_KEEP_KEYS))
        r->bits |= RECORD_BIT_UPDATE_DUE;
    return RECORD_QUIET;
}

/* Whether a message of the peer is cut. */
static bool is_ticket_cut(const struct tls_record *r)
{
    return record_is_13(r) && (r->ticket_left > 0 || r->message_head_len > 0);
}

/* 1.3, client: NewSessionTickets (RFC 8446 4.6.1), one or more or a part of one. They are not used.
 */
static enum tls_record_status take_tickets(struct tls_record *r, struct bytes content)
{
    while (content.len > 0) {
        size_t n = min_size(content.len, r->ticket_left);
        r->ticket_left -= (uint32_t)n;
        content.ptr += n;
        content.len -= n;
        if (content.len == 0)
            break;
        if (r->message_head_len < sizeof r->message_head) {
            r->message_head[r->message_head_len++] = *content.ptr;
        } else {
            r->ticket_left =
                (uint32_t)r->message_head[1] << 16 | r->message_head[2] << 8 | *content.ptr;
            r->message_head_len = 0;
        }
        content.ptr++;
        content.len--;
        if (r->message_head_len > 0 && r->message_head[0] != MESSAGE_TICKET)
            return record_fail(r, TLS_REASON_HANDSHAKE);
    }
    return take_quiet(r);
}

static enum tls_record_status take_handshake(struct tls_record *r, struct tls_work *work,
                                             struct bytes content)
{
    if (content.len == 0)
        return record_fail(r, TLS_REASON_EMPTY);
    bool is_client = (r->bits & RECORD_BIT_CLIENT) != 0;
    uint8_t message = content.ptr[0];
    if (!record_is_13(r)) {
        bool again = message == (is_client ? MESSAGE_HELLO_REQUEST : MESSAGE_CLIENT_HELLO);
        return record_fail(r, again ? TLS_REASON_RENEGOTIATION : TLS_REASON_HANDSHAKE);
    }
    if (message == RECORD_MESSAGE_KEY_UPDATE && !is_ticket_cut(r))
        return take_key_update(r, work, content);
    return is_client ? take_tickets(r, content) : record_fail(r, TLS_REASON_HANDSHAKE);
}

/* An authentic record. */
static enum tls_record_status take_content(struct tls_record *r, struct tls_work *work,
                                           uint8_t type, struct bytes content,
                                           struct tls_piece *piece)
{
    if (unlikely(type != RECORD_TYPE_HANDSHAKE && is_ticket_cut(r)))
        return record_fail(r, TLS_REASON_INTERLEAVED);
    switch (type) {
    case RECORD_TYPE_DATA:
        if (content.len == 0)
            return take_quiet(r);
        r->quiet = 0;
        piece->data = content;
        return TLS_RECORD_DATA;
    case RECORD_TYPE_ALERT:
        return take_alert(r, content);
    case RECORD_TYPE_HANDSHAKE:
        return take_handshake(r, work, content);
    default:
        return record_fail(r, type == RECORD_TYPE_NONE ? TLS_REASON_NO_TYPE : TLS_REASON_TYPE);
    }
}

/* A peer that has sealed twice what it should have under one key is asked for another. */
static void count_opened(struct tls_record *r)
{
    r->read_seq++;
    if (unlikely(r->read_seq == 2 * record_key_limit(r)))
        tls_record_update(r, true);
}

/* Deals with the record that *in begins with, if it is whole. */
static enum tls_record_status open_record(struct tls_record *r, struct tls_work *work,
                                          struct bytes *in, struct tls_piece *piece)
{
    uint8_t *head = in->ptr;
    struct bytes content;

    if (in->len < TLS_RECORD_HEAD_BYTES) {
        piece->record_bytes = in->len > 0 ? TLS_RECORD_HEAD_BYTES : 0;
        return TLS_RECORD_NEED_MORE;
    }
    size_t len = (size_t)head[3] << 8 | head[4];
    enum tls_reason reason = check_head(r, head, len);
    if (unlikely(reason != TLS_REASON_NONE))
        return record_fail(r, reason);
    if (in->len < TLS_RECORD_HEAD_BYTES + len) {
        piece->record_bytes = TLS_RECORD_HEAD_BYTES + len;
        return TLS_RECORD_NEED_MORE;
    }
    if (unlikely(r->read_seq == UINT64_MAX))
        return record_fail(r, TLS_REASON_SEQUENCE);
    if (unlikely(!decrypt(r, work, head, len, &content)))
        return record_fail(r, TLS_REASON_BAD_TAG);
    in->ptr += TLS_RECORD_HEAD_BYTES + len;
    in->len -= TLS_RECORD_HEAD_BYTES + len;
    count_opened(r);
    uint8_t type = record_is_13(r) ? strip_padding(&content) : head[0];
    return take_content(r, work, type, content, piece);
}

enum tls_record_status tls_record_open(struct tls_record *r, struct tls_work *work,
                                       struct bytes *in, struct tls_piece *piece)
{
    enum tls_record_status st;

    *piece = (struct tls_piece){0};
    if (unlikely(r->reason != TLS_REASON_NONE))
        st = TLS_RECORD_FAILED;
    else if (unlikely((r->bits & RECORD_BIT_INPUT_CLOSED) != 0))
        st = TLS_RECORD_CLOSED;
    else
        while ((st = open_record(r, work, in, piece)) == RECORD_QUIET)
            ;
    if (unlikely(st == TLS_RECORD_CLOSED || st == TLS_RECORD_FAILED)) {
        in->ptr += in->len; /* RFC 8446 6.1: what follows a closure is ignored */
        in->len = 0;
    }
    return st;
}
