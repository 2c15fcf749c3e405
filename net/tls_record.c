/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The record layer. Opening: header, then AEAD in place, then by content type. Sealing: gather in
 * chunks that stay in the first cache level, and encrypt each in place. No state but the caller's.
 */

#include "net/tls_record.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/types.h>

enum content_type {
    TYPE_NONE = 0, /* 1.3: only padding has it */
    TYPE_ALERT = 21,
    TYPE_HANDSHAKE = 22,
    TYPE_DATA = 23,
};

enum message_type {
    MESSAGE_HELLO_REQUEST = 0,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_TICKET = 4,
    MESSAGE_KEY_UPDATE = 24,
};

enum {
    BIT_TLS13 = 1,
    BIT_CLIENT = 2,
    BIT_INPUT_CLOSED = 4,
    BIT_OUTPUT_ENDED = 8,
    BIT_UPDATE_DUE = 16,    /* a KeyUpdate stands before our next data */
    BIT_UPDATE_REQUEST = 32 /* and asks for the peer's */
};

enum {
    EXPLICIT_NONCE_BYTES = 8,
    SECRET_BYTES_MAX = 48,
    GCM_SALT_BYTES = 4, /* the part of a 1.2 GCM nonce that is not explicit */
    AAD_12_BYTES = 13,
    UPDATE_BYTES = 5,
    ALERT_WARNING = 1,
    ALERT_FATAL = 2,
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_USER_CANCELED = 90,
    REKEY_LOG2_MAX = 62,
    /* Sealed piece by piece while it is in the first-level cache; a multiple of the block. */
    CHUNK_BYTES = 4096,
};

/* What one record leads to, beside what enum tls_record_status says: nothing that concerns the
 * caller. */
#define RECORD_QUIET ((enum tls_record_status)(TLS_RECORD_FAILED + 1))

static_assert(sizeof(struct tls_record) == 56, "the budget of an idle connection");
static_assert(CHUNK_BYTES % TLS_AEAD_BLOCK_BYTES == 0, "pieces are whole blocks");

/* The parts of the state ----------------------------------------------------------------------- */

static bool is_tls13(const struct tls_record *r)
{
    return (r->bits & BIT_TLS13) != 0;
}

static bool is_gcm(const struct tls_record *r)
{
    return r->aead != TLS_AEAD_CHACHA20_POLY1305;
}

/* 1.2 GCM records carry a part of their nonce. */
static bool has_explicit_nonce(const struct tls_record *r)
{
    return !is_tls13(r) && is_gcm(r);
}

static size_t key_bytes(const struct tls_record *r)
{
    return tls_aead_key_bytes((enum tls_aead)r->aead);
}

/* Of a traffic secret: the output of the suite's hash (RFC 8446 7.1, B.4). */
static size_t secret_bytes(enum tls_aead aead)
{
    return aead == TLS_AEAD_AES_256_GCM ? 48 : 32;
}

static uint8_t *read_key(struct tls_record *r)
{
    return r->keys;
}

static uint8_t *write_key(struct tls_record *r)
{
    return r->keys + key_bytes(r);
}

static uint8_t *read_secret(struct tls_record *r)
{
    return r->keys + 2 * key_bytes(r);
}

static uint8_t *write_secret(struct tls_record *r)
{
    return read_secret(r) + secret_bytes((enum tls_aead)r->aead);
}

/* Bytes between a record's header and its ciphertext. */
static size_t explicit_bytes(const struct tls_record *r)
{
    return has_explicit_nonce(r) ? EXPLICIT_NONCE_BYTES : 0;
}

/* What a record has beside its content. */
static size_t extra_bytes(const struct tls_record *r)
{
    size_t type = is_tls13(r) ? 1 : 0;
    return TLS_RECORD_HEAD_BYTES + explicit_bytes(r) + type + TLS_AEAD_TAG_BYTES;
}

static uint64_t key_limit(const struct tls_record *r)
{
    return UINT64_C(1) << r->rekey_log2;
}

size_t tls_record_bytes(enum tls_version version, enum tls_aead aead)
{
    size_t each = tls_aead_key_bytes(aead);
    if (version == TLS_VERSION_1_3)
        each += secret_bytes(aead);
    return sizeof(struct tls_record) + 2 * each;
}

size_t tls_record_state_bytes(const struct tls_record *r)
{
    return tls_record_bytes(is_tls13(r) ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
                            (enum tls_aead)r->aead);
}

/* Keys ----------------------------------------------------------------------------------------- */

/* HKDF-Expand-Label with an empty context (RFC 8446 7.1). 0, or not. */
static int expand_label(const struct tls_record *r, const uint8_t *secret, const char *label,
                        uint8_t *out, size_t out_len)
{
    static const uint8_t protocol[] = "tls13 ", none[1];
    int digest = r->aead == TLS_AEAD_AES_256_GCM ? WC_SHA384 : WC_SHA256;
    return wc_Tls13_HKDF_Expand_Label(
        out, (word32)out_len, secret, (word32)secret_bytes((enum tls_aead)r->aead), protocol,
        sizeof protocol - 1, (const uint8_t *)label, (word32)strlen(label), none, 0, digest);
}

/* Key and IV of a traffic secret (RFC 8446 7.3). */
static int derive_keys(const struct tls_record *r, const uint8_t *secret, uint8_t *key, uint8_t *iv)
{
    int err = expand_label(r, secret, "key", key, key_bytes(r));
    return err != 0 ? err : expand_label(r, secret, "iv", iv, TLS_AEAD_NONCE_BYTES);
}

/* The next generation of one direction's keys. */
struct next_keys {
    uint8_t secret[SECRET_BYTES_MAX];
    uint8_t key[TLS_AEAD_KEY_BYTES_MAX];
    uint8_t iv[TLS_AEAD_NONCE_BYTES];
};

/* RFC 8446 7.2. */
static int derive_next(const struct tls_record *r, const uint8_t *secret, struct next_keys *next)
{
    size_t len = secret_bytes((enum tls_aead)r->aead);
    int err = expand_label(r, secret, "traffic upd", next->secret, len);
    if (err == 0)
        err = derive_keys(r, next->secret, next->key, next->iv);
    if (err != 0)
        explicit_bzero(next, sizeof *next);
    return err;
}

/* Puts them in place, and wipes where they come from and what was expanded from the old ones. */
static void install(const struct tls_record *r, struct tls_aead_ctx *c, struct next_keys *next,
                    uint8_t *secret, uint8_t *key, uint8_t *iv)
{
    memcpy(secret, next->secret, secret_bytes((enum tls_aead)r->aead));
    memcpy(key, next->key, key_bytes(r));
    memcpy(iv, next->iv, TLS_AEAD_NONCE_BYTES);
    explicit_bzero(next, sizeof *next);
    tls_aead_wipe(c);
}

/* Whether a key and an IV are those of a secret. 0, -EKEYREJECTED or -ENOMEM. */
static int check_keys(const struct tls_record *r, const uint8_t *secret, const uint8_t *key,
                      const uint8_t *iv)
{
    uint8_t good_key[TLS_AEAD_KEY_BYTES_MAX], good_iv[TLS_AEAD_NONCE_BYTES];
    int err = derive_keys(r, secret, good_key, good_iv) != 0 ? -ENOMEM : 0;
    if (err == 0 && (memcmp(good_key, key, key_bytes(r)) != 0 ||
                     memcmp(good_iv, iv, TLS_AEAD_NONCE_BYTES) != 0))
        err = -EKEYREJECTED;
    explicit_bzero(good_key, sizeof good_key);
    explicit_bzero(good_iv, sizeof good_iv);
    return err;
}

/* Life ----------------------------------------------------------------------------------------- */

static bool is_params_good(const struct tls_record_params *p)
{
    return (p->version == TLS_VERSION_1_2 || p->version == TLS_VERSION_1_3) &&
           p->aead < TLS_AEAD_COUNT && p->fragment_max <= TLS_RECORD_PLAIN_MAX &&
           p->rekey_log2 <= REKEY_LOG2_MAX;
}

static uint8_t rekey_log2_of(const struct tls_record_params *p)
{
    if (p->rekey_log2 != 0)
        return p->rekey_log2;
    /* ChaCha20-Poly1305 outlasts the sequence numbers (RFC 8446 5.5). */
    return p->aead == TLS_AEAD_CHACHA20_POLY1305 ? REKEY_LOG2_MAX : TLS_RECORD_REKEY_LOG2;
}

static void copy_keys(struct tls_record *r, const struct tls_record_params *p)
{
    size_t iv_len = has_explicit_nonce(r) ? GCM_SALT_BYTES : TLS_AEAD_NONCE_BYTES;
    memcpy(r->read_iv, p->read_iv, iv_len);
    memcpy(r->write_iv, p->write_iv, iv_len);
    memcpy(read_key(r), p->read_key, key_bytes(r));
    memcpy(write_key(r), p->write_key, key_bytes(r));
    if (!is_tls13(r))
        return;
    memcpy(read_secret(r), p->read_secret, secret_bytes(p->aead));
    memcpy(write_secret(r), p->write_secret, secret_bytes(p->aead));
}

int tls_record_init(struct tls_record *r, const struct tls_record_params *p)
{
    if (!is_params_good(p))
        return -EINVAL;
    memset(r, 0, sizeof *r);
    r->read_seq = p->read_seq;
    r->write_seq = p->write_seq;
    r->aead = (uint8_t)p->aead;
    r->bits = (uint8_t)((p->version == TLS_VERSION_1_3 ? BIT_TLS13 : 0) |
                        (p->is_client ? BIT_CLIENT : 0));
    r->fragment_max = p->fragment_max != 0 ? p->fragment_max : TLS_RECORD_PLAIN_MAX;
    r->rekey_log2 = rekey_log2_of(p);
    if (has_explicit_nonce(r))
        r->explicit_base = p->explicit_nonce - p->write_seq;
    copy_keys(r, p);
    if (!is_tls13(r))
        return 0;
    int err = check_keys(r, read_secret(r), read_key(r), r->read_iv);
    if (err == 0)
        err = check_keys(r, write_secret(r), write_key(r), r->write_iv);
    if (err != 0)
        explicit_bzero(r, tls_record_state_bytes(r));
    return err;
}

void tls_work_wipe(struct tls_work *work)
{
    tls_aead_wipe(&work->open);
    tls_aead_wipe(&work->seal);
}

void tls_record_wipe(struct tls_record *r, struct tls_work *work)
{
    if (tls_aead_has(&work->open, (enum tls_aead)r->aead, read_key(r)))
        tls_aead_wipe(&work->open);
    if (tls_aead_has(&work->seal, (enum tls_aead)r->aead, write_key(r)))
        tls_aead_wipe(&work->seal);
    explicit_bzero(r, tls_record_state_bytes(r));
}

/* What both directions need -------------------------------------------------------------------- */

static enum tls_record_status fail(struct tls_record *r, enum tls_reason reason)
{
    r->reason = (uint8_t)reason;
    return TLS_RECORD_FAILED;
}

static void put_u16(uint8_t *p, size_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put_u64(uint8_t *p, uint64_t value)
{
    uint64_t big_endian = htobe64(value);
    memcpy(p, &big_endian, sizeof big_endian);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t big_endian;
    memcpy(&big_endian, p, sizeof big_endian);
    return be64toh(big_endian);
}

/* RFC 8446 5.3, RFC 7905 2: the IV with the sequence number upon its end. 1.2 GCM (RFC 5288 3) puts
 * the explicit nonce there, where read_iv and write_iv are 0. */
static void make_nonce(uint8_t nonce[TLS_AEAD_NONCE_BYTES], const uint8_t *iv, uint64_t counter)
{
    memcpy(nonce, iv, 4);
    put_u64(nonce + 4, get_u64(iv + 4) ^ counter);
}

/* What is authenticated beside the content: in 1.3 the header as it is sent (RFC 8446 5.2), in 1.2
 * sequence number, type, version and length of the content (RFC 5246 6.2.3.3). Returns its length.
 */
static size_t make_aad(const struct tls_record *r, uint8_t aad[AAD_12_BYTES], const uint8_t *head,
                       uint64_t seq, size_t content_len)
{
    if (is_tls13(r)) {
        memcpy(aad, head, TLS_RECORD_HEAD_BYTES);
        return TLS_RECORD_HEAD_BYTES;
    }
    put_u64(aad, seq);
    memcpy(aad + 8, head, 3);
    put_u16(aad + 11, content_len);
    return AAD_12_BYTES;
}

/* Opening -------------------------------------------------------------------------------------- */

/* Judges a record by its header. */
static enum tls_reason check_head(const struct tls_record *r, const uint8_t *head, size_t len)
{
    size_t extra = extra_bytes(r) - TLS_RECORD_HEAD_BYTES;
    size_t shortest = is_tls13(r) ? extra - 1 : extra; /* without a type: authentic, but wrong */
    bool is_known = head[0] >= TYPE_ALERT && head[0] <= TYPE_DATA;
    if (is_tls13(r) ? head[0] != TYPE_DATA : !is_known)
        return TLS_REASON_TYPE;
    /* 1.3 ignores the version (RFC 8446 5.1); it is authenticated. */
    if (!is_tls13(r) && (head[1] != 3 || head[2] != 3))
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
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[AAD_12_BYTES], tag[TLS_AEAD_TAG_BYTES];
    uint8_t *body = head + TLS_RECORD_HEAD_BYTES;
    *content =
        (struct bytes){body + explicit_bytes(r), len - explicit_bytes(r) - TLS_AEAD_TAG_BYTES};
    make_nonce(nonce, r->read_iv, has_explicit_nonce(r) ? get_u64(body) : r->read_seq);
    size_t aad_len = make_aad(r, aad, head, r->read_seq, content->len);
    tls_aead_load(&work->open, (enum tls_aead)r->aead, read_key(r));
    tls_aead_start(&work->open, false, nonce, aad, aad_len);
    tls_aead_crypt(&work->open, content->ptr, content->len);
    tls_aead_tag(&work->open, tag);
    if (likely(tls_aead_is_same(tag, content->ptr + content->len)))
        return true;
    explicit_bzero(content->ptr, content->len);
    return false;
}

/* 1.3: takes padding and type off the end of *content (RFC 8446 5.4). Returns the type, TYPE_NONE
 * when there is nothing but padding. */
static uint8_t strip_padding(struct bytes *content)
{
    const uint8_t *p = content->ptr;
    size_t n = content->len;
    while (n >= sizeof(uint64_t) && get_u64(p + n - sizeof(uint64_t)) == 0)
        n -= sizeof(uint64_t);
    while (n > 0 && p[n - 1] == 0)
        n--;
    content->len = n > 0 ? n - 1 : 0;
    return n > 0 ? p[n - 1] : TYPE_NONE;
}

/* A record without data. */
static enum tls_record_status take_quiet(struct tls_record *r)
{
    return ++r->quiet > TLS_RECORD_QUIET_MAX ? fail(r, TLS_REASON_FLOOD) : RECORD_QUIET;
}

/* RFC 8446 6: whatever its level, an alert other than these two is fatal. RFC 5246 7.2: the level
 * decides. */
static enum tls_record_status take_alert(struct tls_record *r, struct bytes content)
{
    if (content.len != 2)
        return fail(r, content.len == 0 ? TLS_REASON_EMPTY : TLS_REASON_ALERT_FORM);
    uint8_t level = content.ptr[0], description = content.ptr[1];
    if (level != ALERT_WARNING && level != ALERT_FATAL)
        return fail(r, TLS_REASON_ALERT_LEVEL);
    if (description == ALERT_CLOSE_NOTIFY) {
        r->bits |= BIT_INPUT_CLOSED;
        return TLS_RECORD_CLOSED;
    }
    if (is_tls13(r) ? description == ALERT_USER_CANCELED : level == ALERT_WARNING)
        return take_quiet(r);
    r->peer_alert = description;
    return fail(r, TLS_REASON_PEER_ALERT);
}

/* RFC 8446 4.6.3. A record must end with it, since the next one has another key (5.1), and here
 * must begin with it too. */
static enum tls_record_status take_key_update(struct tls_record *r, struct tls_work *work,
                                              struct bytes content)
{
    static const uint8_t head[] = {MESSAGE_KEY_UPDATE, 0, 0, 1};
    struct next_keys next;

    if (content.len < UPDATE_BYTES || memcmp(content.ptr, head, sizeof head) != 0)
        return fail(r, TLS_REASON_UPDATE_FORM);
    if (content.len > UPDATE_BYTES)
        return fail(r, TLS_REASON_UPDATE_TAIL);
    if (content.ptr[4] > 1)
        return fail(r, TLS_REASON_UPDATE_VALUE);
    if (take_quiet(r) == TLS_RECORD_FAILED)
        return TLS_RECORD_FAILED;
    if (derive_next(r, read_secret(r), &next) != 0)
        return fail(r, TLS_REASON_DERIVE);
    install(r, &work->open, &next, read_secret(r), read_key(r), r->read_iv);
    r->read_seq = 0;
    if (content.ptr[4] == 1)
        r->bits |= BIT_UPDATE_DUE;
    return RECORD_QUIET;
}

/* Whether a message of the peer is cut. */
static bool is_ticket_cut(const struct tls_record *r)
{
    return is_tls13(r) && (r->ticket_left > 0 || r->message_head_len > 0);
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
            return fail(r, TLS_REASON_HANDSHAKE);
    }
    return take_quiet(r);
}

static enum tls_record_status take_handshake(struct tls_record *r, struct tls_work *work,
                                             struct bytes content)
{
    if (content.len == 0)
        return fail(r, TLS_REASON_EMPTY);
    bool is_client = (r->bits & BIT_CLIENT) != 0;
    uint8_t message = content.ptr[0];
    if (!is_tls13(r)) {
        bool again = message == (is_client ? MESSAGE_HELLO_REQUEST : MESSAGE_CLIENT_HELLO);
        return fail(r, again ? TLS_REASON_RENEGOTIATION : TLS_REASON_HANDSHAKE);
    }
    if (message == MESSAGE_KEY_UPDATE && !is_ticket_cut(r))
        return take_key_update(r, work, content);
    return is_client ? take_tickets(r, content) : fail(r, TLS_REASON_HANDSHAKE);
}

/* An authentic record. */
static enum tls_record_status take_content(struct tls_record *r, struct tls_work *work,
                                           uint8_t type, struct bytes content,
                                           struct tls_piece *piece)
{
    if (unlikely(type != TYPE_HANDSHAKE && is_ticket_cut(r)))
        return fail(r, TLS_REASON_INTERLEAVED);
    switch (type) {
    case TYPE_DATA:
        if (content.len == 0)
            return take_quiet(r);
        r->quiet = 0;
        piece->data = content;
        return TLS_RECORD_DATA;
    case TYPE_ALERT:
        return take_alert(r, content);
    case TYPE_HANDSHAKE:
        return take_handshake(r, work, content);
    default:
        return fail(r, type == TYPE_NONE ? TLS_REASON_NO_TYPE : TLS_REASON_TYPE);
    }
}

/* A peer that has sealed twice what it should have under one key is asked for another. */
static void count_opened(struct tls_record *r)
{
    r->read_seq++;
    if (unlikely(r->read_seq == 2 * key_limit(r)))
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
        return fail(r, reason);
    if (in->len < TLS_RECORD_HEAD_BYTES + len) {
        piece->record_bytes = TLS_RECORD_HEAD_BYTES + len;
        return TLS_RECORD_NEED_MORE;
    }
    if (unlikely(r->read_seq == UINT64_MAX))
        return fail(r, TLS_REASON_SEQUENCE);
    if (unlikely(!decrypt(r, work, head, len, &content)))
        return fail(r, TLS_REASON_BAD_TAG);
    in->ptr += TLS_RECORD_HEAD_BYTES + len;
    in->len -= TLS_RECORD_HEAD_BYTES + len;
    count_opened(r);
    uint8_t type = is_tls13(r) ? strip_padding(&content) : head[0];
    return take_content(r, work, type, content, piece);
}

enum tls_record_status tls_record_open(struct tls_record *r, struct tls_work *work,
                                       struct bytes *in, struct tls_piece *piece)
{
    enum tls_record_status st;

    *piece = (struct tls_piece){0};
    if (unlikely(r->reason != TLS_REASON_NONE))
        st = TLS_RECORD_FAILED;
    else if (unlikely((r->bits & BIT_INPUT_CLOSED) != 0))
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

/* Sealing -------------------------------------------------------------------------------------- */

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
    size_t total = len + (is_tls13(r) ? 1 : 0);
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
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[AAD_12_BYTES];
    uint8_t *body = out + TLS_RECORD_HEAD_BYTES;
    size_t record_len = extra_bytes(r) + len;
    uint64_t counter = r->write_seq;

    out[0] = is_tls13(r) ? TYPE_DATA : type;
    out[1] = 3;
    out[2] = 3;
    put_u16(out + 3, record_len - TLS_RECORD_HEAD_BYTES);
    if (has_explicit_nonce(r)) {
        counter += r->explicit_base;
        put_u64(body, counter);
        body += EXPLICIT_NONCE_BYTES;
    }
    make_nonce(nonce, r->write_iv, counter);
    size_t aad_len = make_aad(r, aad, out, r->write_seq, len);
    tls_aead_load(&work->seal, (enum tls_aead)r->aead, write_key(r));
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

/* The KeyUpdate that is due: the last record under its key. Returns 0 when the next key can't be
 * derived. */
static size_t seal_key_update(struct tls_record *r, struct tls_work *work, uint8_t *out)
{
    uint8_t message[UPDATE_BYTES] = {MESSAGE_KEY_UPDATE, 0, 0, 1,
                                     (r->bits & BIT_UPDATE_REQUEST) != 0};
    struct next_keys next;

    if (derive_next(r, write_secret(r), &next) != 0) {
        fail(r, TLS_REASON_DERIVE);
        return 0;
    }
    size_t n = seal_message(r, work, TYPE_HANDSHAKE, message, sizeof message, out);
    install(r, &work->seal, &next, write_secret(r), write_key(r), r->write_iv);
    r->write_seq = 0;
    r->bits &= (uint8_t) ~(BIT_UPDATE_DUE | BIT_UPDATE_REQUEST);
    return n;
}

/* Whether our key may seal another record with data. */
static bool check_key_limit(struct tls_record *r)
{
    if (likely(r->write_seq < key_limit(r)))
        return true;
    if (is_tls13(r))
        r->bits |= BIT_UPDATE_DUE;
    else if (r->write_seq >= 2 * key_limit(r))
        fail(r, TLS_REASON_KEY_LIMIT);
    return r->reason == TLS_REASON_NONE;
}

size_t tls_record_seal(struct tls_record *r, struct tls_work *work, struct tls_source *src,
                       size_t plain_max, uint8_t *out, size_t room)
{
    size_t written = 0;

    if (!tls_record_is_writable(r) || !check_key_limit(r))
        return 0;
    if (unlikely((r->bits & BIT_UPDATE_DUE) != 0)) {
        if (room < TLS_RECORD_UPDATE_BYTES)
            return 0;
        written = seal_key_update(r, work, out);
        if (written == 0)
            return 0;
    }
    skip_empty(src);
    size_t space = room - written, extra = extra_bytes(r);
    if (src->count == 0 || plain_max == 0 || space <= extra)
        return written;
    size_t most = min_size(min_size(plain_max, r->fragment_max), space - extra);
    size_t len = source_bytes(src, most);
    return written + seal_record(r, work, TYPE_DATA, src, len, out + written);
}

size_t tls_record_seal_end(struct tls_record *r, struct tls_work *work, uint8_t *out)
{
    int alert = r->reason == TLS_REASON_NONE ? ALERT_CLOSE_NOTIFY
                                             : tls_reason_alert((enum tls_reason)r->reason);
    bool is_mute = (r->bits & BIT_OUTPUT_ENDED) != 0 || alert < 0;
    uint8_t message[2] = {alert == ALERT_CLOSE_NOTIFY ? ALERT_WARNING : ALERT_FATAL,
                          (uint8_t)alert};
    r->bits |= BIT_OUTPUT_ENDED;
    return is_mute ? 0 : seal_message(r, work, TYPE_ALERT, message, sizeof message, out);
}

void tls_record_update(struct tls_record *r, bool request)
{
    if (is_tls13(r))
        r->bits |= BIT_UPDATE_DUE | (request ? BIT_UPDATE_REQUEST : 0);
}

bool tls_record_is_update_due(const struct tls_record *r)
{
    return (r->bits & BIT_UPDATE_DUE) != 0 && tls_record_is_writable(r);
}

bool tls_record_is_worn(const struct tls_record *r)
{
    return !is_tls13(r) && max_u64(r->read_seq, r->write_seq) >= key_limit(r);
}

bool tls_record_is_writable(const struct tls_record *r)
{
    return r->reason == TLS_REASON_NONE && (r->bits & BIT_OUTPUT_ENDED) == 0;
}

/* Reasons -------------------------------------------------------------------------------------- */

static const struct {
    int alert;
    const char *label;
    const char *text;
} reasons[TLS_REASON_COUNT] = {
#define X(id, alert, label, text) {alert, label, text},
    TLS_RECORD_REASONS(X)
#undef X
};

int tls_reason_alert(enum tls_reason reason)
{
    return reasons[reason].alert;
}

const char *tls_reason_label(enum tls_reason reason)
{
    return reasons[reason].label;
}

const char *tls_reason_text(enum tls_reason reason)
{
    return reasons[reason].text;
}
