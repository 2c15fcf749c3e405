/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_STAMP_H
#define TOOLS_LOAD_STAMP_H

/* What a payload begins with, so that any server that hands it back unchanged can be judged: who
 * sent it, the how many-th of the sender it is, and when it was (or should have been) sent. 16
 * bytes, each below 0x80, so that it is well-formed UTF-8 and may stand in a text message. Pure. */

#include <stdbool.h>
#include <string.h>

#include "core/base.h"

#define STAMP_BYTES 16
#define STAMP_SENDER_BITS 20
#define STAMP_SEQ_BITS 36
#define STAMP_TIME_BITS 56 /* 2.2 years of nanoseconds since boot */
#define STAMP_SENDERS_MAX (1u << STAMP_SENDER_BITS)

struct stamp {
    uint64_t seq;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint32_t sender;
};

#define STAMP_HIGH_BITS 0x8080808080808080ULL

/* 56 bits into eight bytes of seven. */
static inline uint64_t stamp_spread(uint64_t v)
{
    v = (v & 0x000000000fffffffULL) | (v & 0x00fffffff0000000ULL) << 4;
    v = (v & 0x00003fff00003fffULL) | (v & 0x0fffc0000fffc000ULL) << 2;
    return (v & 0x007f007f007f007fULL) | (v & 0x3f803f803f803f80ULL) << 1;
}

/* The inverse; the high bit of each byte is ignored. */
static inline uint64_t stamp_gather(uint64_t v)
{
    v = (v & 0x007f007f007f007fULL) | (v & 0x7f007f007f007f00ULL) >> 1;
    v = (v & 0x00003fff00003fffULL) | (v & 0x3fff00003fff0000ULL) >> 2;
    return (v & 0x000000000fffffffULL) | (v & 0x0fffffff00000000ULL) >> 4;
}

/* Writes STAMP_BYTES to out, masked with `key` (0: plain). */
static inline void stamp_put(uint8_t *out, const struct stamp *s, uint32_t key)
{
    uint64_t mask = (uint64_t)key << 32 | key;
    uint64_t words[2] = {stamp_spread((uint64_t)s->sender << STAMP_SEQ_BITS | s->seq) ^ mask,
                         stamp_spread(s->time_ns) ^ mask};
    memcpy(out, words, sizeof(words));
}

/* False: these are not the bytes of a stamp. */
static inline bool stamp_get(const uint8_t *in, struct stamp *s)
{
    uint64_t words[2];
    memcpy(words, in, sizeof(words));
    uint64_t first = stamp_gather(words[0]);
    s->sender = (uint32_t)(first >> STAMP_SEQ_BITS);
    s->seq = first & ((1ULL << STAMP_SEQ_BITS) - 1);
    s->time_ns = stamp_gather(words[1]);
    return ((words[0] | words[1]) & STAMP_HIGH_BITS) == 0;
}

/* Small stamps -----------------------------------------------------------------------------------
 *
 * Payloads shorter than a stamp begin with the low bits of the number alone, seven in each of at
 * most five bytes. Who takes them knows the sender, whose own offset is added so that another's
 * message is told, and which numbers may come; the time stays with the sender. */

#define STAMP_SMALL_MAX 5
#define STAMP_SMALL_FACTOR 2654435761u /* spreads the senders' offsets */

/* The bytes of the small stamp of a payload that is shorter than STAMP_BYTES. */
static inline uint32_t stamp_small_bytes(size_t payload_bytes)
{
    return payload_bytes < STAMP_SMALL_MAX ? (uint32_t)payload_bytes : STAMP_SMALL_MAX;
}

/* So many numbers are told apart. */
static inline uint64_t stamp_small_numbers(uint32_t bytes)
{
    return 1ULL << 7 * bytes;
}

/* Writes `bytes` to out, masked with `key` (0: plain). */
static inline void stamp_small_put(uint8_t *out, uint32_t bytes, const struct stamp *s,
                                   uint32_t key)
{
    uint64_t number =
        (s->seq + (uint64_t)s->sender * STAMP_SMALL_FACTOR) & (stamp_small_numbers(bytes) - 1);
    uint64_t word = stamp_spread(number) ^ ((uint64_t)key << 32 | key);
    memcpy(out, &word, bytes);
}

/* How far the message is from number `next` of the sender, going up, modulo
 * stamp_small_numbers(bytes). False: these are not the bytes of a stamp. */
static inline bool stamp_small_get(const uint8_t *in, uint32_t bytes, uint32_t sender,
                                   uint64_t next, uint64_t *ahead)
{
    uint64_t word = 0;
    memcpy(&word, in, bytes);
    *ahead = (stamp_gather(word) - (uint64_t)sender * STAMP_SMALL_FACTOR - next) &
             (stamp_small_numbers(bytes) - 1);
    return (word & STAMP_HIGH_BITS) == 0;
}

#endif
