/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_CONFIG_H
#define TOOLS_TIDEWIRE_CONFIG_H

/* The server's configuration and the one table that describes every flag. */

#include "core/core_config.h"
#include "core/log.h"
#include "core/options.h"
#include "net/net_config.h"
#include "pubsub/pubsub_config.h"

enum config_page { CONFIG_PAGE_AUTO, CONFIG_PAGE_ON, CONFIG_PAGE_OFF };

struct config {
    struct core_config core;
    struct net_config net;
    struct pubsub_config pubsub;

    struct option_list address;       /* --address 127.0.0.1, repeatable; IPv6; unix:PATH */
    uint32_t port;                    /* --port 8000; 0: a free one */
    struct option_list admin_address; /* --admin-address 127.0.0.1:8001; "off": none */
    bool insecure;  /* --insecure: listen beyond loopback without authentication */
    int page;       /* --page: enum config_page; auto: on only on loopback */
    int log_level;  /* --log-level: enum log_level */
    int log_format; /* --log-format: enum log_format */
};

extern const struct option config_table[];
extern const uint32_t config_table_len;

/* options_read() for the server, with the checks that span flags. 0 or OPTIONS_EXIT_USAGE, printed.
 */
MUST_USE int config_read(struct config *c, int argc, char **argv, char **envp, FILE *err,
                         struct options **options);

#endif
