/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* PROXY headers: once a prefix is judged, more bytes change nothing; a header is taken exactly when
 * its last byte is there. The input is also tried as a network. */

#include <stdlib.h>
#include <string.h>

#include "net/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_header(const uint8_t *data, size_t size)
{
    enum proxy_result judged = PROXY_MORE;
    size_t judged_consumed = 0;
    struct io_addr judged_peer = {0};
    for (size_t n = 0; n <= size; n++) {
        uint8_t *p = malloc(n + 1); /* not one byte more behind it */
        CHECK(p != NULL);
        memcpy(p + 1, data, n);
        size_t consumed = 0;
        struct io_addr peer = {.family = 0x55};
        enum proxy_result r = proxy_header_parse(p + 1, n, &consumed, &peer);
        free(p);
        CHECK(r != PROXY_MORE || n < PROXY_HEADER_MAX);
        if (r != PROXY_OK)
            CHECK(peer.family == 0x55);
        if (judged == PROXY_MORE) {
            if (r == PROXY_OK)
                CHECK(consumed == n);
            judged = r;
            judged_consumed = consumed;
            judged_peer = peer;
        }
        CHECK(r == judged);
        CHECK(consumed == judged_consumed);
        CHECK(memcmp(&peer, &judged_peer, sizeof peer) == 0);
    }
}

static void check_net(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct proxy_net net;
    CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (proxy_net_parse(text, &net) == 0) {
        struct io_addr own = {.family = net.family};
        memcpy(own.ip, net.ip, sizeof own.ip);
        CHECK(net.prefix_bits <= 128);
        CHECK(proxy_net_has(&net, &own));
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_header(data, min_size(size, PROXY_HEADER_MAX + 8));
    check_net(data, size);
    return 0;
}
