/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The files of TLS to Redis. Main thread. */

#include "tools/tidewire/redis_trust.h"

#include <stdio.h>
#include <string.h>

#include "tools/tidewire/expiry.h"

static const struct stats_desc descs[REDIS_TRUST_STAT_COUNT] = {
    [REDIS_TRUST_STAT_EXPIRY] = {"tidewire_redis_certificate_expiry_timestamp_seconds", NULL,
                                 "When the certificate of --redis-cert expires; 0: there is none.",
                                 STATS_GAUGE, 0},
};

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

void redis_trust_take(struct redis_trust *t, struct tls_client *next)
{
    const char *file;

    if (t->client == NULL)
        t->client = next;
    else
        tls_client_replace(t->client, next);
    stats_set(&t->stats[REDIS_TRUST_STAT_EXPIRY], (uint64_t)tls_client_expiry_s(t->client, &file));
    t->warned_s = 0;
    redis_trust_watch(t);
}

void redis_trust_watch(struct redis_trust *t)
{
    const char *file = NULL;
    int64_t when_s = t->client != NULL ? tls_client_expiry_s(t->client, &file) : 0;

    if (file != NULL)
        expiry_watch(file, when_s, EXPIRY_CERTIFICATE_AHEAD_S, &t->warned_s,
                     "the certificate for Redis expires soon; renew it and send SIGHUP",
                     "the certificate for Redis has expired; renew it and send SIGHUP");
}

void redis_trust_register(struct redis_trust *t, struct stats_registry *r)
{
    stats_register(r, descs, REDIS_TRUST_STAT_COUNT, 0, t->stats);
}
