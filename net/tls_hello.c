/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* ClientHellos, as far as the choice of a certificate needs them. Any thread. */

#include "net/tls_hello.h"

#include <string.h>

#define RECORD_HEAD 5
#define RECORD_HANDSHAKE 22
#define RECORD_PLAIN_MAX 16384 /* RFC 8446 5.1 */
#define MESSAGE_HEAD 4
#define CLIENT_HELLO 1
#define VERSION_1_3 0x0304
#define STATUS_OCSP 1

enum extension {
    EXT_SERVER_NAME = 0,
    EXT_STATUS = 5,
    EXT_GROUPS = 10,
    EXT_SIGNATURES = 13,
    EXT_STATUS_V2 = 17,
    EXT_VERSIONS = 43,
    EXT_SHARES = 51,
};

/* A part of the message. What reads beyond it fails for good. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static uint32_t read_number(struct reader *r, size_t bytes)
{
    uint32_t n = 0;

    if ((size_t)(r->end - r->at) < bytes) {
        r->bad = true;
        r->at = r->end;
        return 0;
    }
    while (bytes-- > 0)
        n = n << 8 | *r->at++;
    return n;
}

/* The next vector, whose length stands before it in `bytes` bytes. */
static struct reader read_vector(struct reader *r, size_t bytes)
{
    size_t len = read_number(r, bytes);
    struct reader v = {r->at, r->at, r->bad};

    if ((size_t)(r->end - r->at) < len) {
        r->bad = v.bad = true;
        return v;
    }
    r->at += len;
    v.end = r->at;
    return v;
}

/* RFC 6066 3: one name, of type host_name. */
static void read_server_name(struct reader ext, struct tls_hello *out)
{
    struct reader list = read_vector(&ext, 2);

    while (list.at < list.end) {
        uint32_t type = read_number(&list, 1);
        struct reader name = read_vector(&list, 2);

        if (list.bad || type != 0)
            continue;
        out->server_name = (const char *)name.at;
        out->server_name_len = (size_t)(name.end - name.at);
        return;
    }
}

static bool offers_13(struct reader ext)
{
    struct reader list = read_vector(&ext, 1);

    while (list.end - list.at >= 2) {
        if (read_number(&list, 2) == VERSION_1_3)
            return true;
    }
    return false;
}

/* RFC 8446 4.2.3: the low byte is the kind of signature in 1.2, and in most of 1.3's. */
static void read_signatures(struct reader ext, bool *ecdsa, bool *rsa)
{
    struct reader list = read_vector(&ext, 2);

    while (list.end - list.at >= 2) {
        uint32_t scheme = read_number(&list, 2);

        *ecdsa |= (scheme & 0xff) == 3 || scheme == 0x0807 || scheme == 0x0808;
        *rsa |= (scheme & 0xff) == 1 || (scheme >= 0x0804 && scheme <= 0x0806);
    }
}

/* The better of a group that a client names (RFC 8446 4.2.7) and what was found so far. */
static uint8_t better_group(uint8_t best, uint32_t named)
{
    static const uint16_t groups[TLS_GROUP_COUNT] = {
        [TLS_GROUP_X25519] = 0x001d, [TLS_GROUP_P256] = 0x0017, [TLS_GROUP_P384] = 0x0018};

    for (uint8_t i = 0; i < best; i++) {
        if (groups[i] == named)
            return i;
    }
    return best;
}

/* RFC 8446 4.2.7. TLS_GROUP_COUNT: none that we have. */
static uint8_t read_groups(struct reader ext)
{
    struct reader list = read_vector(&ext, 2);
    uint8_t best = TLS_GROUP_COUNT;

    while (list.end - list.at >= 2)
        best = better_group(best, read_number(&list, 2));
    return best;
}

/* RFC 8446 4.2.8: who has sent a share needs no second ClientHello. */
static uint8_t read_shares(struct reader ext)
{
    struct reader list = read_vector(&ext, 2);
    uint8_t best = TLS_GROUP_COUNT;

    while (list.end - list.at >= 4) {
        best = better_group(best, read_number(&list, 2));
        read_vector(&list, 2);
    }
    return best;
}

/* Which certificates the suites of TLS 1.2 allow, of those that we have (RFC 5289, RFC 7905). */
static void read_suites(struct reader list, bool *ecdsa, bool *rsa)
{
    while (list.end - list.at >= 2) {
        uint32_t suite = read_number(&list, 2);

        *ecdsa |= suite == 0xc02b || suite == 0xc02c || suite == 0xcca9;
        *rsa |= suite == 0xc02f || suite == 0xc030 || suite == 0xcca8;
    }
}

static bool read_message(struct reader r, struct tls_hello *out)
{
    bool suite_ecdsa = false, suite_rsa = false, has_signatures = false, has_status_v2 = false;
    uint8_t named = TLS_GROUP_COUNT, shared = TLS_GROUP_COUNT;
    struct reader suites, extensions;

    read_number(&r, 2); /* legacy_version */
    for (int i = 0; i < 8; i++)
        read_number(&r, 4); /* random */
    read_vector(&r, 1);     /* legacy_session_id */
    suites = read_vector(&r, 2);
    read_vector(&r, 1); /* compression methods */
    if (r.bad)
        return false;
    read_suites(suites, &suite_ecdsa, &suite_rsa);
    if (r.at < r.end) {
        extensions = read_vector(&r, 2);
        while (extensions.at < extensions.end) {
            uint32_t type = read_number(&extensions, 2);
            struct reader ext = read_vector(&extensions, 2);

            if (type == EXT_SERVER_NAME)
                read_server_name(ext, out);
            else if (type == EXT_VERSIONS)
                out->is_13 = offers_13(ext);
            else if (type == EXT_GROUPS)
                named = read_groups(ext);
            else if (type == EXT_SHARES)
                shared = read_shares(ext);
            else if (type == EXT_SIGNATURES)
                read_signatures(ext, &out->can_ecdsa, &out->can_rsa);
            else if (type == EXT_STATUS)
                out->wants_staple = read_number(&ext, 1) == STATUS_OCSP;
            has_signatures |= type == EXT_SIGNATURES;
            has_status_v2 |= type == EXT_STATUS_V2;
        }
        if (extensions.bad)
            return false;
    }
    if (!out->is_13) { /* the suite names the kind of certificate as well */
        out->can_ecdsa = suite_ecdsa && (out->can_ecdsa || !has_signatures);
        out->can_rsa = suite_rsa && (out->can_rsa || !has_signatures);
    }
    if (named == TLS_GROUP_COUNT)
        named = TLS_GROUP_P256; /* RFC 8422 4: who names none takes any */
    out->wants_staple &= !has_status_v2;
    out->group = out->is_13 && shared != TLS_GROUP_COUNT ? shared : named;
    return !r.bad;
}

/* RFC 9110 9.1: methods are upper-case words. */
static bool looks_like_http(const uint8_t *p, size_t len)
{
    size_t n = min_size(len, 4);

    for (size_t i = 0; i < n; i++) {
        if ((p[i] < 'A' || p[i] > 'Z') && !(i > 0 && p[i] == ' '))
            return false;
    }
    return true;
}

/* Length of the record at p, its head included; 0: its head is cut; -1: no record of a handshake.
 */
static int record_at(const uint8_t *p, size_t len)
{
    if ((len > 0 && p[0] != RECORD_HANDSHAKE) || (len > 1 && p[1] != 3))
        return -1;
    if (len < RECORD_HEAD)
        return 0;
    if (p[3] == 0 && p[4] == 0) /* RFC 8446 5.1: no empty fragments of handshake messages */
        return -1;
    if ((p[3] << 8 | p[4]) > RECORD_PLAIN_MAX)
        return -1;
    return RECORD_HEAD + (p[3] << 8 | p[4]);
}

/* Of a record that is cut, with `have` bytes of it there, and of the message's `need` bytes: those
 * of the record, and those of the message that it does not hold. */
static size_t missing(int record, size_t have, size_t need)
{
    size_t whole = record == 0 ? RECORD_HEAD + 1 : (size_t)record;
    size_t body = whole - RECORD_HEAD;

    return whole - have + (need > body ? need - body : 0);
}

/* Joins the fragments of a message of `need` bytes; *used are those of the input that it took, or
 * for MORE what is missing at the least. */
static enum tls_hello_result join(const uint8_t *p, size_t len, uint8_t *out, size_t need,
                                  size_t *used)
{
    size_t have = 0;

    *used = 0;
    while (have < need) {
        int record = record_at(p + *used, len - *used);
        size_t take;

        if (record < 0)
            return TLS_HELLO_BAD;
        if (record == 0 || (size_t)record > len - *used) {
            *used = missing(record, len - *used, need - have);
            return TLS_HELLO_MORE;
        }
        take = min_size((size_t)record - RECORD_HEAD, need - have);
        memcpy(out + have, p + *used + RECORD_HEAD, take);
        have += take;
        *used += (size_t)record;
    }
    return TLS_HELLO_OK;
}

/* The message that begins with the first record, and how it lies. */
static enum tls_hello_result find_message(const uint8_t *p, size_t len, uint8_t *scratch,
                                          struct reader *message, struct tls_hello *out)
{
    uint8_t head[MESSAGE_HEAD];
    size_t need, first;
    enum tls_hello_result r = join(p, len, head, MESSAGE_HEAD, &need);

    if (r != TLS_HELLO_OK) {
        out->missing = need;
        return r;
    }
    need = MESSAGE_HEAD + ((size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]);
    if (head[0] != CLIENT_HELLO)
        return TLS_HELLO_BAD;
    if (need > RECORD_PLAIN_MAX)
        return TLS_HELLO_TOO_LONG;
    first = (size_t)record_at(p, len);
    if (need <= first - RECORD_HEAD) {
        *message = (struct reader){p + RECORD_HEAD + MESSAGE_HEAD, p + RECORD_HEAD + need, false};
        out->record_bytes = first;
        return TLS_HELLO_OK;
    }
    memcpy(scratch, p, 3);
    scratch[3] = (uint8_t)(need >> 8);
    scratch[4] = (uint8_t)need;
    r = join(p, len, scratch + RECORD_HEAD, need, &out->record_bytes);
    out->missing = out->record_bytes;
    out->joined = (struct bytes){scratch, RECORD_HEAD + need};
    *message =
        (struct reader){scratch + RECORD_HEAD + MESSAGE_HEAD, scratch + RECORD_HEAD + need, false};
    return r;
}

enum tls_hello_result tls_hello_parse(const uint8_t *p, size_t len, uint8_t *scratch,
                                      struct tls_hello *out)
{
    struct reader message;
    enum tls_hello_result r;

    *out = (struct tls_hello){0};
    if (len == 0)
        return TLS_HELLO_MORE;
    if (record_at(p, len) < 0)
        return p[0] == RECORD_HANDSHAKE   ? TLS_HELLO_BAD
               : !looks_like_http(p, len) ? TLS_HELLO_NOT_TLS
               : len < 4                  ? TLS_HELLO_MORE
                                          : TLS_HELLO_HTTP;
    r = find_message(p, len, scratch, &message, out);
    if (r == TLS_HELLO_MORE && len >= TLS_HELLO_BYTES_MAX)
        return TLS_HELLO_TOO_LONG;
    if (r != TLS_HELLO_OK)
        return r;
    return read_message(message, out) ? TLS_HELLO_OK : TLS_HELLO_BAD;
}
