/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Handshake, frames, options of the limit programs. One thread. */

#include "bench/limits/raw.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/coding.h>
#include <wolfssl/wolfcrypt/sha.h>

#include "core/simd.h"

#define KEY_CHARS 24
#define ACCEPT_CHARS 28
#define MASK_BYTES 4
#define OPCODE_CLOSE 0x8
/* Frames up to this size are moved together for one span: above, a span of its own is cheaper. */
#define MOVE_BYTES_MAX 1024

_Noreturn void raw_die(const char *what, int err)
{
    if (err != 0)
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(err));
    else
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(1);
}

/* Options ------------------------------------------------------------------------------------- */

static unsigned number(const char *name, const char *text, unsigned long max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end != '\0' || end == text || n > max)
        raw_die(name, ERANGE);
    return (unsigned)n;
}

#define OPTIONS                                                                                    \
    "[--fanout] [--gather] [--port N] [--seconds N] [--sndbuf BYTES] [--once] [--buffers N] "      \
    "[--buffer-bytes N]"

struct raw_options raw_options_read(int argc, char **argv)
{
    static const struct option known[] = {
        {"fanout", no_argument, NULL, 'f'},       {"gather", no_argument, NULL, 'g'},
        {"port", required_argument, NULL, 'p'},   {"seconds", required_argument, NULL, 's'},
        {"sndbuf", required_argument, NULL, 'b'}, {"buffers", required_argument, NULL, 'n'},
        {"once", no_argument, NULL, 'o'},         {"buffer-bytes", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct raw_options o = {.seconds = 600, .buffers = 16, .buffer_bytes = 64 << 10};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'f':
            o.fanout = true;
            break;
        case 'g':
            o.gather = true;
            break;
        case 'p':
            o.port = (uint16_t)number("--port", optarg, UINT16_MAX);
            break;
        case 's':
            o.seconds = number("--seconds", optarg, 86400);
            break;
        case 'b':
            o.sndbuf_bytes = (int)number("--sndbuf", optarg, 1 << 30);
            break;
        case 'o':
            o.once = true;
            break;
        case 'n':
            o.buffers = number("--buffers", optarg, 32768);
            break;
        case 'l':
            o.buffer_bytes = number("--buffer-bytes", optarg, 1 << 24);
            break;
        case 'h':
            puts("options: " OPTIONS);
            exit(0);
        default:
            raw_die("options: " OPTIONS, 0);
        }
    }
    return o;
}

int raw_listen(const struct raw_options *o)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(o->port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (simd_init(NULL) != 0)
        raw_die("no kernels for this CPU", 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* inherited, as all here */
    if (o->sndbuf_bytes != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &o->sndbuf_bytes, sizeof(o->sndbuf_bytes));
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        raw_die("cannot listen", errno);
    alarm(o->seconds);
    printf("listening %d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

/* Handshake ----------------------------------------------------------------------------------- */

/* RFC 6455 4.2.2 */
static void accept_of(const char *key, char *accept)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    wc_Sha sha;
    byte digest[WC_SHA_DIGEST_SIZE];
    word32 len = ACCEPT_CHARS + 1;

    wc_InitSha(&sha);
    wc_ShaUpdate(&sha, (const byte *)key, KEY_CHARS);
    wc_ShaUpdate(&sha, (const byte *)guid, sizeof(guid) - 1);
    wc_ShaFinal(&sha, digest);
    Base64_Encode_NoNl(digest, sizeof(digest), (byte *)accept, &len);
}

bool raw_answer(const uint8_t *in, size_t len, uint8_t *out)
{
    static const char field[] = "Sec-WebSocket-Key: ";
    static char last_key[KEY_CHARS]; /* clients that always send the same get a canned answer */
    static char answer[RAW_ANSWER_BYTES] = /* without an ending zero */
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Accept: "
        "............................\r\n\r\n";
    const uint8_t *key = memmem(in, len, field, sizeof(field) - 1);
    char accept[ACCEPT_CHARS + 1];

    if (len < RAW_ANSWER_BYTES || memcmp(in + len - 4, "\r\n\r\n", 4) != 0 || key == NULL ||
        key + sizeof(field) - 1 + KEY_CHARS > in + len)
        return false;
    key += sizeof(field) - 1;
    if (memcmp(key, last_key, KEY_CHARS) != 0) {
        memcpy(last_key, key, KEY_CHARS);
        accept_of(last_key, accept);
        memcpy(answer + RAW_ANSWER_BYTES - 4 - ACCEPT_CHARS, accept, ACCEPT_CHARS);
    }
    memcpy(out, answer, sizeof(answer));
    return true;
}

/* Frames -------------------------------------------------------------------------------------- */

/* Of a client's head; needs its first two bytes. */
static unsigned head_bytes(const uint8_t *head)
{
    unsigned form = head[1] & 0x7f;

    return 2 + MASK_BYTES + (form == 126 ? 2 : form == 127 ? 8 : 0);
}

/* Takes a whole client's head: leaves a server's so that it ends at `end`. Returns its length. */
static unsigned turn_head(struct raw_stream *s, const uint8_t *head, unsigned len, uint8_t *end)
{
    uint8_t turned[10];
    unsigned turned_len = len - MASK_BYTES;

    s->left = head[1] & 0x7f;
    if (turned_len > 2) {
        s->left = 0;
        for (unsigned i = 2; i < turned_len; i++)
            s->left = s->left << 8 | head[i];
    }
    memcpy(&s->key, head + turned_len, MASK_BYTES);
    memcpy(turned, head, sizeof(turned)); /* whole registers: it may overlap with where it goes */
    turned[1] &= 0x7f;
    memcpy(end - turned_len, turned, turned_len);
    return turned_len;
}

/* Adds a span, or moves its bytes to the end of the one before. */
static void add_span(struct raw_batch *out, uint8_t *ptr, size_t len, bool gather)
{
    struct raw_span *last = &out->spans[out->count - 1];

    if (gather && out->count > 0 && len <= MOVE_BYTES_MAX && last->ptr + last->len <= ptr) {
        memmove(last->ptr + last->len, ptr, len);
        last->len += len;
    } else {
        out->spans[out->count++] = (struct raw_span){ptr, len};
    }
}

/* The payload bytes at p, of at most len. Returns how many. */
static size_t turn_payload(struct raw_stream *s, uint8_t *p, size_t len)
{
    size_t n = len < s->left ? len : s->left;

    if (s->key != 0) {
        simd->unmask(p, p, n, s->key);
        s->key = simd_rotate_key(s->key, n);
    }
    s->left -= n;
    return n;
}

/* The rest of a head that was cut, to be sent from `end`, or from before p's payload where that is
 * NULL. Returns how many bytes of p belong to it. */
static size_t complete_head(struct raw_stream *s, uint8_t *p, size_t len, uint8_t *end,
                            struct raw_batch *out)
{
    size_t n = 0;

    while (n < len && (s->head_len < 2 || s->head_len < head_bytes(s->head)))
        s->head[s->head_len++] = p[n++];
    if (s->head_len < 2 || s->head_len < head_bytes(s->head))
        return n;
    if (end == NULL)
        end = p + n;
    unsigned turned = turn_head(s, s->head, s->head_len, end);

    out->closes = (s->head[0] & 0xf) == OPCODE_CLOSE;
    out->spans[out->count++] = (struct raw_span){end - turned, turned};
    s->head_len = 0;
    return n;
}

/* The rest of a frame of the former slice. Returns how many bytes. */
static size_t continue_frame(struct raw_stream *s, uint8_t *p, size_t len, struct raw_batch *out)
{
    size_t n = turn_payload(s, p, len);

    if (out->count > 0 && out->spans[0].ptr + out->spans[0].len == p)
        out->spans[0].len += n;
    else
        out->spans[out->count++] = (struct raw_span){p, n};
    return n;
}

/* A frame that begins at p[at], of any length. Returns how many bytes of p belong to it. */
static size_t turn_any(struct raw_stream *s, uint8_t *p, size_t len, bool gather,
                       struct raw_batch *out)
{
    unsigned head = len >= 2 ? head_bytes(p) : RAW_HEAD_MAX;

    if (head > len) { /* cut: the rest comes with the next slice */
        memcpy(s->head, p, len);
        s->head_len = (uint8_t)len;
        return len;
    }
    out->closes = (p[0] & 0xf) == OPCODE_CLOSE;
    unsigned turned = turn_head(s, p, head, p + head);
    size_t n = turn_payload(s, p + head, len - head);

    add_span(out, p + MASK_BYTES, turned + n, gather);
    return head + n;
}

/* A short frame that lies whole in p. Returns its bytes. */
static inline size_t turn_short(uint8_t *p, bool gather, struct raw_batch *out)
{
    unsigned n = p[1] & 0x7f;
    uint32_t key;

    memcpy(&key, p + 2, sizeof(key));
    if (key != 0)
        simd->unmask(p + 2 + MASK_BYTES, p + 2 + MASK_BYTES, n, key);
    p[MASK_BYTES] = p[0];
    p[MASK_BYTES + 1] = (uint8_t)n;
    if (__builtin_expect((p[0] & 0xf) == OPCODE_CLOSE, 0))
        out->closes = true;
    if (gather && out->count > 0)
        add_span(out, p + MASK_BYTES, 2 + n, gather);
    else
        out->spans[out->count++] = (struct raw_span){p + MASK_BYTES, 2 + n};
    return 2 + MASK_BYTES + n;
}

typedef uint32_t quad __attribute__((vector_size(16), aligned(1), may_alias));

/* Unmasks to a place before src. The two may overlap: no store reaches what is still to be loaded.
 * At once, since bytes that have just been stored are slow to load at another offset. */
static inline void unmask_back(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key)
{
    if (n < sizeof(quad)) {
        memmove(dst, src, n);
        simd->unmask(dst, dst, n, key);
        return;
    }
    size_t last = n - sizeof(quad);
    uint32_t end_key = simd_rotate_key(key, last);
    quad end = *(const quad *)(src + last) ^ end_key;

    for (size_t i = 0; i < last; i += sizeof(quad))
        *(quad *)(dst + i) = *(const quad *)(src + i) ^ key;
    *(quad *)(dst + last) = end;
}

/* Short data frames that lie whole in p, moved together into one span. Returns how many bytes of p
 * they were; 0: the first is none. */
static size_t gather_short(uint8_t *p, size_t len, struct raw_batch *out)
{
    uint8_t *const begin = p + MASK_BYTES;
    uint8_t *end = begin;
    size_t left = len;

    while (left >= 2 + MASK_BYTES) {
        size_t n = p[1] & 0x7f;
        uint32_t key;

        if (n >= 126 || left < 2 + MASK_BYTES + n || (p[0] & 0x8) != 0)
            break;
        memcpy(&key, p + 2, sizeof(key));
        end[0] = p[0]; /* at p itself, or before it, or in the key */
        end[1] = (uint8_t)n;
        if (end == begin)
            simd->unmask(end + 2, end + 2, n, key);
        else
            unmask_back(end + 2, p + 2 + MASK_BYTES, n, key);
        end += 2 + n;
        p += 2 + MASK_BYTES + n;
        left -= 2 + MASK_BYTES + n;
    }
    if (end != begin)
        out->spans[out->count++] = (struct raw_span){begin, (size_t)(end - begin)};
    return len - left;
}

size_t raw_turn(struct raw_stream *s, uint8_t *p, size_t len, uint8_t *cut_head, bool gather,
                struct raw_batch *out)
{
    size_t at = 0;

    out->count = 0;
    out->closes = false;
    if (s->head_len != 0)
        at = complete_head(s, p, len, cut_head, out);
    if (s->left != 0 && at < len)
        at += continue_frame(s, p + at, len - at, out);
    while (at < len && out->count < RAW_SPANS_MAX) {
        size_t run = gather ? gather_short(p + at, len - at, out) : 0;
        unsigned n = len - at >= 2 + MASK_BYTES ? p[at + 1] & 0x7f : 127;

        if (run > 0)
            at += run;
        else if (n < 126 && 2 + MASK_BYTES + n <= len - at)
            at += turn_short(p + at, gather, out);
        else
            at += turn_any(s, p + at, len - at, gather, out);
    }
    return at;
}
