/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Settings and certificates while the server runs. */

#include "tools/tidewire/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "net/net_settings.h"
#include "tools/tidewire/redis_trust.h"

#define LOOK_NS NS_PER_MS
#define LOOKS_MAX 1000
#define VALUE_TEXT_MAX 512

static const struct stats_desc descs[RELOAD_STAT_COUNT] = {
    [RELOAD_STAT_DONE] = {"tidewire_config_reloads_total", "result=\"ok\"",
                          "Reloads of the settings.", STATS_COUNTER, 0},
    [RELOAD_STAT_REFUSED] = {"tidewire_config_reloads_total", "result=\"refused\"", "",
                             STATS_COUNTER, 0},
};

void reload_register(struct reload *r, struct stats_registry *registry)
{
    stats_register(registry, descs, RELOAD_STAT_COUNT, 0, r->stats);
}

const struct config *reload_config(const struct reload *r)
{
    return r->live != NULL ? &r->live->applied : r->started;
}

static void settings_free(struct reload_settings *s)
{
    while (s != NULL) {
        struct reload_settings *older = s->older;

        options_free(s->options);
        free(s);
        s = older;
    }
}

/* The one line that config_read() prints, without what stands before it there. */
static void log_refused(char *line)
{
    static const char prefix[] = "tidewire: ";
    bool has = strncmp(line, prefix, sizeof(prefix) - 1) == 0;

    line[strcspn(line, "\n")] = '\0';
    log_error("settings not reloaded; those in force stay", "reason",
              has ? line + sizeof(prefix) - 1 : line, NULL);
}

/* Reads, and lets a start's values stay where a reload may not change them. 0, or not: one line was
 * printed to err, and there are no options. */
static int settings_fill(const struct reload *r, struct reload_settings *s, FILE *err)
{
    int code = config_read(&s->read, r->argc, r->argv, r->envp, err, &s->options);

    if (code != 0)
        return code;
    s->applied = *r->started;
    options_copy_reloadable(config_table, config_table_len, &s->applied, &s->read);
    code = config_check_limits(&s->applied, s->options, err);
    if (code != 0)
        options_free(s->options);
    return code;
}

/* NULL: it was logged why. */
static struct reload_settings *settings_read(const struct reload *r)
{
    struct reload_settings *s = calloc(1, sizeof(*s));
    char *line = NULL;
    size_t len;
    FILE *err = open_memstream(&line, &len);
    bool ok = s != NULL && err != NULL && settings_fill(r, s, err) == 0;

    if (err != NULL)
        fclose(err);
    if (!ok) {
        log_refused(line != NULL && line[0] != '\0' ? line : (char[]){"out of memory"});
        free(s);
        s = NULL;
    }
    free(line);
    return s;
}

/* Without TLS ports in them the settings have no certificates to be read: the ports that are open
 * keep theirs until the restart that is asked for. */
static int take_port_certificates(const struct reload *r, const struct reload_settings *s)
{
    if (r->certificates == NULL || s->read.tls_port.count == 0)
        return 0;
    return certificates_reload(r->certificates, &s->applied.net);
}

/* So it is with Redis. What its connections use is changed last: that can't fail any more. */
static int take_certificates(const struct reload *r, const struct reload_settings *s)
{
    bool is_needed = r->redis_trust->client != NULL && redis_trust_is_needed(&s->read.pubsub.redis);
    char complaint[TLS_COMPLAINT_MAX];
    struct tls_client *next = NULL;
    int err = 0;

    if (is_needed)
        err = redis_trust_load(&s->applied.pubsub.redis, &next, complaint);
    if (err != 0) {
        log_error("certificates not reloaded; those in use stay", "reason", complaint, NULL);
        return err;
    }
    err = take_port_certificates(r, s);
    if (err == 0 && next != NULL)
        redis_trust_take(r->redis_trust, next);
    else
        tls_client_free(next);
    return err;
}

static void tell_change(const struct options *from, const struct options *to,
                        const struct option *row)
{
    char before[VALUE_TEXT_MAX], after[VALUE_TEXT_MAX];

    options_value_text(from, row->name, before, sizeof(before));
    options_value_text(to, row->name, after, sizeof(after));
    log_write(NULL, LOG_INFO, "setting changed", "setting", row->name, "from", before, "to", after,
              NULL);
}

/* No values of what a start changes: among them are passwords. */
static void tell_changes(const struct reload *r, const struct options *to)
{
    const struct options *from = r->live != NULL ? r->live->options : r->started_options;

    for (uint32_t i = 0; i < config_table_len; i++) {
        const struct option *row = &config_table[i];

        if (row->reload == OPTION_RELOAD && !options_agree(from, to, row) &&
            log_level_now <= LOG_INFO)
            tell_change(from, to, row);
        else if (row->reload != OPTION_RELOAD && !options_agree(r->started_options, to, row))
            log_write(NULL, LOG_WARN, "setting not changed: it needs a restart", "setting",
                      row->name, NULL);
    }
}

/* Nobody reads what is older than the live settings once all shards have taken these. */
static void give(struct reload *r)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    struct server *server = r->server;

    net_settings_give(&server->net_shared, &r->live->applied.net);
    server_wake(server);
    for (int i = 0; i < LOOKS_MAX; i++) {
        if (net_settings_are_taken(&server->net_shared, server->ready)) {
            settings_free(r->live->older);
            r->live->older = NULL;
            return;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    log_warn("a shard has not taken the new settings yet", NULL);
}

void reload_run(struct reload *r)
{
    struct reload_settings *s = settings_read(r);

    if (s != NULL && take_certificates(r, s) != 0) {
        settings_free(s);
        s = NULL;
    }
    if (s == NULL) {
        stats_inc(&r->stats[RELOAD_STAT_REFUSED]);
        return;
    }
    log_set_level((enum log_level)s->applied.log_level);
    tell_changes(r, s->options);
    s->older = r->live;
    r->live = s;
    give(r);
    stats_inc(&r->stats[RELOAD_STAT_DONE]);
    log_info("settings reloaded", NULL);
}

void reload_deinit(struct reload *r)
{
    settings_free(r->live);
    r->live = NULL;
}
