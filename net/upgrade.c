/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The opening handshake of WebSocket, server side. Pure, any thread. */

#include "net/upgrade.h"

#include <string.h>
#include <strings.h>

/* wolfSSL's own switches come before all of its headers. */
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/coding.h>
#include <wolfssl/wolfcrypt/hash.h>

enum {
    KEY_CHARS = 24, /* 16 bytes in Base64: 22 characters and "==" */
    KEY_DIGITS = 22,
    SHA1_BYTES = 20,
    ACCEPT_CHARS = 28,
};

static int refuse(struct upgrade *out, int status, const char *problem)
{
    out->problem = problem;
    return status;
}

static int check_version(const struct http_request *req, struct upgrade *out);
static int check_key(const struct http_request *req, struct upgrade *out);
static int check_origin(const struct http_request *req, const struct upgrade_policy *policy,
                        struct upgrade *out);
static int choose_subprotocol(const struct http_request *req, const struct upgrade_policy *policy,
                              struct upgrade *out);
static int choose_extensions(const struct http_request *req, const struct upgrade_policy *policy,
                             struct upgrade *out);

int upgrade_check(const struct http_request *req, const struct upgrade_policy *policy,
                  struct upgrade *out)
{
    memset(out, 0, sizeof *out);
    if (req->method != HTTP_GET) /* RFC 6455 4.2.1 */
        return refuse(out, 405, "an upgrade must be a GET");
    if (req->has_body)
        return refuse(out, 400, "an upgrade has no body");
    int status = check_version(req, out);
    if (status == 101)
        status = check_key(req, out);
    if (status == 101)
        status = check_origin(req, policy, out);
    if (status == 101)
        status = choose_subprotocol(req, policy, out);
    if (status == 101)
        status = choose_extensions(req, policy, out);
    return status;
}

/* The field of which there may be only one. False: there are more. */
static bool single_header(const struct http_request *req, const char *name,
                          const struct http_header **h)
{
    uint32_t index = 0;
    *h = http_header_next(req, name, &index);
    return *h == NULL || http_header_next(req, name, &index) == NULL;
}

static int check_version(const struct http_request *req, struct upgrade *out)
{
    const struct http_header *h;
    if (!single_header(req, "sec-websocket-version", &h)) /* RFC 6455 11.3.5 */
        return refuse(out, 400, "Sec-WebSocket-Version repeated");
    if (h == NULL)
        return refuse(out, 400, "Sec-WebSocket-Version missing");
    if (!http_token_is(h->value, h->value_len, "13")) /* RFC 6455 4.4 */
        return refuse(out, 426, "only version 13 of WebSocket is spoken here");
    return 101;
}

/* 16 bytes in Base64 (RFC 6455 4.1); their value means nothing. */
static bool is_key(const struct http_header *h)
{
    if (h->value_len != KEY_CHARS || memcmp(h->value + KEY_DIGITS, "==", 2) != 0)
        return false;
    for (int i = 0; i < KEY_DIGITS; i++) {
        char c = h->value[i], lower = c | 0x20;
        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

/* RFC 6455 4.2.2: SHA-1 over the key and a constant, in Base64. */
static bool compute_accept(const char *key, char accept[ACCEPT_CHARS + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[KEY_CHARS + sizeof guid - 1], digest[SHA1_BYTES];
    word32 len = ACCEPT_CHARS + 1;
    memcpy(text, key, KEY_CHARS);
    memcpy(text + KEY_CHARS, guid, sizeof guid - 1);
    if (wc_ShaHash(text, sizeof text, digest) != 0 ||
        Base64_Encode_NoNl(digest, sizeof digest, (uint8_t *)accept, &len) != 0)
        return false;
    accept[ACCEPT_CHARS] = '\0';
    return len == ACCEPT_CHARS;
}

static int check_key(const struct http_request *req, struct upgrade *out)
{
    const struct http_header *h;
    if (!single_header(req, "sec-websocket-key", &h)) /* RFC 6455 11.3.1 */
        return refuse(out, 400, "Sec-WebSocket-Key repeated");
    if (h == NULL)
        return refuse(out, 400, "Sec-WebSocket-Key missing");
    if (!is_key(h))
        return refuse(out, 400, "Sec-WebSocket-Key is not 16 bytes in Base64");
    return compute_accept(h->value, out->accept) ? 101 : refuse(out, 500, "no SHA-1");
}

/* Origins ------------------------------------------------------------------------------------- */

/* An origin, or an entry of the allow-list, taken apart (RFC 6454 6.2). */
struct origin {
    const char *scheme, *host;
    size_t scheme_len, host_len; /* scheme_len 0: not said */
    uint32_t port;               /* 0: not said */
};

static bool same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

/* "host", "host:port", "[::1]:port". False when the port is none or there is more behind. */
static bool parse_host_port(const char *p, size_t len, struct origin *o)
{
    const char *end = p + len, *from = p;
    if (len > 0 && *p == '[') {
        const char *bracket = memchr(p, ']', len);
        if (bracket == NULL)
            return false;
        from = bracket + 1;
    }
    const char *colon = memchr(from, ':', (size_t)(end - from));
    o->host = p;
    o->host_len = (size_t)((colon != NULL ? colon : end) - p);
    o->port = 0;
    for (const char *c = colon != NULL ? colon + 1 : end; c < end; c++) {
        if (*c < '0' || *c > '9' || o->port > UINT16_MAX)
            return false;
        o->port = o->port * 10 + (uint32_t)(*c - '0');
    }
    return o->host_len > 0 && o->port <= UINT16_MAX;
}

static bool parse_origin(const char *p, size_t len, struct origin *o)
{
    const char *mark = memmem(p, len, "://", 3);
    o->scheme = p;
    o->scheme_len = mark != NULL ? (size_t)(mark - p) : 0;
    if (mark == p)
        return false;
    const char *authority = mark != NULL ? mark + 3 : p;
    return parse_host_port(authority, len - (size_t)(authority - p), o);
}

/* Of the schemes that pages come by; 0 for others. */
static uint32_t default_port(const struct origin *o)
{
    if (http_token_is(o->scheme, o->scheme_len, "http"))
        return 80;
    return http_token_is(o->scheme, o->scheme_len, "https") ? 443 : 0;
}

/* Whether two ports are the same, where none is said: the default one. */
static bool same_port(uint32_t a, uint32_t b, uint32_t default_is)
{
    return (a != 0 ? a : default_is) == (b != 0 ? b : default_is);
}

/* Whether host is allowed by the pattern: equal, or below "*.name". */
static bool host_matches(const struct origin *allowed, const struct origin *o)
{
    if (allowed->host_len < 2 || memcmp(allowed->host, "*.", 2) != 0)
        return same_text(allowed->host, allowed->host_len, o->host, o->host_len);
    size_t suffix_len = allowed->host_len - 1; /* with its dot */
    return o->host_len > suffix_len &&
           same_text(allowed->host + 1, suffix_len, o->host + o->host_len - suffix_len, suffix_len);
}

/* An entry without a scheme is meant for pages, by http and https. */
static bool scheme_matches(const struct origin *allowed, const struct origin *o)
{
    if (allowed->scheme_len == 0)
        return default_port(o) != 0;
    return same_text(allowed->scheme, allowed->scheme_len, o->scheme, o->scheme_len);
}

static bool entry_allows(const char *entry, const struct http_header *h)
{
    struct origin allowed, o;
    if (strcmp(entry, "*") == 0)
        return true;
    if (strcmp(entry, "null") == 0) /* the opaque origin: RFC 6454 7.1 */
        return http_token_is(h->value, h->value_len, "null");
    if (!parse_origin(entry, strlen(entry), &allowed) || !parse_origin(h->value, h->value_len, &o))
        return false;
    return o.scheme_len > 0 && scheme_matches(&allowed, &o) && host_matches(&allowed, &o) &&
           same_port(allowed.port, o.port, default_port(&o));
}

/* The default: the page comes from the host and port that it connects to. Which scheme that is,
 * behind a balancer, is not known here; where no port is said, the Origin's scheme says it. */
static bool is_same_host(const struct http_request *req, const struct http_header *h)
{
    struct origin host, o;
    return parse_origin(h->value, h->value_len, &o) && default_port(&o) != 0 &&
           parse_host_port(req->host, req->host_len, &host) &&
           same_text(host.host, host.host_len, o.host, o.host_len) &&
           same_port(host.port, o.port, default_port(&o));
}

static int check_origin(const struct http_request *req, const struct upgrade_policy *policy,
                        struct upgrade *out)
{
    const struct http_header *h;
    if (!single_header(req, "origin", &h)) /* RFC 6454 7.3 */
        return refuse(out, 400, "Origin repeated");
    if (h == NULL) /* not a browser: nothing that an Origin could protect */
        return 101;
    bool allowed = policy->allow_origin_count == 0 && is_same_host(req, h);
    for (uint32_t i = 0; i < policy->allow_origin_count && !allowed; i++)
        allowed = entry_allows(policy->allow_origin[i], h);
    return allowed ? 101 : refuse(out, 403, "Origin not allowed");
}

/* Subprotocols and extensions ----------------------------------------------------------------- */

/* 1#token over all fields of the name (RFC 6455 4.3); *wanted is set when it is among them. */
static bool scan_subprotocols(const struct http_request *req, const char *wanted, bool *found)
{
    uint32_t index = 0;
    const struct http_header *h;
    *found = false;
    while ((h = http_header_next(req, "sec-websocket-protocol", &index)) != NULL) {
        const char *at = h->value, *element;
        size_t len, count = 0;
        for (; http_list_next(&at, h->value + h->value_len, &element, &len); count++) {
            if (!http_is_token(element, len))
                return false;
            if (wanted != NULL && strlen(wanted) == len && memcmp(wanted, element, len) == 0)
                *found = true;
        }
        if (count == 0)
            return false;
    }
    return true;
}

/* The first of ours that the client offers, in our order; none is no failure (RFC 6455 4.2.2). */
static int choose_subprotocol(const struct http_request *req, const struct upgrade_policy *policy,
                              struct upgrade *out)
{
    bool found;
    if (!scan_subprotocols(req, NULL, &found))
        return refuse(out, 400, "malformed Sec-WebSocket-Protocol");
    for (uint32_t i = 0; i < policy->subprotocol_count && out->subprotocol == NULL; i++)
        if (scan_subprotocols(req, policy->subprotocols[i], &found) && found)
            out->subprotocol = policy->subprotocols[i];
    return 101;
}

/* Malformed offers fail the handshake even where none would be taken (RFC 6455 9.1). */
static int choose_extensions(const struct http_request *req, const struct upgrade_policy *policy,
                             struct upgrade *out)
{
    uint32_t index = 0;
    const struct http_header *h;
    while ((h = http_header_next(req, "sec-websocket-extensions", &index)) != NULL)
        if (!deflate_negotiate(h->value, h->value_len, &out->deflate))
            return refuse(out, 400, "malformed Sec-WebSocket-Extensions");
    if (!policy->compress)
        out->deflate = (struct deflate_params){0};
    return 101;
}

/* The answer ---------------------------------------------------------------------------------- */

uint32_t upgrade_response(const struct upgrade *u, char *out)
{
    char *p = stpcpy(out, "HTTP/1.1 101 Switching Protocols\r\n"
                          "Upgrade: websocket\r\n"
                          "Connection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: ");
    p = stpcpy(p, u->accept);
    if (u->subprotocol != NULL) {
        CHECK(strlen(u->subprotocol) <= UPGRADE_SUBPROTOCOL_MAX);
        p = stpcpy(p, "\r\nSec-WebSocket-Protocol: ");
        p = stpcpy(p, u->subprotocol);
    }
    if (u->deflate.accepted) {
        p = stpcpy(p, "\r\nSec-WebSocket-Extensions: ");
        p += deflate_answer(&u->deflate, p);
    }
    p = stpcpy(p, "\r\n\r\n");
    return (uint32_t)(p - out);
}
