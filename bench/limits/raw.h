/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef BENCH_LIMITS_RAW_H
#define BENCH_LIMITS_RAW_H

/* What the limit programs know of WebSocket: enough that a client takes them for a server, and no
 * instruction more. The request is looked at for its key alone; frames of a client become those of
 * a server in the receive buffer, piece by piece as they arrive, without a check and without
 * waiting for their end. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/simd.h"

/* A client's longest head: 2 bytes, a length of 8, a masking key of 4. A server's is shorter. */
#define RAW_HEAD_MAX 14
/* What may be read beyond a slice, and before it, where no head place is given, be written. */
#define RAW_PAD 16
/* Spans that one slice becomes at the most; what is not taken is left for the next call. */
#define RAW_SPANS_MAX 64
/* "HTTP/1.1 101 ..." with its empty line. */
#define RAW_ANSWER_BYTES 129

/* Bytes to be sent. */
struct raw_span {
    uint8_t *ptr;
    size_t len;
};

/* Where a client's stream stands. All zero: between frames. */
struct raw_stream {
    uint64_t left;    /* payload bytes of the frame still to come */
    uint32_t key;     /* for the next of them */
    uint8_t head_len; /* bytes of a head that has been cut; 0: none */
    uint8_t head[RAW_HEAD_MAX];
};

struct raw_batch {
    int count;
    bool closes; /* the client has sent a close frame; it is the last span */
    struct raw_span spans[RAW_SPANS_MAX];
};

struct raw_options {
    bool fanout;      /* what one client sends goes to all, else back to it */
    bool gather;      /* what arrived together leaves in one send */
    bool once;        /* ends when the last connection has left */
    uint16_t port;    /* 0: a free one */
    unsigned seconds; /* the program ends by itself after that */
    int sndbuf_bytes; /* SO_SNDBUF; 0: the kernel's choice */
    unsigned buffers; /* limit-uring: number of receive buffers, power of two */
    unsigned buffer_bytes;
};

/* Reads the command line; exits with a text on what it does not know. */
struct raw_options raw_options_read(int argc, char **argv);

/* A listening socket on loopback, not blocking. Prints "listening PORT" and sets the alarm that
 * ends the program. Exits with a text on failure. */
int raw_listen(const struct raw_options *o);

/* The answer to a request in `in`, which must have come whole. Writes RAW_ANSWER_BYTES to `out`
 * (may be in.ptr). False: no upgrade. */
bool raw_answer(const uint8_t *in, size_t len, uint8_t *out);

/* Turns the client's bytes at p into spans of a server's, in place. A head that was cut by the end
 * of the former slice is written so that it ends at cut_head and must stay until it is sent; with
 * NULL it goes before its payload, where RAW_PAD bytes before p are free. gather: small frames are
 * moved together. Returns how many bytes were taken: all, unless RAW_SPANS_MAX was reached. */
size_t raw_turn(struct raw_stream *s, uint8_t *p, size_t len, uint8_t *cut_head, bool gather,
                struct raw_batch *out);

/* The common case, inline: the slice is one short data frame, and nothing is left of one before. */
static inline bool raw_turn_single(const struct raw_stream *s, uint8_t *p, size_t len,
                                   struct raw_span *out)
{
    size_t n = p[1] & 0x7f;
    uint32_t key;

    if ((s->left | s->head_len) != 0 || n > 125 || len != n + 6 || (p[0] & 0x8) != 0)
        return false;
    memcpy(&key, p + 2, sizeof(key));
    if (key != 0)
        simd->unmask(p + 6, p + 6, n, key);
    p[4] = p[0];
    p[5] = (uint8_t)n;
    *out = (struct raw_span){p + 4, n + 2};
    return true;
}

_Noreturn void raw_die(const char *what, int err);

#endif
