/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Upgrades: whatever the fields, the answer is one of the statuses that the header names, and an
 * accepted one is a well-formed response that offers nothing of its own. Input: a byte that picks
 * the policy, then the fields behind those of an upgrade. */

#include <stdlib.h>
#include <string.h>

#include "net/upgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char start[] = "GET /rooms/a HTTP/1.1\r\nHost: example.com:8000\r\n"
                            "Connection: Upgrade\r\nUpgrade: websocket\r\n";
static const char *const origins[] = {"https://example.org", "*.example.net", "null", "*"};
static const char *const subprotocols[] = {"centrifuge-protobuf", "centrifuge-json"};

static bool is_ours(const char *subprotocol)
{
    return subprotocol == subprotocols[0] || subprotocol == subprotocols[1];
}

/* Lines of visible ASCII, the last one empty. */
static void check_response(const struct upgrade *u)
{
    char out[UPGRADE_RESPONSE_MAX];
    uint32_t len = upgrade_response(u, out);
    CHECK(len <= sizeof out);
    CHECK(memcmp(out, "HTTP/1.1 101 ", 13) == 0);
    CHECK(memcmp(out + len - 4, "\r\n\r\n", 4) == 0);
    CHECK(memmem(out, len - 4, "\r\n\r\n", 4) == NULL);
    for (uint32_t i = 0; i < len; i++) {
        if (out[i] == '\r')
            CHECK(out[i + 1] == '\n');
        else if (out[i] != '\n')
            CHECK(out[i] >= ' ' && out[i] < 0x7F);
    }
    CHECK((memmem(out, len, "permessage-deflate", 18) != NULL) == u->deflate.accepted);
    CHECK((memmem(out, len, "Sec-WebSocket-Protocol", 22) != NULL) == (u->subprotocol != NULL));
}

static void check_upgrade(const struct http_request *req, uint8_t policy_bits)
{
    struct upgrade u, bare;
    struct upgrade_policy policy = {
        .allow_origin = origins,
        .allow_origin_count = policy_bits % 5,
        .subprotocols = subprotocols,
        .subprotocol_count = policy_bits / 8 % 3,
        .compress = (policy_bits & 0x80) != 0,
    };
    int status = upgrade_check(req, &policy, &u);
    CHECK(status == 101 || status == 400 || status == 403 || status == 405 || status == 426);
    CHECK((status == 101) == (u.problem == NULL));
    if (status == 101) {
        CHECK(strlen(u.accept) == 28);
        CHECK(u.subprotocol == NULL || (is_ours(u.subprotocol) && policy.subprotocol_count > 0));
        CHECK(policy.compress || !u.deflate.accepted);
        check_response(&u);
    }
    /* What is on offer here does not decide who gets in. */
    policy.compress = false;
    policy.subprotocol_count = 0;
    CHECK(upgrade_check(req, &policy, &bare) == status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct http_limits limits = {.max_head_bytes = 16384, .max_headers = 64};
    struct http_scan scan = {0};
    struct http_request req;
    if (size < 1)
        return 0;
    size_t len = sizeof start - 1 + size - 1, head_len;
    uint8_t *head = malloc(len);
    CHECK(head != NULL);
    memcpy(head, start, sizeof start - 1);
    memcpy(head + sizeof start - 1, data + 1, size - 1);
    if (http_head_find(&scan, &limits, head, len, &head_len) == HTTP_OK &&
        http_head_parse(head, head_len, &limits, &req) == HTTP_OK && req.upgrade_websocket)
        check_upgrade(&req, data[0]);
    free(head);
    return 0;
}
