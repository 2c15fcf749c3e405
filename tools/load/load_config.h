/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_LOAD_CONFIG_H
#define TOOLS_LOAD_LOAD_CONFIG_H

/* What is asked of a run, and the one table that describes every flag. Main thread; constant while
 * workers run. */

#include "core/core_config.h"
#include "core/options.h"

enum load_scenario_bit {
    LOAD_ECHO = 1 << 0,
    LOAD_FANOUT = 1 << 1,
    LOAD_IDLE = 1 << 2,
    LOAD_STORM = 1 << 3,
    LOAD_SOAK = 1 << 4,
    LOAD_ALL = LOAD_ECHO | LOAD_FANOUT | LOAD_IDLE | LOAD_STORM | LOAD_SOAK,
    LOAD_ROOMS = LOAD_FANOUT | LOAD_SOAK, /* publishers and subscribers */
    LOAD_LOOP = LOAD_ECHO | LOAD_FANOUT,  /* closed or open loop */
    LOAD_TALK = LOAD_LOOP | LOAD_SOAK,
};

enum load_opcode { LOAD_BINARY, LOAD_TEXT };
enum load_progress { LOAD_PROGRESS_AUTO, LOAD_PROGRESS_ON, LOAD_PROGRESS_OFF };

/* Which messages the server gives to a publisher. */
enum load_gets { LOAD_GETS_ALL, LOAD_GETS_OTHERS, LOAD_GETS_NOTHING };

struct load_config {
    char *url;          /* --url */
    char *path;         /* --path; NULL: that of the URL, or else the scenario's */
    char *publish_path; /* --publish-path; NULL: as path */
    struct option_list server_pid;

    bool tls;       /* --tls, whatever the URL's scheme */
    char *tls_ca;   /* a file */
    char *tls_name; /* NULL: the host of the URL */
    bool tls_insecure;
    bool tls_resume;
    uint32_t tls_handshakes; /* of a thread at a time */

    uint32_t connections; /* --connections */
    uint32_t subscribers;
    uint32_t publishers;
    uint32_t rooms;
    int publisher_gets;     /* enum load_gets */
    bool one_order;         /* --one-order: members of a room must see the same order */
    uint64_t payload_bytes; /* --payload */
    int opcode;             /* enum load_opcode */
    bool compress;
    uint32_t window; /* messages in flight of a connection or publisher */
    bool lockstep;
    uint32_t rate; /* messages per second of all together; 0: as fast as possible */

    uint32_t connect_rate; /* per second; 0: as fast as possible */
    uint64_t keep_ns;
    int close; /* enum opener_close */
    bool allow_refusals;
    char *echo_path; /* soak: of its echo connections */
    uint64_t echo_payload_bytes;
    uint32_t churn; /* per second */
    uint32_t slow_readers;
    uint32_t bad_clients; /* per second */

    uint64_t duration_ns;
    uint64_t warmup_ns;
    uint32_t messages;   /* of each sender; 0: for the duration */
    uint64_t grace_ns;   /* how long answers are waited for at the end */
    uint64_t timeout_ns; /* from the beginning of connecting to the 101 */
    uint32_t connecting; /* of a thread at a time */
    uint32_t greetings;  /* messages that the server sends first */

    int io;           /* enum core_io */
    uint32_t threads; /* 0: one, or as many as descriptors ask for */
    uint32_t sources; /* source addresses of each thread; 0: chosen */

    bool json;
    int progress; /* enum load_progress */
};

/* A flag, and the scenarios that know it. */
struct load_option {
    struct option option;
    uint32_t scenarios; /* enum load_scenario_bit */
};

extern const struct load_option load_table[];
extern const uint32_t load_table_len;

/* The most rows that any scenario's table has. */
#define LOAD_OPTIONS_MAX 64

/* The rows that a scenario knows, into LOAD_OPTIONS_MAX of them; returns how many. */
uint32_t load_options_of(uint32_t scenario, struct option *rows);

/* What load_config_read() returns when all that was asked for is done. */
#define LOAD_DONE (-1)

/* Reads the flags of a scenario (argv[0] is skipped), with the checks that span flags. `rows` (from
 * load_options_of()) must live as long as *options. Returns 0 and *options, which is to be freed
 * when *c is no longer used; an exit code after one line to standard error; or LOAD_DONE when help
 * (through print_help) or the effective values were printed. */
MUST_USE int load_config_read(struct load_config *c, const struct option *rows, uint32_t row_count,
                              int argc, char **argv, void (*print_help)(void *arg), void *arg,
                              struct options **options);

#endif
