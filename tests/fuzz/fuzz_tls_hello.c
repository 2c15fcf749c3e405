/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* ClientHellos. Whatever is complete is not complete one byte earlier, and is the same with more
 * behind it; views lie within the input or the scratch. */

#include <stdlib.h>
#include <string.h>

#include "net/tls_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_views(const struct tls_hello *h, const uint8_t *p, size_t len,
                        const uint8_t *scratch)
{
    const uint8_t *name = (const uint8_t *)h->server_name;

    CHECK(h->record_bytes > 0 && h->record_bytes <= len);
    if (h->joined.ptr != NULL) {
        CHECK(h->joined.ptr == scratch && h->joined.len <= TLS_HELLO_RECORD_MAX);
        p = scratch;
        len = h->joined.len;
    }
    if (name != NULL)
        CHECK(name >= p && h->server_name_len <= len && name + h->server_name_len <= p + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *scratch = malloc(TLS_HELLO_RECORD_MAX), *again = malloc(TLS_HELLO_RECORD_MAX);
    struct tls_hello h, h2;

    if (tls_hello_parse(data, size, scratch, &h) == TLS_HELLO_OK) {
        check_views(&h, data, size, scratch);
        CHECK(tls_hello_parse(data, h.record_bytes, again, &h2) == TLS_HELLO_OK);
        CHECK(h2.record_bytes == h.record_bytes && h2.server_name_len == h.server_name_len);
        CHECK(tls_hello_parse(data, h.record_bytes - 1, again, &h2) == TLS_HELLO_MORE);
    }
    free(scratch);
    free(again);
    return 0;
}
