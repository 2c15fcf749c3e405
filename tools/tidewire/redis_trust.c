/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The files of TLS to Redis. Main thread. */

#include "tools/tidewire/redis_trust.h"

#include <stdio.h>
#include <string.h>

/* Which setting the complaint is about, as that begins with its file; "" where it is about none. */
static const char *setting_of(const struct redis_config *config, const char *why)
{
    const struct {
        const char *name, *file;
    } settings[] = {{"--redis-ca ", config->ca},
                    {"--redis-cert ", config->cert},
                    {"--redis-key ", config->key}};

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        size_t len = settings[i].file == NULL ? 0 : strlen(settings[i].file);

        if (len > 0 && strncmp(why, settings[i].file, len) == 0 && why[len] == ':')
            return settings[i].name;
    }
    return "";
}

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
        snprintf(complaint, TLS_COMPLAINT_MAX, "TLS to Redis: %s%.*s", setting_of(config, why),
                 TLS_COMPLAINT_MAX - 40, why);
    return err;
}
