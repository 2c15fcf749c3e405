/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_CERTIFICATES_H
#define TOOLS_TIDEWIRE_CERTIFICATES_H

/* The server's certificates through its life: loaded and tried at start, loaded again at SIGHUP,
 * watched for their expiry. Main thread. */

#include "core/stats.h"
#include "net/net_config.h"
#include "net/tls_context.h"

enum certificates_stat {
    CERTIFICATES_STAT_EXPIRY,        /* seconds since 1970 */
    CERTIFICATES_STAT_STAPLE_EXPIRY, /* the same; 0: there are no OCSP responses */
    CERTIFICATES_STAT_RELOADED,
    CERTIFICATES_STAT_REFUSED,
    CERTIFICATES_STAT_COUNT
};

struct certificates {
    struct tls_shared shared;
    int64_t warned_s; /* when the log was last told of an expiry that is near */
    int64_t staple_warned_s[TLS_IDENTITIES_MAX]; /* the same for each one's OCSP response */
    stats_value stats[CERTIFICATES_STAT_COUNT];
};

/* How long ahead of its expiry the log begins to warn of an OCSP response: these live for some
 * days and are renewed at half of that. */
#define CERTIFICATES_WARN_STAPLE_S 86400

/* Loads, and shakes hands with itself (net/tls_self_test.h). Returns 0; -EINVAL: the files are not
 * right; -ENOTSUP: the linked library is not; -EIO: no random numbers. Then complaint has one line
 * and nothing is held. */
MUST_USE int certificates_init(struct certificates *c, const struct net_config *config,
                               char complaint[TLS_COMPLAINT_MAX]);
void certificates_deinit(struct certificates *c);

void certificates_register(struct certificates *c, struct stats_registry *r);

/* Forgets the seed of the tickets' keys, once every shard has taken it. */
void certificates_forget_seed(struct certificates *c);

/* The files of these settings, read now. Returns 0, or -errno: what is not right was logged, and
 * what there was stays. */
MUST_USE int certificates_reload(struct certificates *c, const struct net_config *config);

/* Warns, at most once a day each, of the first certificate's expiry and every OCSP response's that
 * are near or past. */
void certificates_watch(struct certificates *c);

#endif
