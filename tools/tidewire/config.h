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

    struct option_list address;  /* --address 127.0.0.1, repeatable; IPv6; unix:PATH */
    uint32_t port;               /* --port 8000; 0: a free one */
    struct option_list tls_port; /* --tls-port, repeatable; of all TCP addresses */
    bool redirect_http;          /* --redirect-http: the plain port leads to the first of them */
    struct option_list admin_address; /* --admin-address 127.0.0.1:8001; "off": none */
    bool insecure;  /* --insecure: listen beyond loopback without authentication */
    int page;       /* --page: enum config_page; auto: on only on loopback */
    int log_level;  /* --log-level: enum log_level */
    int log_format; /* --log-format: enum log_format */
};

extern const struct option config_table[];
extern const uint32_t config_table_len;

/* The config file that is read when none is named and it exists. */
#define CONFIG_DEFAULT_FILE "/etc/tidewire/tidewire.conf"

/* What config_read() returns when all that was asked for is done. */
#define CONFIG_DONE (-1)

/* options_read() for the server, with the checks that span flags; argv[0] is skipped. Returns
 *  - 0: *c and *options are set; free *options when *c is no longer used;
 *  - OPTIONS_EXIT_USAGE or OPTIONS_EXIT_FILE: one line was printed to err;
 *  - CONFIG_DONE: --help or --print-config was printed to standard output; exit with 0.
 * Unless it is 0, *options is NULL. */
MUST_USE int config_read(struct config *c, int argc, char **argv, char **envp, FILE *err,
                         struct options **options);

/* Whether sizes and rates go together, those that a reload may change with those that it may not.
 * 0, or OPTIONS_EXIT_USAGE: one line was printed to err. `o` says where values came from. */
MUST_USE int config_check_limits(const struct config *c, const struct options *o, FILE *err);

/* The first address that others than this host reach, of the admin ones too; NULL when there is
 * none. It borrows from c. For --page auto and the warning at start. */
const char *config_exposed_address(const struct config *c);

/* The i-th of --tls-port; 0: a free one. */
uint16_t config_tls_port(const struct config *c, uint32_t i);

/* Whether --admin-address is off. */
bool config_admin_is_off(const struct config *c);

#endif
