/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The PROXY protocol, both versions, and the networks that may speak it. Pure, any thread. */

#include "net/proxy_header.h"

#include <errno.h>
#include <string.h>

#include <arpa/inet.h>
#include <sys/socket.h>

enum {
    V1_MAX = 107, /* with its CR LF */
    V1_FIELDS = 6,
    V2_HEAD = 16,
    V2_SIGNATURE = 12,
    V2_LEN_IPV4 = 12,
    V2_LEN_IPV6 = 36,
    V2_LEN_UNIX = 216,
    IPV4_IN_IPV6 = 12, /* bytes before the IPv4 address in its mapped form */
};

static const char v1_start[] = "PROXY ";
static const uint8_t v2_start[V2_SIGNATURE] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                               0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};
static const uint8_t mapped_prefix[IPV4_IN_IPV6] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static enum proxy_result parse_v1(const uint8_t *p, size_t len, size_t *consumed,
                                  struct io_addr *peer);
static enum proxy_result parse_v2(const uint8_t *p, size_t len, size_t *consumed,
                                  struct io_addr *peer);

enum proxy_result proxy_header_parse(const uint8_t *p, size_t len, size_t *consumed,
                                     struct io_addr *peer)
{
    if (len == 0)
        return PROXY_MORE;
    return p[0] == v2_start[0] ? parse_v2(p, len, consumed, peer)
                               : parse_v1(p, len, consumed, peer);
}

static bool is_mapped(const uint8_t ip[16])
{
    return memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0;
}

static struct io_addr ipv4_addr(const uint8_t ip[4], uint16_t port)
{
    struct io_addr a = {.port = port, .family = AF_INET};
    memcpy(a.ip, mapped_prefix, sizeof mapped_prefix);
    memcpy(a.ip + IPV4_IN_IPV6, ip, 4);
    return a;
}

/* An IPv4 address in IPv6 clothes is one. */
static struct io_addr ipv6_addr(const uint8_t ip[16], uint16_t port)
{
    struct io_addr a = {.port = port, .family = is_mapped(ip) ? AF_INET : AF_INET6};
    memcpy(a.ip, ip, sizeof a.ip);
    return a;
}

/* Version 1: one line of text ------------------------------------------------------------------ */

/* Decimal, 16 bits, no leading zeros. */
static bool parse_number(const char *text, uint16_t *number)
{
    uint32_t v = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5 || (text[0] == '0' && len > 1))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(text[i] - '0');
    }
    *number = (uint16_t)v;
    return v <= UINT16_MAX;
}

/* Cuts the line at its single blanks. Returns how many fields there are; more than V1_FIELDS count
 * as one more. */
static uint32_t split_v1(char *line, char *fields[V1_FIELDS])
{
    uint32_t n = 0;
    for (char *field; (field = strsep(&line, " ")) != NULL; n++) {
        if (n == V1_FIELDS)
            return n + 1;
        fields[n] = field;
    }
    return n;
}

/* "PROXY TCP4 source destination source-port destination-port" */
static bool parse_v1_line(char *line, struct io_addr *peer)
{
    char *fields[V1_FIELDS];
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    if (split_v1(line, fields) != V1_FIELDS)
        return false;
    bool ipv4 = strcmp(fields[1], "TCP4") == 0;
    int family = ipv4 ? AF_INET : AF_INET6;
    if (!ipv4 && strcmp(fields[1], "TCP6") != 0)
        return false;
    if (inet_pton(family, fields[2], source) != 1 || inet_pton(family, fields[3], destination) != 1)
        return false;
    if (!parse_number(fields[4], &source_port) || !parse_number(fields[5], &destination_port))
        return false;
    *peer = ipv4 ? ipv4_addr(source, source_port) : ipv6_addr(source, source_port);
    return true;
}

static enum proxy_result parse_v1(const uint8_t *p, size_t len, size_t *consumed,
                                  struct io_addr *peer)
{
    char line[V1_MAX + 1];
    if (memcmp(p, v1_start, min_size(len, sizeof v1_start - 1)) != 0)
        return PROXY_INVALID;
    const uint8_t *lf = memchr(p, '\n', min_size(len, V1_MAX));
    if (lf == NULL)
        return len < V1_MAX ? PROXY_MORE : PROXY_INVALID;
    size_t text_len = (size_t)(lf - p) - 1;
    if (lf[-1] != '\r' || memchr(p, '\0', text_len) != NULL)
        return PROXY_INVALID;
    memcpy(line, p, text_len);
    line[text_len] = '\0';
    /* What follows UNKNOWN is to be ignored. */
    bool unknown = strcmp(line, "PROXY UNKNOWN") == 0 || strncmp(line, "PROXY UNKNOWN ", 14) == 0;
    if (!unknown && !parse_v1_line(line, peer))
        return PROXY_INVALID;
    *consumed = (size_t)(lf - p) + 1;
    return PROXY_OK;
}

/* Version 2: binary ---------------------------------------------------------------------------- */

static uint16_t big_endian_16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* What the head may say: version 2 and LOCAL or PROXY; a family, for PROXY with its length. */
static bool is_v2_head_good(const uint8_t *p, size_t len)
{
    if (len > 12 && p[12] != 0x20 && p[12] != 0x21)
        return false;
    bool local = len > 12 && p[12] == 0x20; /* whose family and addresses mean nothing */
    /* Unspecified, or a stream over IPv4, IPv6 or a Unix socket: nothing else arrives here. */
    if (len > 13 && !local && p[13] != 0x00 && p[13] != 0x11 && p[13] != 0x21 && p[13] != 0x31)
        return false;
    if (len < V2_HEAD)
        return true;
    static const uint8_t address_bytes[] = {0, V2_LEN_IPV4, V2_LEN_IPV6, V2_LEN_UNIX};
    uint16_t rest = big_endian_16(p + 14);
    return rest <= PROXY_HEADER_MAX - V2_HEAD && (local || rest >= address_bytes[p[13] >> 4]);
}

static enum proxy_result parse_v2(const uint8_t *p, size_t len, size_t *consumed,
                                  struct io_addr *peer)
{
    if (memcmp(p, v2_start, min_size(len, V2_SIGNATURE)) != 0 || !is_v2_head_good(p, len))
        return PROXY_INVALID;
    if (len < V2_HEAD || len < V2_HEAD + (size_t)big_endian_16(p + 14))
        return PROXY_MORE;
    *consumed = V2_HEAD + (size_t)big_endian_16(p + 14);
    if (p[12] == 0x20)
        return PROXY_OK;
    const uint8_t *source = p + V2_HEAD;
    if (p[13] == 0x11)
        *peer = ipv4_addr(source, big_endian_16(source + 8));
    else if (p[13] == 0x21)
        *peer = ipv6_addr(source, big_endian_16(source + 32));
    else if (p[13] == 0x31)
        *peer = (struct io_addr){.family = AF_UNIX};
    return PROXY_OK;
}

/* Networks ------------------------------------------------------------------------------------ */

/* The address in front of the slash. 0 or -EINVAL. */
static int parse_net_address(const char *text, size_t len, struct proxy_net *net)
{
    char address[INET6_ADDRSTRLEN];
    uint8_t ip[4];
    if (len >= sizeof address)
        return -EINVAL;
    memcpy(address, text, len);
    address[len] = '\0';
    if (inet_pton(AF_INET, address, ip) == 1) {
        net->family = AF_INET;
        memcpy(net->ip, ipv4_addr(ip, 0).ip, sizeof net->ip);
        return 0;
    }
    net->family = AF_INET6;
    return inet_pton(AF_INET6, address, net->ip) == 1 ? 0 : -EINVAL;
}

static void clear_host_bits(struct proxy_net *net)
{
    for (uint32_t bit = net->prefix_bits; bit < 8 * sizeof net->ip; bit++)
        net->ip[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

int proxy_net_parse(const char *text, struct proxy_net *net)
{
    *net = (struct proxy_net){0};
    if (strcmp(text, "unix") == 0) {
        net->family = AF_UNIX;
        return 0;
    }
    const char *slash = strchr(text, '/');
    size_t address_len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (parse_net_address(text, address_len, net) != 0)
        return -EINVAL;
    uint16_t bits_max = net->family == AF_INET ? 32 : 128, bits = bits_max;
    if (slash != NULL && (!parse_number(slash + 1, &bits) || bits > bits_max))
        return -EINVAL;
    net->prefix_bits = (uint8_t)(bits + (128 - bits_max));
    clear_host_bits(net);
    if (is_mapped(net->ip))
        net->family = AF_INET;
    return 0;
}

bool proxy_net_has(const struct proxy_net *net, const struct io_addr *a)
{
    if (a->family == AF_UNIX || net->family == AF_UNIX)
        return a->family == net->family;
    if (a->family == 0 || is_mapped(a->ip) != (net->family == AF_INET))
        return false;
    size_t whole = net->prefix_bits / 8, bits = net->prefix_bits % 8;
    if (memcmp(net->ip, a->ip, whole) != 0)
        return false;
    return bits == 0 || (net->ip[whole] ^ a->ip[whole]) >> (8 - bits) == 0;
}
