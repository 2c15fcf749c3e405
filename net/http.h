/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_HTTP_H
#define NET_HTTP_H

/* Request heads of HTTP/1.1 (RFC 9112): incremental, zero-copy, bounded, strict on what enables
 * smuggling. Pure, any thread; no memory of its own.
 *
 * The caller collects bytes and calls http_head_find() with all of them; it resumes where it
 * stopped and says as early as it can that a head is too long or malformed. When the head is
 * complete http_head_parse() makes views of it, valid as long as the bytes are. */

#include <stdbool.h>

#include "core/base.h"

#define HTTP_HEADERS_MAX 128 /* the most that --max-headers can allow */

enum http_result {
    HTTP_MORE = 0,
    HTTP_OK = 1,
    /* else the status code of the answer: */
    HTTP_BAD_REQUEST = 400,
    HTTP_URI_TOO_LONG = 414,
    HTTP_HEAD_TOO_LARGE = 431,
    HTTP_NOT_IMPLEMENTED = 501,       /* CONNECT, or no method of RFC 9110 9.3 or PATCH */
    HTTP_VERSION_NOT_SUPPORTED = 505, /* major version other than 1 */
};

struct http_limits {
    uint32_t max_head_bytes;   /* request line and all fields with the empty line; up to 65535 */
    uint32_t max_headers;      /* <= HTTP_HEADERS_MAX */
    uint32_t max_target_bytes; /* request target; over it: 414. 0: max_head_bytes / 2 */
};

/* Progress of http_head_find(); all zero at the beginning. */
struct http_scan {
    uint32_t seen; /* bytes already looked at */
    uint8_t state; /* the .c's */
};

struct http_header {
    const char *name;  /* as sent; compare with http_name_is() */
    const char *value; /* optional white space around it removed */
    uint16_t name_len;
    uint16_t value_len;
};

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS, HTTP_OTHER };

struct http_request {
    uint8_t method;  /* enum http_method; PUT, DELETE, ... are HTTP_OTHER, known to RFC 9110 */
    uint8_t minor;   /* HTTP/1.minor: 0 or 1 */
    bool keep_alive; /* RFC 9112 9.3 */
    bool has_body;   /* Content-Length over 0 or Transfer-Encoding: chunked */
    bool chunked;
    bool upgrade_websocket; /* HTTP/1.1, Connection has `upgrade`, Upgrade has `websocket` */
    uint64_t content_length;
    /* Views of the head, but for the constant "/" of an absolute-form without a path. */
    const char *target;  /* origin-form as sent; absolute-form reduced to it (RFC 9112 3.2.2);
                            "*" only with OPTIONS */
    const char *path;    /* target up to '?' */
    const char *query;   /* behind '?'; length 0 when there is none */
    const char *host;    /* with its port, as sent; of an absolute-form: that of the target.
                            Length 0: HTTP/1.0 without Host */
    const char *problem; /* on a refusal: constant text for the answer's body and the log */
    uint16_t target_len, path_len, query_len, host_len;
    uint16_t header_count;
    struct http_header headers[HTTP_HEADERS_MAX];
};

/* Looks for the end of the head in p[0..len). HTTP_OK: *head_len bytes are the head (the rest
 * belongs to what follows). HTTP_MORE, or a refusal: a bare LF or CR, NUL, too long (431, or 414
 * when the request line alone is). Empty lines before the request line are skipped (RFC 9112 2.2),
 * at most 2. The limits may be lowered between two calls. */
enum http_result http_head_find(struct http_scan *s, const struct http_limits *limits,
                                const uint8_t *p, size_t len, size_t *head_len);

/* Parses a complete head. HTTP_OK or a refusal with req->problem. */
enum http_result http_head_parse(const uint8_t *p, size_t head_len,
                                 const struct http_limits *limits, struct http_request *req);

/* The first field of that name (lower-case ASCII in `name`), or NULL. */
const struct http_header *http_header(const struct http_request *req, const char *name);

/* Walks all fields of that name: *index starts at 0. NULL at the end. */
const struct http_header *http_header_next(const struct http_request *req, const char *name,
                                           uint32_t *index);

bool http_name_is(const struct http_header *h, const char *lower_name);

/* Walks a comma-separated list (RFC 9110 5.6.1): *at starts as the value's first byte; the next
 * element without white space, empty ones skipped. Quoted strings are kept whole. False at the end.
 */
bool http_list_next(const char **at, const char *end, const char **element, size_t *len);

/* Whether it is a token (RFC 9110 5.6.2), at least one character. */
bool http_is_token(const char *p, size_t len);

/* ASCII case-insensitive comparison with a zero-terminated text. */
bool http_token_is(const char *p, size_t len, const char *text);

/* Percent-decodes into out (len bytes are enough). Returns the length, or -1 for a bad escape. */
int32_t http_percent_decode(const char *p, size_t len, uint8_t *out);

/* Finds `key` in a query string (`a=1&b=2`); *value is a view, still encoded. */
bool http_query_get(const char *query, size_t query_len, const char *key, const char **value,
                    size_t *value_len);

/* "Not Found" and so on; "Unknown" for others. */
const char *http_status_text(int status);

#endif
