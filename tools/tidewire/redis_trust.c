/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The files of TLS to Redis. Main thread. */

#include "tools/tidewire/redis_trust.h"

#include <stdio.h>
#include <string.h>

int redis_trust_load(const struct redis_config *config, struct tls_client **out,
                     char complaint[TLS_COMPLAINT_MAX])
{
    bool has_certificate = strcmp(config->cert, "off") != 0;
    const struct tls_client_config cfg = {.ca_file = config->ca,
                                          .cert_file = has_certificate ? config->cert : NULL,
                                          .key_file = config->key};
    char why[TLS_COMPLAINT_MAX];
    int err = tls_client_new(&cfg, out, why);

    if (err != 0)
        snprintf(complaint, TLS_COMPLAINT_MAX, "TLS to Redis: %.*s", TLS_COMPLAINT_MAX - 20, why);
    return err;
}
