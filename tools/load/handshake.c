/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The opening handshake, client side. Pure, any thread. */

#include "tools/load/handshake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define OFFER                                                                                      \
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "                   \
    "client_no_context_takeover\r\n"

uint32_t handshake_request(char *out, const char *host, const char *path, bool compress)
{
    int len = snprintf(out, HANDSHAKE_REQUEST_MAX,
                       "GET %s HTTP/1.1\r\n"
                       "Host: %s\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: " KEY "\r\n"
                       "%s\r\n",
                       path, host, compress ? OFFER : "");

    CHECK(len < HANDSHAKE_REQUEST_MAX);
    return (uint32_t)len;
}

size_t handshake_head_len(const uint8_t *p, size_t len)
{
    static const char mark[] = "\r\n\r\n";
    const uint8_t *end = memmem(p, len, mark, sizeof(mark) - 1);

    return end == NULL ? 0 : (size_t)(end - p) + sizeof(mark) - 1;
}

/* A field's value, without blanks around it. */
struct value {
    const char *ptr;
    size_t len;
};

/* The first field of that name; len 0 and ptr NULL: there is none. */
static struct value find_field(const char *head, size_t len, const char *name)
{
    const char *end = head + len;
    size_t name_len = strlen(name);

    for (const char *line = memchr(head, '\n', len); line != NULL && ++line < end;
         line = memchr(line, '\n', (size_t)(end - line))) {
        if ((size_t)(end - line) <= name_len || strncasecmp(line, name, name_len) != 0 ||
            line[name_len] != ':')
            continue;
        const char *p = line + name_len + 1;
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        if (stop == NULL)
            break;
        while (p < stop && (*p == ' ' || *p == '\t'))
            p++;
        while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        return (struct value){p, (size_t)(stop - p)};
    }
    return (struct value){0};
}

static bool value_is(struct value v, const char *text)
{
    return v.len == strlen(text) && strncasecmp(v.ptr, text, v.len) == 0;
}

static bool value_has(struct value v, const char *text)
{
    return v.ptr != NULL && memmem(v.ptr, v.len, text, strlen(text)) != NULL;
}

/* RFC 7692 7.1.1: the server takes over no context only if it says so, and our inflater begins each
 * message with an empty window. */
static const char *check_extensions(struct value v, bool compress, bool *compressed)
{
    *compressed = false;
    if (v.ptr == NULL)
        return compress ? "the server declines permessage-deflate" : NULL;
    if (!compress || !value_has(v, "permessage-deflate"))
        return "an extension that was not offered";
    if (!value_has(v, "server_no_context_takeover"))
        return "permessage-deflate with context takeover, which was declined";
    if (value_has(v, "client_max_window_bits"))
        return "client_max_window_bits, which was not offered";
    *compressed = true;
    return NULL;
}

void handshake_read(const uint8_t *bytes, size_t len, bool compress, struct handshake_answer *a)
{
    const char *head = (const char *)bytes;

    *a = (struct handshake_answer){.problem = "no HTTP/1.1 status line"};
    if (len < 13 || strncmp(head, "HTTP/1.", 7) != 0)
        return;
    a->status = atoi(head + 9);
    a->problem = NULL;
    if (a->status != 101)
        a->problem = "no upgrade";
    else if (!value_is(find_field(head, len, "Upgrade"), "websocket"))
        a->problem = "no Upgrade: websocket";
    else if (!value_is(find_field(head, len, "Sec-WebSocket-Accept"), ACCEPT))
        a->problem = "a wrong or missing Sec-WebSocket-Accept";
    else
        a->problem = check_extensions(find_field(head, len, "Sec-WebSocket-Extensions"), compress,
                                      &a->compressed);
}
