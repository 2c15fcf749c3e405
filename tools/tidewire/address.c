/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Texts of addresses to listen on, and what is reached through them. Pure, any thread. */

#include "tools/tidewire/address.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/options.h"

#define UNIX_PREFIX "unix:"

static int parse_unix(const char *path, struct address *a)
{
    size_t len = strlen(path);
    if (len == 0 || len > ADDRESS_PATH_MAX)
        return -EINVAL;
    *a = (struct address){.addr.family = AF_UNIX, .path = path};
    return 0;
}

int address_parse(const char *text, uint16_t port, struct address *a)
{
    if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
        return parse_unix(text + strlen(UNIX_PREFIX), a);
    struct address parsed = {0};
    int err = io_addr_parse(&parsed.addr, text, port);
    if (err == 0)
        *a = parsed;
    return err;
}

/* 0 to 65535, digits only. */
static int parse_port(const char *text, uint16_t *port)
{
    uint32_t n = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        n = n * 10 + (uint32_t)(text[i] - '0');
    }
    if (n > UINT16_MAX)
        return -EINVAL;
    *port = (uint16_t)n;
    return 0;
}

int address_parse_with_port(const char *text, struct address *a)
{
    if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
        return parse_unix(text + strlen(UNIX_PREFIX), a);
    const char *colon = strrchr(text, ':');
    uint16_t port = 0;
    char host[OPTIONS_TEXT_MAX + 1];
    if (colon == NULL || parse_port(colon + 1, &port) != 0)
        return -EINVAL;
    size_t host_len = (size_t)(colon - text);
    if (host_len >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, host_len);
    host[host_len] = 0;
    /* An IPv6 address without brackets would take its last group for the port. */
    if (host[0] != '[' && strchr(host, ':') != NULL)
        return -EINVAL;
    return address_parse(host, port, a);
}

bool address_is_loopback(const struct address *a)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    static const uint8_t mapped4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    if (a->addr.family == AF_UNIX)
        return true;
    return memcmp(a->addr.ip, loopback6, sizeof(loopback6)) == 0 ||
           memcmp(a->addr.ip, mapped4, sizeof(mapped4)) == 0;
}

/* 0.0.0.0 takes all of IPv4, [::] everything: see io_socket_listen(). */
static bool takes(const struct io_addr *a, const struct io_addr *b)
{
    static const uint8_t any6[16];
    static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};

    return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 || memcmp(a->ip, any6, sizeof(any6)) == 0 ||
           (memcmp(a->ip, any4, sizeof(any4)) == 0 && b->family == AF_INET);
}

bool address_overlaps(const struct address *a, const struct address *b)
{
    if (a->path != NULL || b->path != NULL)
        return a->path != NULL && b->path != NULL && strcmp(a->path, b->path) == 0;
    return a->addr.port != 0 && a->addr.port == b->addr.port &&
           (takes(&a->addr, &b->addr) || takes(&b->addr, &a->addr));
}
