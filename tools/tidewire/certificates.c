/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Loading, reloading and watching certificates. Main thread. */

#include "tools/tidewire/certificates.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/log.h"
#include "net/tls_heap.h"
#include "net/tls_self_test.h"
#include "net/tls_staple.h"
#include "tools/tidewire/expiry.h"

static const struct stats_desc descs[CERTIFICATES_STAT_COUNT] = {
    [CERTIFICATES_STAT_EXPIRY] = {"tidewire_tls_certificate_expiry_timestamp_seconds", NULL,
                                  "When the first certificate expires.", STATS_GAUGE, 0},
    [CERTIFICATES_STAT_STAPLE_EXPIRY] =
        {"tidewire_tls_ocsp_expiry_timestamp_seconds", NULL,
         "When the first OCSP response expires; 0: none is stapled.", STATS_GAUGE, 0},
    [CERTIFICATES_STAT_RELOADED] = {"tidewire_tls_reloads_total", "result=\"ok\"",
                                    "Reloads of certificates.", STATS_COUNTER, 0},
    [CERTIFICATES_STAT_REFUSED] = {"tidewire_tls_reloads_total", "result=\"refused\"", "",
                                   STATS_COUNTER, 0},
};

static uint64_t monotonic_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static int load(const struct net_config *cfg, bool at_start, struct tls_context **out,
                char *complaint)
{
    struct tls_files files = {
        .certs = cfg->tls_cert.items,
        .keys = cfg->tls_key.items,
        .count = cfg->tls_cert.count,
        .client_cas = cfg->tls_client_ca.items,
        .client_ca_count = cfg->tls_client_ca.count,
        .ticket_lifetime_ns = cfg->tls_ticket_lifetime_ns,
        .staples = cfg->tls_ocsp.items,
        .staple_count = cfg->tls_ocsp.count,
    };
    int err = tls_context_load(&files, expiry_now_s(), out, complaint);

    if (err != 0)
        return err;
    err = tls_self_test(*out, at_start, complaint);
    if (err != 0)
        tls_context_unref(*out);
    return err;
}

static void tell_staples(struct certificates *c)
{
    static const char *const stapled_in[] = {
        [TLS_STAPLES_13_UNTRIED] = "TLS 1.2 only: whether the linked wolfSSL leaks memory in TLS "
                                   "1.3 is found out by a restart with them",
        [TLS_STAPLES_13_NO_ANSWER] = "TLS 1.2 only: could not find out whether the linked wolfSSL "
                                     "leaks memory in TLS 1.3, for which a child process must "
                                     "start, end and be waited for (memory, limit of processes, "
                                     "SIGCHLD not ignored)",
        [TLS_STAPLES_13_NO] = "TLS 1.2 only: the linked wolfSSL leaks memory or can't in TLS 1.3",
        [TLS_STAPLES_13_YES] = "TLS 1.2 and 1.3",
    };
    const struct tls_context *ctx = c->shared.current;
    const char *file;
    char day[EXPIRY_TEXT_MAX];
    int64_t when_s = tls_context_staple_expiry_s(ctx, &file);

    stats_set(&c->stats[CERTIFICATES_STAT_STAPLE_EXPIRY], (uint64_t)when_s);
    if (when_s == 0)
        return;
    log_info("OCSP responses loaded", "stapled_in", stapled_in[tls_context_staples_13(ctx)],
             "wolfssl", tls_self_test_library(), "first_expiry", expiry_day(when_s, day), "file",
             file, NULL);
}

static void tell_expiry(struct certificates *c)
{
    const char *file;
    char day[EXPIRY_TEXT_MAX];
    int64_t when_s = tls_context_expiry_s(c->shared.current, &file);
    struct log_num n;

    stats_set(&c->stats[CERTIFICATES_STAT_EXPIRY], (uint64_t)when_s);
    log_info("certificates loaded", "count", log_u64(&n, tls_context_count(c->shared.current)),
             "first_expiry", expiry_day(when_s, day), "file", file, NULL);
    tell_staples(c);
    c->warned_s = 0;
    memset(c->staple_warned_s, 0, sizeof(c->staple_warned_s));
    certificates_watch(c);
}

int certificates_init(struct certificates *c, const struct net_config *config,
                      char complaint[TLS_COMPLAINT_MAX])
{
    struct tls_context *first;
    uint8_t seed[TLS_TICKET_SEED_BYTES];
    int err;

    *c = (struct certificates){0};
    tls_heap_init();
    if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        snprintf(complaint, TLS_COMPLAINT_MAX, "no random numbers from the kernel");
        return -EIO;
    }
    err = load(config, true, &first, complaint);
    if (err == 0) {
        tls_shared_init(&c->shared, first, seed);
        c->shared.start_ns = monotonic_ns();
        tell_expiry(c);
    }
    explicit_bzero(seed, sizeof(seed));
    return err;
}

void certificates_deinit(struct certificates *c)
{
    tls_shared_deinit(&c->shared);
}

void certificates_register(struct certificates *c, struct stats_registry *r)
{
    stats_register(r, descs, CERTIFICATES_STAT_COUNT, 0, c->stats);
}

void certificates_forget_seed(struct certificates *c)
{
    explicit_bzero(c->shared.ticket_seed, sizeof(c->shared.ticket_seed));
}

int certificates_reload(struct certificates *c, const struct net_config *config)
{
    char complaint[TLS_COMPLAINT_MAX];
    struct tls_context *next;
    int err = load(config, false, &next, complaint);

    if (err != 0) {
        stats_inc(&c->stats[CERTIFICATES_STAT_REFUSED]);
        log_error("certificates not reloaded; those in use stay", "reason", complaint, NULL);
        return err;
    }
    tls_shared_swap(&c->shared, next);
    stats_inc(&c->stats[CERTIFICATES_STAT_RELOADED]);
    tell_expiry(c);
    return 0;
}

/* Each response: one that was left to expire must not hide another. */
static void watch_staples(struct certificates *c)
{
    const struct tls_context *ctx = c->shared.current;

    for (uint32_t i = 0; i < tls_context_count(ctx); i++) {
        const struct tls_staple *s = tls_identity_staple(tls_context_at(ctx, i));

        if (s != NULL)
            expiry_watch(tls_staple_file(s), tls_staple_expiry_s(s), CERTIFICATES_WARN_STAPLE_S,
                         &c->staple_warned_s[i],
                         "an OCSP response expires soon; fetch a new one and send SIGHUP",
                         "an OCSP response has expired and is stapled no more; fetch a new one and "
                         "send SIGHUP");
    }
}

void certificates_watch(struct certificates *c)
{
    const char *file;
    int64_t when_s = tls_context_expiry_s(c->shared.current, &file);

    expiry_watch(file, when_s, EXPIRY_CERTIFICATE_AHEAD_S, &c->warned_s,
                 "a certificate expires soon; renew it and send SIGHUP",
                 "a certificate has expired; renew it and send SIGHUP");
    watch_staples(c);
}
