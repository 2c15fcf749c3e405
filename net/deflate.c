/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* permessage-deflate: reading offers (pure), and the compressor and inflater of one shard, which
 * belong to its thread. */

#include "net/deflate.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "net/http.h"

enum {
    WINDOW_BITS_MIN = 8, /* that an offer may name */
    WINDOW_BITS_MAX = 15,
    OUR_WINDOW_BITS_MIN = 9, /* zlib makes no raw stream with 8 */

    /* deflateReset() clears a hash table of 2 << (7 + memory level) bytes for each message, and
     * most messages are short. Of JSON of 256 B, 4 KiB and 64 KiB, in CPU time on an EPYC with
     * zlib 1.2.13: 4, 16, 430 us to 44, 20 and 18 %; level 6 needs 1.1 ms for the last and gets it
     * to 16 %, memory level 8 makes nothing smaller. */
    COMPRESS_LEVEL = 4,
    COMPRESS_MEM_LEVEL = 5,

    OUT_BYTES_MIN = 4096,    /* first size of the inflater's buffer */
    RESTART_COST_BYTES = 64, /* what a final block costs of a step's budget: resetting zlib */
    TAIL_BYTES = 4,
};

/* What the sender has taken off (RFC 7692 7.2.2). */
static const uint8_t tail[TAIL_BYTES] = {0x00, 0x00, 0xFF, 0xFF};

/* Offers -------------------------------------------------------------------------------------- */

/* One extension parameter; value NULL: it has none. */
struct param {
    const char *name, *value;
    size_t name_len, value_len;
    char unquoted[8]; /* a quoted value without its quotes; longer ones can't be valid numbers */
};

/* A reader of the field: the next byte, or 0 at the end. */
struct cursor {
    const char *p, *end;
};

static char peek(const struct cursor *c)
{
    return c->p < c->end ? *c->p : '\0';
}

static void skip_blanks(struct cursor *c)
{
    while (peek(c) == ' ' || peek(c) == '\t')
        c->p++;
}

static bool read_token(struct cursor *c, const char **token, size_t *len)
{
    const char *from = c->p;
    while (c->p < c->end && http_is_token(c->p, 1))
        c->p++;
    *token = from;
    *len = (size_t)(c->p - from);
    return *len > 0;
}

/* A quoted-string whose content is a token (RFC 6455 9.1); a long one is cut, its length is not. */
static bool read_quoted(struct cursor *c, struct param *param)
{
    size_t n = 0;
    for (c->p++; c->p < c->end && *c->p != '"'; c->p++, n++) {
        if (*c->p == '\\')
            c->p++;
        if (c->p == c->end || !http_is_token(c->p, 1))
            return false;
        if (n < sizeof param->unquoted)
            param->unquoted[n] = *c->p;
    }
    if (c->p == c->end || n == 0)
        return false;
    c->p++;
    param->value = param->unquoted;
    param->value_len = n;
    return true;
}

/* token [ "=" ( token / quoted-string ) ] */
static bool read_param(struct cursor *c, struct param *param)
{
    param->value = NULL;
    param->value_len = 0;
    if (!read_token(c, &param->name, &param->name_len))
        return false;
    skip_blanks(c);
    if (peek(c) != '=')
        return true;
    c->p++;
    skip_blanks(c);
    return peek(c) == '"' ? read_quoted(c, param) : read_token(c, &param->value, &param->value_len);
}

/* 8..15 without leading zeros (RFC 7692 7.1.2), or 0. */
static uint8_t window_bits(const struct param *param)
{
    const char *v = param->value;
    if (param->value_len == 1 && (v[0] == '8' || v[0] == '9'))
        return (uint8_t)(v[0] - '0');
    if (param->value_len == 2 && v[0] == '1' && v[1] >= '0' && v[1] <= '5')
        return (uint8_t)(10 + v[1] - '0');
    return 0;
}

/* Parameters of an offer: one bit each, to find repetitions. */
enum {
    SERVER_NO_TAKEOVER = 1,
    CLIENT_NO_TAKEOVER = 2,
    SERVER_BITS = 4,
    CLIENT_BITS = 8,
};

/* Which parameter it is, checked with its value; 0 declines the offer (RFC 7692 7.1). */
static uint32_t judge_param(const struct param *param, struct deflate_params *offer)
{
    bool has_value = param->value != NULL;
    if (http_token_is(param->name, param->name_len, "server_no_context_takeover"))
        return has_value ? 0 : SERVER_NO_TAKEOVER;
    if (http_token_is(param->name, param->name_len, "client_no_context_takeover"))
        return has_value ? 0 : CLIENT_NO_TAKEOVER;
    if (http_token_is(param->name, param->name_len, "server_max_window_bits")) {
        offer->server_max_window_bits = has_value ? window_bits(param) : 0;
        offer->server_max_window_bits_given = true;
        return offer->server_max_window_bits >= OUR_WINDOW_BITS_MIN ? SERVER_BITS : 0;
    }
    if (http_token_is(param->name, param->name_len, "client_max_window_bits")) {
        offer->client_max_window_bits_given = true;
        return !has_value || window_bits(param) >= WINDOW_BITS_MIN ? CLIENT_BITS : 0;
    }
    return 0;
}

/* extension-token *( ";" param ). False: malformed. offer->accepted: it is one of ours and good. */
static bool read_offer(struct cursor *c, struct deflate_params *offer)
{
    const char *name;
    size_t name_len;
    uint32_t seen = 0;
    *offer = (struct deflate_params){.server_max_window_bits = WINDOW_BITS_MAX};
    if (!read_token(c, &name, &name_len))
        return false;
    offer->accepted = http_token_is(name, name_len, "permessage-deflate");
    for (skip_blanks(c); peek(c) == ';'; skip_blanks(c)) {
        struct param param;
        c->p++;
        skip_blanks(c);
        if (!read_param(c, &param))
            return false;
        uint32_t bit = judge_param(&param, offer);
        if (bit == 0 || (seen & bit) != 0)
            offer->accepted = false;
        seen |= bit;
    }
    return true;
}

bool deflate_negotiate(const char *value, size_t len, struct deflate_params *params)
{
    struct cursor c = {value, value + len};
    uint32_t offers = 0;
    for (;;) {
        struct deflate_params offer;
        skip_blanks(&c);
        while (peek(&c) == ',') { /* empty elements: RFC 9110 5.6.1.2 */
            c.p++;
            skip_blanks(&c);
        }
        if (c.p == c.end)
            return offers > 0;
        if (!read_offer(&c, &offer))
            return false;
        offers++;
        if (offer.accepted && !params->accepted)
            *params = offer;
        if (c.p < c.end && *c.p != ',')
            return false;
    }
}

uint32_t deflate_answer(const struct deflate_params *params, char *out)
{
    char *p = stpcpy(out, "permessage-deflate; server_no_context_takeover; "
                          "client_no_context_takeover");
    if (params->server_max_window_bits_given) {
        uint8_t bits = params->server_max_window_bits;
        p = stpcpy(p, "; server_max_window_bits=");
        if (bits >= 10)
            *p++ = '1';
        *p++ = (char)('0' + bits % 10);
    }
    return (uint32_t)(p - out);
}

/* Memory -------------------------------------------------------------------------------------- */

struct deflate {
    z_stream *compressors[WINDOW_BITS_MAX - OUR_WINDOW_BITS_MIN + 1]; /* by window bits, as used */
    z_stream *inflater;
    size_t zlib_bytes; /* held by zlib in all of them */

    /* The message being inflated. */
    const uint8_t *in; /* borrowed */
    size_t in_left;
    uint32_t tail_left; /* bytes of tail[] that zlib has not been given yet */
    uint64_t limit_bytes;
    uint8_t *out;
    size_t out_len;
    size_t out_cap;
};

static void *zlib_alloc(void *opaque, unsigned items, unsigned size)
{
    struct deflate *d = opaque;
    void *p = calloc(items, size);
    d->zlib_bytes += malloc_usable_size(p);
    return p;
}

static void zlib_free(void *opaque, void *p)
{
    struct deflate *d = opaque;
    d->zlib_bytes -= malloc_usable_size(p);
    free(p);
}

static z_stream *stream_new(struct deflate *d)
{
    z_stream *z = zlib_alloc(d, 1, sizeof *z);
    if (z != NULL) {
        z->zalloc = zlib_alloc;
        z->zfree = zlib_free;
        z->opaque = d;
    }
    return z;
}

struct deflate *deflate_new(void)
{
    return calloc(1, sizeof(struct deflate));
}

void deflate_free(struct deflate *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < ARRAY_LEN(d->compressors); i++) {
        if (d->compressors[i] != NULL) {
            deflateEnd(d->compressors[i]);
            zlib_free(d, d->compressors[i]);
        }
    }
    if (d->inflater != NULL) {
        inflateEnd(d->inflater);
        zlib_free(d, d->inflater);
    }
    free(d->out);
    free(d);
}

size_t deflate_memory_bytes(const struct deflate *d)
{
    return sizeof *d + d->zlib_bytes + d->out_cap;
}

void deflate_trim(struct deflate *d)
{
    free(d->out);
    d->out = NULL;
    d->out_len = 0;
    d->out_cap = 0;
}

/* Compressing --------------------------------------------------------------------------------- */

size_t deflate_bound(size_t len)
{
    /* Blocks of the fixed code at worst (9 bits a byte), or stored ones, each with its header; the
     * empty block of the flush; a margin. */
    return len + (len >> 3) + (len >> 8) + (len >> 9) + 64;
}

/* The compressor of that window, ready for a new message, or NULL without memory. */
static z_stream *acquire_compressor(struct deflate *d, uint8_t bits)
{
    z_stream **slot = &d->compressors[bits - OUR_WINDOW_BITS_MIN];
    if (*slot != NULL) {
        CHECK(deflateReset(*slot) == Z_OK);
        return *slot;
    }
    z_stream *z = stream_new(d);
    if (z == NULL)
        return NULL;
    if (deflateInit2(z, COMPRESS_LEVEL, Z_DEFLATED, -bits, COMPRESS_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        zlib_free(d, z);
        return NULL;
    }
    *slot = z;
    return z;
}

int deflate_compress(struct deflate *d, uint8_t bits, const uint8_t *in, size_t len, uint8_t *out,
                     size_t *out_len)
{
    CHECK(bits >= OUR_WINDOW_BITS_MIN);
    CHECK(bits <= WINDOW_BITS_MAX);
    CHECK(deflate_bound(len) <= UINT32_MAX); /* one call; messages are far smaller */
    z_stream *z = acquire_compressor(d, bits);
    if (z == NULL)
        return -ENOMEM;
    z->next_in = (uint8_t *)in; /* zlib only reads */
    z->avail_in = (uint32_t)len;
    z->next_out = out;
    z->avail_out = (uint32_t)deflate_bound(len);
    CHECK(deflate(z, Z_SYNC_FLUSH) == Z_OK);
    CHECK(z->avail_in == 0);
    CHECK(z->avail_out > 0); /* else the flush may be incomplete */
    size_t n = (size_t)(z->next_out - out);
    CHECK(n >= TAIL_BYTES);
    *out_len = n - TAIL_BYTES;
    return 0;
}

/* Inflating ----------------------------------------------------------------------------------- */

void deflate_inflate_begin(struct deflate *d, const uint8_t *in, size_t len, uint64_t limit_bytes)
{
    d->in = in;
    d->in_left = len;
    d->tail_left = TAIL_BYTES;
    d->limit_bytes = limit_bytes;
    d->out_len = 0;
    if (d->inflater != NULL)
        CHECK(inflateReset(d->inflater) == Z_OK);
}

void deflate_inflate_moved(struct deflate *d, const uint8_t *in, size_t len)
{
    CHECK(d->in_left <= len);
    d->in = in + (len - d->in_left);
}

static bool make_inflater(struct deflate *d)
{
    if (d->inflater != NULL)
        return true;
    z_stream *z = stream_new(d);
    if (z == NULL)
        return false;
    if (inflateInit2(z, -WINDOW_BITS_MAX) != Z_OK) {
        zlib_free(d, z);
        return false;
    }
    d->inflater = z;
    return true;
}

/* Room for at least one more byte, if the limit has it. False without memory. */
static bool grow_out(struct deflate *d)
{
    if (d->out_len < d->out_cap || d->out_len >= d->limit_bytes)
        return true;
    size_t cap = d->out_cap == 0 ? OUT_BYTES_MIN : 2 * d->out_cap;
    cap = (size_t)min_u64(cap, d->limit_bytes);
    uint8_t *out = realloc(d->out, cap);
    if (out == NULL)
        return false;
    d->out = out;
    d->out_cap = cap;
    return true;
}

/* Gives zlib the next bytes of the message, at most `max`, and behind it the tail. */
static void feed_inflater(struct deflate *d, size_t max)
{
    z_stream *z = d->inflater;
    if (d->in_left > 0) {
        z->next_in = (uint8_t *)d->in; /* zlib only reads */
        z->avail_in = (uint32_t)min_size(d->in_left, min_size(max, UINT32_MAX));
    } else {
        z->next_in = (uint8_t *)tail + (TAIL_BYTES - d->tail_left);
        z->avail_in = d->tail_left;
    }
}

static void account_input(struct deflate *d, size_t eaten)
{
    if (d->in_left > 0) {
        d->in += eaten;
        d->in_left -= eaten;
    } else {
        d->tail_left -= (uint32_t)eaten;
    }
}

/* All input is eaten and nothing more comes out. The message is whole when the last block, whose
 * end the tail is, has ended with the last bit. */
static bool is_whole(const struct deflate *d)
{
    bool at_block_end = (d->inflater->data_type & 128) != 0;
    bool bits_left = (d->inflater->data_type & 63) != 0;
    return at_block_end && !bits_left;
}

/* A final block has ended. Others may follow it, with no reference to what was before; a message
 * may also end here, with or without the empty block of the tail (RFC 7692 7.2.3.4). */
static enum deflate_status after_final_block(struct deflate *d)
{
    if (d->in_left == 0 && (d->tail_left == TAIL_BYTES || d->tail_left == 0))
        return DEFLATE_DONE;
    CHECK(inflateReset(d->inflater) == Z_OK);
    return DEFLATE_MORE;
}

/* One call of zlib; *cost is what it took of the budget. DEFLATE_MORE: go on. */
static enum deflate_status inflate_some(struct deflate *d, size_t budget, size_t *cost)
{
    z_stream *z = d->inflater;
    uint8_t beyond; /* where a byte over the limit shows itself */
    bool full = d->out_len >= d->limit_bytes;
    size_t room = full ? 1 : (size_t)min_u64(d->out_cap, d->limit_bytes) - d->out_len;
    z->next_out = full ? &beyond : d->out + d->out_len;
    z->avail_out = (uint32_t)min_size(room, min_size(budget, UINT32_MAX));
    feed_inflater(d, budget);
    size_t in_before = z->avail_in, out_before = z->avail_out;
    int rc = inflate(z, Z_SYNC_FLUSH);
    size_t eaten = in_before - z->avail_in, made = out_before - z->avail_out;
    account_input(d, eaten);
    *cost = eaten > made ? eaten : made;

    if (full && made > 0)
        return DEFLATE_TOO_BIG;
    d->out_len += made;
    if (rc == Z_STREAM_END) {
        *cost += RESTART_COST_BYTES;
        return after_final_block(d);
    }
    if (rc == Z_MEM_ERROR)
        return DEFLATE_NO_MEMORY;
    if (rc != Z_OK && rc != Z_BUF_ERROR)
        return DEFLATE_BAD;
    if (d->in_left > 0 || d->tail_left > 0)
        return DEFLATE_MORE;
    if (is_whole(d))
        return DEFLATE_DONE;
    return z->avail_out == 0 ? DEFLATE_MORE : DEFLATE_BAD;
}

enum deflate_status deflate_inflate_step(struct deflate *d, size_t budget_bytes, struct bytes *out)
{
    enum deflate_status st = DEFLATE_MORE;
    if (!make_inflater(d))
        return DEFLATE_NO_MEMORY;
    while (st == DEFLATE_MORE && budget_bytes > 0) {
        size_t cost;
        if (!grow_out(d))
            return DEFLATE_NO_MEMORY;
        st = inflate_some(d, budget_bytes, &cost);
        budget_bytes -= min_size(cost, budget_bytes);
    }
    if (st == DEFLATE_DONE)
        *out = (struct bytes){d->out, d->out_len};
    return st;
}
