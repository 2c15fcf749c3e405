/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What all implementations of io share: the generator of randomness, the clock on the wall, and
 * addresses in their three forms (ours, the kernel's, text). io_random*() on the shard's thread,
 * the rest on any. */

#include "core/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

uint64_t io_system_wall_ns(struct io *io)
{
    struct timespec ts;

    (void)io;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

int io_spans_skip(struct iovec *iov, size_t sent)
{
    int i = 0;
    for (; sent >= iov[i].iov_len; i++)
        sent -= iov[i].iov_len;
    iov[i].iov_base = (char *)iov[i].iov_base + sent;
    iov[i].iov_len -= sent;
    return i;
}

static uint64_t rotl(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

/* xoshiro256** by Blackman and Vigna. */
uint64_t io_random(struct io *io)
{
    uint64_t *s = io->random;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* The high half of random * bound is uniform, once the low halves that would make some values more
 * frequent than others (2^64 mod bound of them) are drawn again. */
uint64_t io_random_below(struct io *io, uint64_t bound)
{
    CHECK(bound > 0);
    unsigned __int128 product = (unsigned __int128)io_random(io) * bound;
    if ((uint64_t)product < bound) {
        uint64_t excess = (0 - bound) % bound;
        while ((uint64_t)product < excess)
            product = (unsigned __int128)io_random(io) * bound;
    }
    return (uint64_t)(product >> 64);
}

/* splitmix64: never gives the all-zero state that xoshiro could not leave. */
void io_random_seed(struct io *io, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_LEN(io->random); i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        io->random[i] = z ^ (z >> 31);
    }
}

/* The 12 bytes before the address in an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2). */
static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void addr_set_v4(struct io_addr *a, const void *ip4)
{
    memcpy(a->ip, v4_mapped, sizeof(v4_mapped));
    memcpy(a->ip + 12, ip4, 4);
    a->family = AF_INET;
}

/* An IPv4 peer of a dual-stack socket is told like one of an IPv4 socket. */
static void addr_set_v6(struct io_addr *a, const void *ip6)
{
    memcpy(a->ip, ip6, sizeof(a->ip));
    a->family = memcmp(ip6, v4_mapped, sizeof(v4_mapped)) == 0 ? AF_INET : AF_INET6;
}

void io_addr_format(const struct io_addr *a, char *text)
{
    char ip[INET6_ADDRSTRLEN];

    switch (a->family) {
    case AF_INET:
        inet_ntop(AF_INET, a->ip + 12, ip, sizeof(ip));
        snprintf(text, IO_ADDR_TEXT_MAX, "%s:%u", ip, a->port);
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, a->ip, ip, sizeof(ip));
        snprintf(text, IO_ADDR_TEXT_MAX, "[%s]:%u", ip, a->port);
        break;
    case AF_UNIX:
        snprintf(text, IO_ADDR_TEXT_MAX, "unix");
        break;
    default:
        snprintf(text, IO_ADDR_TEXT_MAX, "unknown");
        break;
    }
}

void io_addr_from_sockaddr(struct io_addr *a, const struct sockaddr *sa, socklen_t len)
{
    memset(a, 0, sizeof(*a));
    if (len < sizeof(sa->sa_family))
        return;
    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *sin = (const void *)sa;
        addr_set_v4(a, &sin->sin_addr);
        a->port = ntohs(sin->sin_port);
    } else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *sin6 = (const void *)sa;
        addr_set_v6(a, &sin6->sin6_addr);
        a->port = ntohs(sin6->sin6_port);
    } else if (sa->sa_family == AF_UNIX) {
        a->family = AF_UNIX;
    }
}

socklen_t io_addr_to_sockaddr(const struct io_addr *a, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof(*ss));
    ss->ss_family = a->family;
    if (a->family == AF_INET) {
        struct sockaddr_in *sin = (void *)ss;
        memcpy(&sin->sin_addr, a->ip + 12, 4);
        sin->sin_port = htons(a->port);
        return sizeof(*sin);
    }
    if (a->family == AF_INET6) {
        struct sockaddr_in6 *sin6 = (void *)ss;
        memcpy(&sin6->sin6_addr, a->ip, sizeof(a->ip));
        sin6->sin6_port = htons(a->port);
        return sizeof(*sin6);
    }
    return sizeof(ss->ss_family);
}

int io_addr_parse(struct io_addr *a, const char *text, uint16_t port)
{
    char ip[INET6_ADDRSTRLEN];
    size_t len = strlen(text);
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    uint8_t raw[16];

    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof(ip))
        return -EINVAL;
    memcpy(ip, text, len);
    ip[len] = '\0';

    memset(a, 0, sizeof(*a));
    if (!bracketed && inet_pton(AF_INET, ip, raw) == 1)
        addr_set_v4(a, raw);
    else if (inet_pton(AF_INET6, ip, raw) == 1)
        addr_set_v6(a, raw);
    else
        return -EINVAL;
    a->port = port;
    return 0;
}
