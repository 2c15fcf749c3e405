/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Heads of HTTP/1.1 requests. Pure, any thread.
 *
 * Finding the end of a head and parsing it are two passes. The first sees each byte once, however
 * the head is cut, and keeps to its shape: lines that end with CR LF, a name at the beginning of
 * each, no NUL. The second has the whole head before it and is plain code. Where RFC 9112 lets a
 * server be lenient, this one is not: what two programs in a row might read differently is
 * refused. */

#include "net/http.h"

#include <string.h>
#include <strings.h>

enum {
    HEAD_BYTES_CAP = UINT16_MAX, /* lengths of views have 16 bits */
    EMPTY_LINES_MAX = 2,         /* before a request line: RFC 9112 2.2 */
    LINE_EXTRA_BYTES = 64,       /* a request line's method, version, blanks, and empty lines */
};

/* Classes of characters ----------------------------------------------------------------------- */

enum char_class { CLASS_OTHER, CLASS_TOKEN, CLASS_BLANK, CLASS_NUL, CLASS_CR, CLASS_LF, CLASSES };

/* Token characters are those of RFC 9110 5.6.2. */
static const uint8_t class_of[256] = {
    ['\0'] = CLASS_NUL,          ['\t'] = CLASS_BLANK,
    [' '] = CLASS_BLANK,         ['\r'] = CLASS_CR,
    ['\n'] = CLASS_LF,           ['0' ... '9'] = CLASS_TOKEN,
    ['A' ... 'Z'] = CLASS_TOKEN, ['a' ... 'z'] = CLASS_TOKEN,
    ['!'] = CLASS_TOKEN,         ['#' ... '\''] = CLASS_TOKEN,
    ['*'] = CLASS_TOKEN,         ['+'] = CLASS_TOKEN,
    ['-'] = CLASS_TOKEN,         ['.'] = CLASS_TOKEN,
    ['^' ... '`'] = CLASS_TOKEN, ['|'] = CLASS_TOKEN,
    ['~'] = CLASS_TOKEN,
};

static bool is_token_char(char c)
{
    return class_of[(uint8_t)c] == CLASS_TOKEN;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Finding the end ----------------------------------------------------------------------------- */

/* BEFORE_n: n empty lines were skipped; the request line's states come before NAME. */
enum scan_state {
    BEFORE_0,
    BEFORE_0_CR,
    BEFORE_1,
    BEFORE_1_CR,
    BEFORE_2,
    LINE,
    LINE_CR,
    NAME, /* at the beginning of a field line, or of the empty line */
    FIELD,
    FIELD_CR,
    END_CR,
    DONE,
    BAD,
};

/* Rows: state; columns: other, token, blank, NUL, CR, LF. A blank at the beginning of a line would
 * be an obs-fold (RFC 9112 5.2) or a field without a name. */
static const uint8_t next_state[BAD][CLASSES] = {
    [BEFORE_0] = {BAD, LINE, BAD, BAD, BEFORE_0_CR, BAD},
    [BEFORE_0_CR] = {BAD, BAD, BAD, BAD, BAD, BEFORE_1},
    [BEFORE_1] = {BAD, LINE, BAD, BAD, BEFORE_1_CR, BAD},
    [BEFORE_1_CR] = {BAD, BAD, BAD, BAD, BAD, BEFORE_2},
    [BEFORE_2] = {BAD, LINE, BAD, BAD, BAD, BAD},
    [LINE] = {LINE, LINE, LINE, BAD, LINE_CR, BAD},
    [LINE_CR] = {BAD, BAD, BAD, BAD, BAD, NAME},
    [NAME] = {BAD, FIELD, BAD, BAD, END_CR, BAD},
    [FIELD] = {FIELD, FIELD, FIELD, BAD, FIELD_CR, BAD},
    [FIELD_CR] = {BAD, BAD, BAD, BAD, BAD, NAME},
    [END_CR] = {BAD, BAD, BAD, BAD, BAD, DONE},
    [DONE] = {BAD, BAD, BAD, BAD, BAD, BAD},
};

static size_t target_bytes_max(const struct http_limits *limits)
{
    return limits->max_target_bytes != 0 ? limits->max_target_bytes : limits->max_head_bytes / 2;
}

enum http_result http_head_find(struct http_scan *s, const struct http_limits *limits,
                                const uint8_t *p, size_t len, size_t *head_len)
{
    size_t head_max = min_u32(limits->max_head_bytes, HEAD_BYTES_CAP);
    size_t line_max = min_size(head_max, target_bytes_max(limits) + LINE_EXTRA_BYTES);
    size_t end = min_size(len, head_max);
    uint8_t state = s->state;
    size_t i = s->seen;

    for (; i < end; i++) {
        state = next_state[state][class_of[p[i]]];
        if (state == DONE) {
            *head_len = i + 1;
            return HTTP_OK;
        }
        if (state == BAD)
            return HTTP_BAD_REQUEST;
        if (i + 1 >= line_max && state < NAME)
            return HTTP_URI_TOO_LONG;
    }
    s->seen = (uint32_t)i;
    s->state = state;
    return i >= head_max ? HTTP_HEAD_TOO_LARGE : HTTP_MORE;
}

/* Parsing ------------------------------------------------------------------------------------- */

static enum http_result parse_request_line(const char *p, const char *end,
                                           const struct http_limits *limits,
                                           struct http_request *req);
static enum http_result parse_fields(const char *p, const char *end,
                                     const struct http_limits *limits, struct http_request *req);
static enum http_result check_host(struct http_request *req);
static enum http_result check_body(struct http_request *req);
static void read_connection(struct http_request *req);

static enum http_result refuse(struct http_request *req, enum http_result result,
                               const char *problem)
{
    req->problem = problem;
    return result;
}

/* The line's end (its CR), or NULL when there is no CR LF in p..end. */
static const char *line_end(const char *p, const char *end)
{
    const char *lf = memchr(p, '\n', (size_t)(end - p));
    return lf != NULL && lf > p && lf[-1] == '\r' ? lf - 1 : NULL;
}

enum http_result http_head_parse(const uint8_t *p, size_t head_len,
                                 const struct http_limits *limits, struct http_request *req)
{
    const char *at = (const char *)p, *end = at + head_len;
    memset(req, 0, offsetof(struct http_request, headers));
    if (head_len > HEAD_BYTES_CAP)
        return refuse(req, HTTP_HEAD_TOO_LARGE, "head too large");
    for (int i = 0; i < EMPTY_LINES_MAX && end - at >= 2 && memcmp(at, "\r\n", 2) == 0; i++)
        at += 2;

    const char *line = line_end(at, end);
    if (line == NULL)
        return refuse(req, HTTP_BAD_REQUEST, "malformed line end");
    enum http_result r = parse_request_line(at, line, limits, req);
    if (r == HTTP_OK)
        r = parse_fields(line + 2, end, limits, req);
    if (r == HTTP_OK)
        r = check_host(req);
    if (r == HTTP_OK)
        r = check_body(req);
    if (r == HTTP_OK)
        read_connection(req);
    return r;
}

/* HTTP/1.x (RFC 9112 2.3). Later minors are spoken to as 1.1 (RFC 9110 2.5). */
static enum http_result parse_version(const char *p, size_t len, struct http_request *req)
{
    if (len != 8 || memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5]) || p[6] != '.' || !is_digit(p[7]))
        return refuse(req, HTTP_BAD_REQUEST, "malformed request line");
    if (p[5] != '1')
        return refuse(req, HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here");
    req->minor = p[7] == '0' ? 0 : 1;
    return HTTP_OK;
}

/* Methods are case-sensitive (RFC 9110 9.1). CONNECT asks for a tunnel, which no resource is. */
static enum http_result parse_method(const char *p, size_t len, struct http_request *req)
{
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {
        {"GET", HTTP_GET},         {"HEAD", HTTP_HEAD},   {"POST", HTTP_POST},
        {"OPTIONS", HTTP_OPTIONS}, {"PUT", HTTP_OTHER},   {"DELETE", HTTP_OTHER},
        {"PATCH", HTTP_OTHER},     {"TRACE", HTTP_OTHER},
    };
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, p, len) == 0) {
            req->method = (uint8_t)methods[i].method;
            return HTTP_OK;
        }
    }
    return refuse(req, HTTP_NOT_IMPLEMENTED, "unknown method");
}

static bool is_ip_literal_char(char c)
{
    return c == ':' || c == '.' || hex_value(c) >= 0;
}

/* unreserved, pct-encoded and sub-delims of RFC 3986, said as a difference to token. */
static bool is_reg_name_char(char c)
{
    if (is_token_char(c))
        return c != '#' && c != '^' && c != '`' && c != '|';
    return c == '(' || c == ')' || c == ',' || c == ';' || c == '=';
}

/* uri-host [ ":" port ] (RFC 3986 3.2), not empty. */
static bool is_authority(const char *p, size_t len)
{
    const char *end = p + len, *host = p;
    if (len > 0 && *p == '[') {
        for (p++; p < end && is_ip_literal_char(*p); p++)
            continue;
        if (p == end || *p != ']' || p - host < 3) /* "[::]" is the shortest */
            return false;
        p++;
    } else {
        while (p < end && is_reg_name_char(*p))
            p++;
        if (p == host)
            return false;
    }
    if (p < end && *p++ != ':')
        return false;
    uint32_t port = 0;
    for (; p < end && is_digit(*p) && port <= UINT16_MAX; p++)
        port = port * 10 + (uint32_t)(*p - '0');
    return p == end && port <= UINT16_MAX;
}

/* Steps over "scheme://" of the schemes that lead here; NULL when it is none. */
static const char *skip_scheme(const char *p, size_t len)
{
    static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (len >= n && strncasecmp(p, schemes[i], n) == 0)
            return p + n;
    }
    return NULL;
}

/* absolute-form: its authority takes the place of Host (RFC 9112 3.2.2), the rest becomes the
 * target. */
static bool reduce_absolute(struct http_request *req)
{
    const char *end = req->target + req->target_len;
    const char *authority = skip_scheme(req->target, req->target_len);
    if (authority == NULL)
        return false;
    const char *p = authority;
    while (p < end && *p != '/' && *p != '?')
        p++;
    req->host = authority;
    req->host_len = (uint16_t)(p - authority);
    req->target = p < end ? p : "/";
    req->target_len = p < end ? (uint16_t)(end - p) : 1;
    return is_authority(req->host, req->host_len); /* refuses user information too */
}

static enum http_result parse_target(const char *p, size_t len, struct http_request *req)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] >= 0x7F || p[i] == '#') /* char may be signed or not */
            return refuse(req, HTTP_BAD_REQUEST, "malformed request target");
    req->target = p;
    req->target_len = (uint16_t)len;
    bool asterisk = len == 1 && *p == '*' && req->method == HTTP_OPTIONS;
    if (len == 0 || (*p != '/' && !asterisk && !reduce_absolute(req)))
        return refuse(req, HTTP_BAD_REQUEST, "malformed request target");

    const char *query = memchr(req->target, '?', req->target_len);
    req->path = req->target;
    req->path_len = req->target_len;
    req->query = req->target + req->target_len;
    if (query != NULL) {
        req->path_len = (uint16_t)(query - req->target);
        req->query = query + 1;
        req->query_len = (uint16_t)(req->target_len - req->path_len - 1);
    }
    if (req->path_len == 0) { /* http://host?query */
        req->path = "/";
        req->path_len = 1;
    }
    return HTTP_OK;
}

/* method SP request-target SP HTTP-version, single blanks (RFC 9112 3). */
static enum http_result parse_request_line(const char *p, const char *end,
                                           const struct http_limits *limits,
                                           struct http_request *req)
{
    const char *method_end = memchr(p, ' ', (size_t)(end - p));
    if (method_end == NULL || !http_is_token(p, (size_t)(method_end - p)))
        return refuse(req, HTTP_BAD_REQUEST, "malformed request line");
    const char *target = method_end + 1;
    const char *target_end = memchr(target, ' ', (size_t)(end - target));
    if (target_end == NULL)
        return refuse(req, HTTP_BAD_REQUEST, "malformed request line");

    enum http_result r = parse_version(target_end + 1, (size_t)(end - target_end - 1), req);
    if (r == HTTP_OK)
        r = parse_method(p, (size_t)(method_end - p), req);
    if (r != HTTP_OK)
        return r;
    if ((size_t)(target_end - target) > target_bytes_max(limits))
        return refuse(req, HTTP_URI_TOO_LONG, "request target too long");
    return parse_target(target, (size_t)(target_end - target), req);
}

/* field-name ":" OWS field-value OWS (RFC 9112 5). NULL, or the problem. */
static const char *parse_field(const char *p, const char *end, struct http_header *h)
{
    const char *colon = memchr(p, ':', (size_t)(end - p));
    if (colon == NULL)
        return "header field without a colon";
    if (!http_is_token(p, (size_t)(colon - p))) /* a space before the colon: RFC 9112 5.1 */
        return "malformed header field name";
    const char *value = colon + 1;
    while (value < end && is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    for (const char *c = value; c < end; c++)
        if (((uint8_t)*c < ' ' && *c != '\t') || *c == 0x7F)
            return "control character in a header field";
    h->name = p;
    h->name_len = (uint16_t)(colon - p);
    h->value = value;
    h->value_len = (uint16_t)(end - value);
    return NULL;
}

/* Field lines up to the empty line, which must be the head's end. */
static enum http_result parse_fields(const char *p, const char *end,
                                     const struct http_limits *limits, struct http_request *req)
{
    uint32_t max = min_u32(limits->max_headers, HTTP_HEADERS_MAX);
    for (;;) {
        const char *line = line_end(p, end);
        if (line == NULL)
            return refuse(req, HTTP_BAD_REQUEST, "malformed line end");
        if (line == p)
            break;
        if (req->header_count == max)
            return refuse(req, HTTP_HEAD_TOO_LARGE, "too many header fields");
        if (is_blank(*p))
            return refuse(req, HTTP_BAD_REQUEST, "folded header field");
        const char *problem = parse_field(p, line, &req->headers[req->header_count]);
        if (problem != NULL)
            return refuse(req, HTTP_BAD_REQUEST, problem);
        req->header_count++;
        p = line + 2;
    }
    return p + 2 == end ? HTTP_OK : refuse(req, HTTP_BAD_REQUEST, "head longer than it says");
}

/* Exactly one Host in HTTP/1.1, at most one in HTTP/1.0, and a good one (RFC 9112 3.2). */
static enum http_result check_host(struct http_request *req)
{
    uint32_t index = 0;
    const struct http_header *host = http_header_next(req, "host", &index);
    if (host == NULL)
        return req->minor == 0 ? HTTP_OK : refuse(req, HTTP_BAD_REQUEST, "Host missing");
    if (http_header_next(req, "host", &index) != NULL)
        return refuse(req, HTTP_BAD_REQUEST, "Host repeated");
    if (!is_authority(host->value, host->value_len))
        return refuse(req, HTTP_BAD_REQUEST, "malformed Host");
    if (req->host_len == 0) { /* not set by an absolute-form */
        req->host = host->value;
        req->host_len = host->value_len;
    }
    return HTTP_OK;
}

/* Digits only: no sign, no list, no overflow (RFC 9110 8.6). */
static bool parse_content_length(const struct http_header *h, uint64_t *out)
{
    uint64_t v = 0;
    for (uint32_t i = 0; i < h->value_len; i++) {
        uint64_t digit = (uint64_t)(uint8_t)h->value[i] - '0';
        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return h->value_len > 0;
}

/* How long a body follows (RFC 9112 6), with no doubt left to whoever stands before or behind. */
static enum http_result check_body(struct http_request *req)
{
    uint32_t index = 0, codings_index = 0;
    const struct http_header *length = http_header_next(req, "content-length", &index);
    const struct http_header *codings = http_header_next(req, "transfer-encoding", &codings_index);
    if (length != NULL && http_header_next(req, "content-length", &index) != NULL)
        return refuse(req, HTTP_BAD_REQUEST, "Content-Length repeated");
    if (length != NULL && !parse_content_length(length, &req->content_length))
        return refuse(req, HTTP_BAD_REQUEST, "malformed Content-Length");
    req->has_body = req->content_length > 0;
    if (codings == NULL)
        return HTTP_OK;

    if (length != NULL)
        return refuse(req, HTTP_BAD_REQUEST, "both Content-Length and Transfer-Encoding");
    if (req->minor == 0)
        return refuse(req, HTTP_BAD_REQUEST, "Transfer-Encoding in HTTP/1.0");
    if (http_header_next(req, "transfer-encoding", &codings_index) != NULL ||
        !http_token_is(codings->value, codings->value_len, "chunked"))
        return refuse(req, HTTP_BAD_REQUEST, "unknown transfer coding");
    req->has_body = true;
    req->chunked = true;
    return HTTP_OK;
}

/* Whether one of the fields of that name lists `element`. */
static bool lists_element(const struct http_request *req, const char *name, const char *element)
{
    uint32_t index = 0;
    const struct http_header *h;
    while ((h = http_header_next(req, name, &index)) != NULL) {
        const char *at = h->value, *found;
        size_t len;
        while (http_list_next(&at, h->value + h->value_len, &found, &len))
            if (http_token_is(found, len, element))
                return true;
    }
    return false;
}

static void read_connection(struct http_request *req)
{
    if (lists_element(req, "connection", "close")) /* RFC 9112 9.3 */
        req->keep_alive = false;
    else
        req->keep_alive = req->minor >= 1 || lists_element(req, "connection", "keep-alive");
    /* A server ignores Upgrade in HTTP/1.0 (RFC 9110 7.8), and without the connection option. */
    req->upgrade_websocket = req->minor >= 1 && lists_element(req, "connection", "upgrade") &&
                             lists_element(req, "upgrade", "websocket");
}

/* What callers read with ---------------------------------------------------------------------- */

bool http_is_token(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_token_char(p[i]))
            return false;
    return len > 0;
}

bool http_token_is(const char *p, size_t len, const char *text)
{
    return strlen(text) == len && strncasecmp(p, text, len) == 0;
}

bool http_name_is(const struct http_header *h, const char *lower_name)
{
    return http_token_is(h->name, h->name_len, lower_name);
}

const struct http_header *http_header_next(const struct http_request *req, const char *name,
                                           uint32_t *index)
{
    while (*index < req->header_count) {
        const struct http_header *h = &req->headers[(*index)++];
        if (http_name_is(h, name))
            return h;
    }
    return NULL;
}

const struct http_header *http_header(const struct http_request *req, const char *name)
{
    uint32_t index = 0;
    return http_header_next(req, name, &index);
}

/* The end of a list element: a comma outside of quotes. */
static const char *element_end(const char *p, const char *end)
{
    bool quoted = false;
    for (; p < end && (quoted || *p != ','); p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (quoted && *p == '\\' && p + 1 < end)
            p++;
    }
    return p;
}

bool http_list_next(const char **at, const char *end, const char **element, size_t *len)
{
    const char *p = *at;
    while (p < end && (is_blank(*p) || *p == ','))
        p++;
    const char *stop = element_end(p, end);
    *at = stop;
    while (stop > p && is_blank(stop[-1]))
        stop--;
    *element = p;
    *len = (size_t)(stop - p);
    return stop > p;
}

int32_t http_percent_decode(const char *p, size_t len, uint8_t *out)
{
    int32_t n = 0;
    for (size_t i = 0; i < len; i++, n++) {
        if (p[i] != '%') {
            out[n] = (uint8_t)p[i];
            continue;
        }
        int high = i + 2 < len ? hex_value(p[i + 1]) : -1;
        int low = i + 2 < len ? hex_value(p[i + 2]) : -1;
        if (high < 0 || low < 0)
            return -1;
        out[n] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    return n;
}

bool http_query_get(const char *query, size_t query_len, const char *key, const char **value,
                    size_t *value_len)
{
    const char *p = query, *end = query + query_len;
    size_t key_len = strlen(key);
    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        if (stop == NULL)
            stop = end;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        size_t name_len = (size_t)((equals != NULL ? equals : stop) - p);
        if (name_len == key_len && memcmp(p, key, key_len) == 0) {
            *value = equals != NULL ? equals + 1 : stop;
            *value_len = (size_t)(stop - *value);
            return true;
        }
        p = stop + 1;
    }
    return false;
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {204, "No Content"},
        {301, "Moved Permanently"},
        {304, "Not Modified"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}
