/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* TLS records. The input is a program for the peer, which has the keys: it seals data, any content
 * of any type, KeyUpdates, and then harms the stream. What holds of the layer that opens it:
 *
 *  - the stream gives the same plaintext, status, reason and state however it is cut;
 *  - what comes out is a prefix of what the peer has sealed as data, whatever was done to the
 * stream;
 *  - a cut record is announced with a length that is more than what is there, and bounded;
 *  - what it seals, gathered from any spans, the peer opens to the same; after a failure it seals
 *    nothing but the alert of the reason, which the peer understands. */

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/types.h>

#include "net/tls_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    STREAM_MAX = 96 * 1024,
    STATE_MAX = 216,
};

struct input {
    const uint8_t *p;
    size_t len;
};

/* One side. */
struct side {
    alignas(8) uint8_t space[STATE_MAX]; /* a struct tls_record */
    struct tls_work work;
};

struct outcome {
    enum tls_record_status status;
    size_t plain_len;
    uint8_t plain[STREAM_MAX];
};

static struct side layer, cut_layer, peer;
static uint8_t stream[STREAM_MAX], sealed[STREAM_MAX];
static size_t stream_len, sealed_len; /* the peer's records, and the data in them */
static struct outcome whole, cut;
static bool is_13;

static struct tls_record *state(struct side *s)
{
    return (struct tls_record *)s->space;
}

static uint8_t take(struct input *in)
{
    if (in->len == 0)
        return 0;
    in->len--;
    return *in->p++;
}

static struct input take_span(struct input *in, size_t most)
{
    struct input span = {in->p, min_size(in->len, most)};
    in->p += span.len;
    in->len -= span.len;
    return span;
}

/* The parts of a state that its header describes: what the peer's keys are. */
static uint8_t *write_key(struct tls_record *r)
{
    return r->keys + tls_aead_key_bytes((enum tls_aead)r->aead);
}

/* What the layer may give out of a record. In 1.3 a type of zero is padding: the type is the last
 * byte before it that is not (RFC 8446 5.4). */
static void note_data(struct input content, uint8_t type)
{
    while (is_13 && type == 0 && content.len > 0)
        type = content.p[--content.len];
    if (type == 23 && sealed_len + content.len <= STREAM_MAX) {
        memcpy(sealed + sealed_len, content.p, content.len);
        sealed_len += content.len;
    }
}

/* Seals `content` and what a 1.3 record has behind it as one record of the peer's. */
static void forge(uint8_t type, struct input content, size_t padding)
{
    struct tls_record *r = state(&peer);
    static uint8_t record[2 * STREAM_MAX];
    uint8_t nonce[TLS_AEAD_NONCE_BYTES], aad[13];
    bool explicit_nonce = !is_13 && r->aead != TLS_AEAD_CHACHA20_POLY1305;
    uint64_t counter = r->write_seq + (explicit_nonce ? r->explicit_base : 0);
    size_t skip = explicit_nonce ? 8 : 0, inner = content.len + (is_13 ? 1 + padding : 0);
    size_t len = skip + inner + TLS_AEAD_TAG_BYTES, aad_len = is_13 ? 5 : 13;
    if (stream_len + 5 + len > STREAM_MAX)
        return;
    memset(record, 0, 5 + len);
    memcpy(record, (uint8_t[]){is_13 ? 23 : type, 3, 3, (uint8_t)(len >> 8), (uint8_t)len}, 5);
    memcpy(nonce, r->write_iv, sizeof nonce);
    for (size_t i = 0; i < 8; i++) {
        uint8_t byte = (uint8_t)(counter >> (56 - 8 * i));
        nonce[4 + i] ^= byte;
        aad[i] = (uint8_t)(r->write_seq >> (56 - 8 * i));
        if (explicit_nonce)
            record[5 + i] = byte;
    }
    memcpy(aad + 8, record, 3);
    aad[11] = (uint8_t)(content.len >> 8);
    aad[12] = (uint8_t)content.len;
    uint8_t *text = record + 5 + skip;
    memcpy(text, content.p, content.len);
    if (is_13)
        text[content.len] = type;
    tls_aead_load(&peer.work.seal, (enum tls_aead)r->aead, write_key(r));
    tls_aead_start(&peer.work.seal, true, nonce, is_13 ? record : aad, aad_len);
    tls_aead_crypt(&peer.work.seal, text, inner);
    tls_aead_tag(&peer.work.seal, text + inner);
    r->write_seq++;
    memcpy(stream + stream_len, record, 5 + len);
    stream_len += 5 + len;
    note_data(content, type);
}

/* Data by the peer's own layer, from two spans. */
static void seal_data(struct input text, size_t plain_max)
{
    struct iovec iov[2] = {{(void *)text.p, text.len / 3},
                           {(void *)(text.p + text.len / 3), text.len - text.len / 3}};
    struct tls_source src = {iov, 2, 0};
    size_t n, begin = sealed_len;
    while ((n = tls_record_seal(state(&peer), &peer.work, &src, plain_max, stream + stream_len,
                                STREAM_MAX - stream_len)) > 0)
        stream_len += n;
    size_t left = 0;
    for (int i = 0; i < src.count; i++)
        left += src.iov[i].iov_len - (i == 0 ? src.off : 0);
    CHECK(begin + text.len <= STREAM_MAX);
    memcpy(sealed + begin, text.p, text.len - left);
    sealed_len = begin + text.len - left;
}

static void zeros(uint8_t type, size_t len)
{
    static const uint8_t nothing[20000];
    forge(type, (struct input){nothing, len}, 0);
}

/* Harm to what has been sealed. */
static void harm(struct input *in, uint8_t how)
{
    size_t at = (size_t)take(in) << 8 | take(in);
    if (stream_len == 0)
        return;
    at %= stream_len;
    if (how == 0) {
        stream[at] ^= (uint8_t)(1 + take(in) % 255);
    } else if (how == 1) { /* cut out */
        size_t n = min_size(1 + take(in), stream_len - at);
        memmove(stream + at, stream + at + n, stream_len - at - n);
        stream_len -= n;
    } else { /* put in */
        struct input rubbish = take_span(in, take(in));
        rubbish.len = min_size(rubbish.len, STREAM_MAX - stream_len);
        memmove(stream + at + rubbish.len, stream + at, stream_len - at);
        memcpy(stream + at, rubbish.p, rubbish.len);
        stream_len += rubbish.len;
    }
}

static void run(struct input *in)
{
    while (in->len > 0 && stream_len < STREAM_MAX / 2 && sealed_len < STREAM_MAX / 2) {
        uint8_t op = take(in);
        switch (op % 8) {
        case 0:
            seal_data(take_span(in, take(in)), 1 + op);
            break;
        case 1:
            forge(23, take_span(in, take(in)), op);
            break;
        case 2: {
            uint8_t type = take(in);
            forge(type, take_span(in, take(in)), take(in) % 16);
            break;
        }
        case 3: /* alerts and handshake messages */
            forge(21 + (op >> 3 & 1), take_span(in, 1 + (op >> 4)), 0);
            break;
        case 4:
            tls_record_update(state(&peer), (op & 8) != 0);
            seal_data((struct input){in->p, 0}, 1);
            break;
        case 5:
            harm(in, op / 8 % 3);
            break;
        case 6: /* long ones */
            zeros(op & 8 ? 23 : 0, (size_t)(take(in) & 0x3F) << 8 | take(in));
            break;
        default:
            stream_len += tls_record_seal_end(state(&peer), &peer.work, stream + stream_len);
        }
    }
}

/* Opens p[0..len), a part of the stream, and appends to *o. Returns the bytes left. */
static size_t open_part(struct side *s, const uint8_t *p, size_t len, struct outcome *o)
{
    uint8_t *copy = malloc(len + 1); /* not one byte more behind it */
    CHECK(copy != NULL);
    memcpy(copy + 1, p, len);
    struct bytes in = {copy + 1, len};
    struct tls_piece piece;
    while ((o->status = tls_record_open(state(s), &s->work, &in, &piece)) == TLS_RECORD_DATA) {
        CHECK(piece.data.len > 0 && piece.data.len <= TLS_RECORD_PLAIN_MAX);
        CHECK(o->plain_len + piece.data.len <= STREAM_MAX);
        memcpy(o->plain + o->plain_len, piece.data.ptr, piece.data.len);
        o->plain_len += piece.data.len;
    }
    if (o->status == TLS_RECORD_NEED_MORE) {
        CHECK(in.len == 0 ? piece.record_bytes == 0 : piece.record_bytes > in.len);
        CHECK(piece.record_bytes <= TLS_RECORD_BYTES_MAX);
    } else {
        CHECK(in.len == 0);
    }
    free(copy);
    return in.len;
}

/* The same stream, cut into parts of `step` bytes or so. */
static void open_cut(size_t step)
{
    size_t taken = 0;
    for (size_t end = 0; end < stream_len;) {
        end = min_size(end + step, stream_len);
        taken = end - open_part(&cut_layer, stream + taken, end - taken, &cut);
    }
}

static void expect_same(void)
{
    CHECK(whole.plain_len <= sealed_len);
    CHECK(memcmp(whole.plain, sealed, whole.plain_len) == 0);
    CHECK(whole.plain_len == cut.plain_len);
    CHECK(memcmp(whole.plain, cut.plain, cut.plain_len) == 0);
    CHECK(whole.status == cut.status);
    CHECK(memcmp(layer.space, cut_layer.space, tls_record_state_bytes(state(&layer))) == 0);
}

/* The other direction: what the layer says now. */
static void expect_answer(struct input text)
{
    static uint8_t out[STREAM_MAX];
    static struct outcome heard;
    struct iovec iov[2] = {{(void *)text.p, text.len / 2},
                           {(void *)(text.p + text.len / 2), text.len - text.len / 2}};
    struct tls_source src = {iov, 2, 0};
    bool is_writable = tls_record_is_writable(state(&layer));
    size_t n, len = 0;
    while ((n = tls_record_seal(state(&layer), &layer.work, &src, 100, out + len,
                                sizeof out - len)) > 0)
        len += n;
    size_t end = tls_record_seal_end(state(&layer), &layer.work, out + len);
    CHECK(end <= TLS_RECORD_END_BYTES_MAX);
    CHECK(tls_record_seal_end(state(&layer), &layer.work, out + len) == 0);
    if (!is_writable)
        CHECK(len == 0);
    heard.plain_len = 0;
    CHECK(open_part(&peer, out, len + end, &heard) == 0);
    int alert = tls_reason_alert(tls_record_reason(state(&layer)));
    if (tls_record_reason(state(&layer)) == TLS_REASON_NONE) {
        CHECK(heard.status == TLS_RECORD_CLOSED);
        CHECK(heard.plain_len == text.len);
        CHECK(memcmp(heard.plain, text.p, text.len) == 0);
    } else if (alert >= 0) {
        CHECK(heard.status == TLS_RECORD_FAILED);
        CHECK(tls_record_reason(state(&peer)) == TLS_REASON_PEER_ALERT);
        CHECK(tls_record_peer_alert(state(&peer)) == alert);
    } else {
        CHECK(end == 0);
    }
}

/* Keys and IV of a 1.3 secret (RFC 8446 7.3). */
static void derive(enum tls_aead aead, const uint8_t *secret, uint8_t *key, uint8_t *iv)
{
    bool is_384 = aead == TLS_AEAD_AES_256_GCM;
    const byte *protocol = (const byte *)"tls13 ", *none = (const byte *)"";
    CHECK(wc_Tls13_HKDF_Expand_Label(key, tls_aead_key_bytes(aead), secret, is_384 ? 48 : 32,
                                     protocol, 6, (const byte *)"key", 3, none, 0,
                                     is_384 ? WC_SHA384 : WC_SHA256) == 0);
    CHECK(wc_Tls13_HKDF_Expand_Label(iv, TLS_AEAD_NONCE_BYTES, secret, is_384 ? 48 : 32, protocol,
                                     6, (const byte *)"iv", 2, none, 0,
                                     is_384 ? WC_SHA384 : WC_SHA256) == 0);
}

/* The layer and its peer, of any suite, on either side, with limits that are soon reached. */
static void make_pair(uint8_t choice)
{
    static const uint8_t secrets[2][48] = {"one direction", "the other"};
    uint8_t keys[2][TLS_AEAD_KEY_BYTES_MAX] = {{1}, {2}}, ivs[2][TLS_AEAD_NONCE_BYTES] = {{3}, {4}};
    is_13 = choice % 2;
    struct tls_record_params p = {
        .version = is_13 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .aead = (enum tls_aead)(choice / 2 % TLS_AEAD_COUNT),
        .is_client = (choice & 0x40) != 0,
        .read_key = keys[0],
        .write_key = keys[1],
        .read_iv = ivs[0],
        .write_iv = ivs[1],
        .read_secret = secrets[0],
        .write_secret = secrets[1],
        .rekey_log2 = (uint8_t)(3 + (choice >> 4 & 3)),
    };
    for (int i = 0; i < 2 && is_13; i++)
        derive(p.aead, secrets[i], keys[i], ivs[i]);
    CHECK(tls_record_init(state(&layer), &p) == 0);
    memcpy(cut_layer.space, layer.space, sizeof layer.space);
    struct tls_record_params back = p;
    back.is_client = !p.is_client;
    back.read_key = p.write_key;
    back.write_key = p.read_key;
    back.read_iv = p.write_iv;
    back.write_iv = p.read_iv;
    back.read_secret = p.write_secret;
    back.write_secret = p.read_secret;
    CHECK(tls_record_init(state(&peer), &back) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    stream_len = sealed_len = whole.plain_len = cut.plain_len = 0;
    whole.status = cut.status = TLS_RECORD_NEED_MORE;
    make_pair(take(&in));
    size_t step = 1 + take(&in);
    run(&in);
    (void)open_part(&layer, stream, stream_len, &whole);
    open_cut(step);
    expect_same();
    if (tls_record_reason(state(&peer)) == TLS_REASON_NONE)
        expect_answer((struct input){data, min_size(size, 300)});
    tls_record_wipe(state(&layer), &layer.work);
    tls_record_wipe(state(&cut_layer), &cut_layer.work);
    tls_record_wipe(state(&peer), &peer.work);
    return 0;
}
