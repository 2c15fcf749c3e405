/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_RECORD_H
#define NET_TLS_RECORD_H

/* TLS records of one established connection, versions 1.2 (RFC 5246, 5288, 7905) and 1.3 (RFC
 * 8446), either side, AEAD suites only. A pure engine: bytes in, bytes out; no socket, clock, or
 * memory of its own. Whoever did the handshake makes the state from exported keys.
 *
 * Receiving. Records are opened in place; a piece of plaintext is a view of the input:
 *
 *     while ((st = tls_record_open(r, work, &in, &piece)) == TLS_RECORD_DATA)
 *         use(piece.data);
 *
 *     NEED_MORE  *in begins with a record that is cut, or is empty. What is left of *in is the
 *                caller's to keep, unchanged, and to give again with what arrives next behind it;
 *                piece.record_bytes is what must be there altogether before a further call can
 *                get on (known from the header: 5 until that is whole), so the caller may take a
 *                buffer of that size. No more than TLS_RECORD_BYTES_MAX.
 *     CLOSED     close_notify has come: nothing more does. Answer with tls_record_seal_end().
 *     FAILED     see tls_record_reason(). Send what tls_record_seal_end() gives, and close.
 *
 * CLOSED and FAILED last, and take all input. An end of the stream without CLOSED is a truncation.
 *
 * Sending. Spans are gathered and sealed into the caller's buffer, one record a call:
 *
 *     while (src.count > 0 && (n = tls_record_seal(r, work, &src, plain_max, out, room)) > 0)
 *         out += n, room -= n;
 *
 * KeyUpdates (1.3) need nothing from the caller: one that is due, because the peer has asked, the
 * limit of the key is reached or tls_record_update() was called, leaves in front of the next data
 * (RFC 8446 4.6.3 asks for no more), or by a call without data while tls_record_is_update_due().
 *
 * 1.2 has no KeyUpdate: when tls_record_is_worn(), the caller should close the connection in its
 * own good order. Sealing goes on for as many records again, then fails.
 *
 * What is sealed must be sent, in order and once: each record has used up its sequence number.
 *
 * States
 *
 *      OPEN ---- close_notify ----> input CLOSED   (sealing goes on: it is a half close)
 *      OPEN ---- any violation, fatal alert, used-up key ----> FAILED: nothing is sealed any more
 *      not ended ---- tls_record_seal_end() ----> output ended: nothing is sealed any more
 *      not ended ---- tls_ktls_lend() ----> the kernel seals, and we nothing: see tls_ktls.h
 *
 * The state has no pointers, and tls_record_bytes() of it may be moved or handed to another
 * process. Exactly one copy may live on: an older copy that seals again would use a nonce twice,
 * which betrays the plaintext and, with GCM, the key of authentication. So wipe before the other
 * starts, and never write it to disk. */

#include <stdbool.h>

#include <sys/uio.h>

#include "core/base.h"
#include "net/tls_aead.h"

#define TLS_RECORD_HEAD_BYTES 5
#define TLS_RECORD_PLAIN_MAX 16384 /* content of one record */
/* The largest record that is taken: what 2^14 bytes become. The RFCs' own bounds of the length
 * field (2^14 + 2048, 2^14 + 256) leave room for compression and for more padding than 1.3 allows.
 */
#define TLS_RECORD_BYTES_MAX (TLS_RECORD_PLAIN_MAX + TLS_RECORD_EXTRA_MAX)
/* What a record adds to its content: header, explicit nonce (1.2 GCM) or type (1.3), tag. */
#define TLS_RECORD_EXTRA_MAX 29
/* A KeyUpdate in front of it. */
#define TLS_RECORD_UPDATE_BYTES 27
/* The room in which tls_record_seal() seals n bytes, whatever is due: n + this. */
#define TLS_RECORD_ROOM (22 + TLS_RECORD_UPDATE_BYTES)
/* What tls_record_seal_end() writes at the most. */
#define TLS_RECORD_END_BYTES_MAX (TLS_RECORD_EXTRA_MAX + 2)
/* Records without data that may come between two with data: KeyUpdates, warnings, empty ones,
 * tickets. Each costs the peer little and us as much as one with data. */
#define TLS_RECORD_QUIET_MAX 32
/* Records under one AES-GCM key, as a power of two. RFC 8446 5.5 allows 2^24.5 of full size for a
 * margin of 2^-57; we stay under that even where a peer needs as many again. */
#define TLS_RECORD_REKEY_LOG2 23

/* Why a connection failed: X(id, alert, label, text). The alert is ours to send (RFC 8446 6,
 * RFC 5246 7.2), -1: none. The label is for metrics, the text for the log. */
#define TLS_RECORD_REASONS(X)                                                                      \
    X(NONE, -1, "none", "no failure")                                                              \
    X(PEER_ALERT, -1, "peer_alert", "the peer sent a fatal alert")                                 \
    X(BAD_TAG, 20, "bad_record_mac", "a record that fails authentication")                         \
    X(TOO_LONG, 22, "record_overflow", "a record over 2^14 bytes")                                 \
    X(TOO_SHORT, 50, "record_too_short", "a record shorter than its tag")                          \
    X(VERSION, 70, "record_version", "a record of another version")                                \
    X(TYPE, 10, "record_type", "a record type that may not come here")                             \
    X(NO_TYPE, 10, "no_content_type", "a record with nothing but padding")                         \
    X(EMPTY, 10, "empty_message", "an empty alert or handshake record")                            \
    X(FLOOD, 10, "flood", "too many records without data")                                         \
    X(ALERT_FORM, 50, "alert_form", "an alert that is not two bytes long")                         \
    X(ALERT_LEVEL, 47, "alert_level", "an alert neither warning nor fatal")                        \
    X(UPDATE_FORM, 50, "key_update_form", "a KeyUpdate that is cut or of a wrong length")          \
    X(UPDATE_TAIL, 10, "key_update_tail", "a KeyUpdate with more behind it in its record")         \
    X(UPDATE_VALUE, 47, "key_update_value", "a KeyUpdate that requests neither yes nor no")        \
    X(HANDSHAKE, 10, "handshake_message", "a handshake message after the handshake")               \
    X(INTERLEAVED, 10, "interleaved", "a handshake message cut by another record")                 \
    X(RENEGOTIATION, 40, "renegotiation", "renegotiation was asked for")                           \
    X(SEQUENCE, 80, "sequence_overflow", "the peer used up its sequence numbers")                  \
    X(KEY_LIMIT, 80, "key_limit", "our key has sealed all records that it may")

enum tls_reason {
#define X(id, alert, label, text) TLS_REASON_##id,
    TLS_RECORD_REASONS(X)
#undef X
        TLS_REASON_COUNT,
};

enum tls_record_status {
    TLS_RECORD_NEED_MORE,
    TLS_RECORD_DATA,
    TLS_RECORD_CLOSED,
    TLS_RECORD_FAILED,
};

enum tls_version {
    TLS_VERSION_1_2,
    TLS_VERSION_1_3,
};

/* Scratch memory for the AEADs, one for each thread that opens and seals; all zero at first. It
 * holds expanded keys: wipe it when the thread ends. */
struct tls_work {
    struct tls_aead_ctx open;
    struct tls_aead_ctx seal;
};

/* State: 56 bytes and the keys, tls_record_bytes() altogether. Everything is the .c's. */
struct tls_record {
    uint64_t read_seq; /* of the next record */
    uint64_t write_seq;
    union {
        uint64_t explicit_base; /* 1.2 GCM: the next explicit nonce is this + write_seq */
        struct {                /* 1.3, client: a ticket that is cut */
            uint32_t ticket_left;
            uint8_t message_head[3];
            uint8_t message_head_len;
        };
    };
    uint8_t read_iv[TLS_AEAD_NONCE_BYTES]; /* 1.2 GCM: the first 4 bytes, the others 0 */
    uint8_t write_iv[TLS_AEAD_NONCE_BYTES];
    uint16_t fragment_max; /* content of the records that we send; 1..2^14 */
    uint8_t aead;          /* enum tls_aead */
    uint8_t bits;
    uint8_t quiet; /* records since the last one with data */
    uint8_t rekey_log2;
    uint8_t reason;     /* enum tls_reason */
    uint8_t peer_alert; /* of PEER_ALERT */
    uint8_t keys[];     /* read key, write key; 1.3: read secret, write secret */
};

/* What the handshake has agreed on. All is borrowed. */
struct tls_record_params {
    enum tls_version version;
    enum tls_aead aead; /* 1.3: SHA-384 with AES-256, otherwise SHA-256 (RFC 8446 B.4) */
    bool is_client;
    const uint8_t *read_key; /* tls_aead_key_bytes() each */
    const uint8_t *write_key;
    const uint8_t *read_iv; /* 12 bytes each; 1.2 GCM: 4 */
    const uint8_t *write_iv;
    const uint8_t *read_secret; /* 1.3: the traffic secrets, 32 or with SHA-384 48 bytes */
    const uint8_t *write_secret;
    uint64_t read_seq; /* of the next record in each direction */
    uint64_t write_seq;
    uint64_t explicit_nonce; /* 1.2 GCM: of the next record that we seal */
    uint16_t fragment_max;   /* 0 or what max_fragment_length allows (RFC 6066 4): 1..2^14 */
    uint8_t rekey_log2;      /* tests: a lower TLS_RECORD_REKEY_LOG2, of every AEAD; 0: default */
};

/* A part of a gathered list that is still to be sealed. */
struct tls_source {
    const struct iovec *iov;
    int count;  /* spans left; 0 is the end */
    size_t off; /* bytes of iov[0] that have been taken; fewer than it has, unless it is empty */
};

struct tls_piece {
    struct bytes data;   /* DATA: at least one byte; a view of the input, writable */
    size_t record_bytes; /* NEED_MORE: see above; 0 when the input is used up */
};

/* 88 to 216. */
size_t tls_record_bytes(enum tls_version version, enum tls_aead aead);

/* Makes a state in tls_record_bytes() of the caller's memory. 0; -EINVAL: a value that cannot be;
 * -EKEYREJECTED: 1.3 keys and IVs are not what the secrets give, so something was exported wrongly.
 * After an error the memory is wiped. */
MUST_USE int tls_record_init(struct tls_record *r, const struct tls_record_params *p);

/* Wipes the state, and the keys that work has expanded from it. */
void tls_record_wipe(struct tls_record *r, struct tls_work *work);

void tls_work_wipe(struct tls_work *work);

/* The size of this state. */
size_t tls_record_state_bytes(const struct tls_record *r);

/* Takes the next record with data from *in and steps *in behind it; what stands before it is dealt
 * with. Plaintext comes out only after its tag has been checked; what a bad tag leaves is wiped. */
enum tls_record_status tls_record_open(struct tls_record *r, struct tls_work *work,
                                       struct bytes *in, struct tls_piece *piece);

/* Seals the next plain_max bytes of *src at the most (and no more than fragment_max, or than fit
 * into room) as one record, and steps *src behind them. Copies each byte once. Returns the bytes
 * written to out: records, whole. 0: no data and no update due, or too little room, or output has
 * ended or failed. out does not overlap the source. */
size_t tls_record_seal(struct tls_record *r, struct tls_work *work, struct tls_source *src,
                       size_t plain_max, uint8_t *out, size_t room);

/* The last record: the alert of the failure, or close_notify. Writes up to TLS_RECORD_END_BYTES_MAX
 * bytes, returns how many; 0 after the peer's fatal alert and every further time. */
size_t tls_record_seal_end(struct tls_record *r, struct tls_work *work, uint8_t *out);

/* 1.3: new keys for what we send, from the next record on, with `request` for the peer's too.
 * Nothing in 1.2. */
void tls_record_update(struct tls_record *r, bool request);

bool tls_record_is_update_due(const struct tls_record *r);

/* Whether a 1.2 key has done its share in either direction. */
bool tls_record_is_worn(const struct tls_record *r);

/* Whether tls_record_seal() seals: neither failed nor ended nor lent. */
bool tls_record_is_writable(const struct tls_record *r);

/* TLS_REASON_NONE while it has not failed. */
static inline enum tls_reason tls_record_reason(const struct tls_record *r)
{
    return (enum tls_reason)r->reason;
}

/* The description in the peer's fatal alert; meaningful for TLS_REASON_PEER_ALERT. */
static inline uint8_t tls_record_peer_alert(const struct tls_record *r)
{
    return r->peer_alert;
}

/* -1: none is sent. */
int tls_reason_alert(enum tls_reason reason);
const char *tls_reason_label(enum tls_reason reason);
const char *tls_reason_text(enum tls_reason reason);

#endif
