/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What a run has found, as a table or as JSON. Main thread, after the join. */

#include "tools/load/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/load/exits.h"
#include "tools/load/json_out.h"
#include "tools/load/summary.h"

#define US(ns) ((double)(ns) / NS_PER_US)
#define SCHEMA 1

/* A share of a count, 0 when nothing was counted. */
static double each(double amount, uint64_t count)
{
    return count == 0 ? 0 : amount / (double)count;
}

static bool is_open_loop(const struct run *r)
{
    return r->config.rate > 0 || r->config.connect_rate > 0;
}

struct server_cpu {
    double user_us;
    double system_us;
    double total_us;
    double share; /* of one core */
};

/* Of the measured part. The exact sum is split in the proportion of user and system ticks. */
static void server_cpu(const struct run *r, struct server_cpu *cpu)
{
    double total = US(r->server_end.total_ns - r->server_begin.total_ns);
    double user = US(r->server_end.user_ns - r->server_begin.user_ns);
    double system = US(r->server_end.system_ns - r->server_begin.system_ns);
    double ticks = user + system;

    cpu->total_us = total;
    cpu->user_us = ticks > 0 ? total * user / ticks : 0;
    cpu->system_us = ticks > 0 ? total * system / ticks : 0;
    cpu->share = r->measure_ns > 0 ? total * NS_PER_US / (double)r->measure_ns : 0;
}

/* JSON ------------------------------------------------------------------------------------------
 */

static void json_histogram(struct json_out *j, const char *name, const struct histogram *h)
{
    json_open(j, name);
    json_number(j, "count", h->count);
    json_real(j, "mean", US(histogram_mean(h)), 1);
    json_real(j, "p50", US(histogram_quantile(h, 500000)), 1);
    json_real(j, "p90", US(histogram_quantile(h, 900000)), 1);
    json_real(j, "p99", US(histogram_quantile(h, 990000)), 1);
    json_real(j, "p99_9", US(histogram_quantile(h, 999000)), 1);
    json_real(j, "max", US(h->max), 1);
    json_close(j);
}

static void json_options(struct json_out *j, const struct run *r, const struct option *rows,
                         uint32_t row_count)
{
    char text[1024];

    json_open(j, "options");
    for (uint32_t i = 0; i < row_count; i++) {
        options_value_text(r->options, rows[i].name, text, sizeof(text));
        json_text(j, rows[i].name, text);
    }
    json_close(j);
}

static void json_server(struct json_out *j, const struct run *r, const struct summary *s)
{
    struct server_cpu cpu;

    if (!r->has_server) {
        json_null(j, "server");
        return;
    }
    server_cpu(r, &cpu);
    json_open(j, "server");
    json_real(j, "cpu_us_per_message", each(cpu.total_us, s->sum.received), 4);
    json_real(j, "cpu_user_us_per_message", each(cpu.user_us, s->sum.received), 4);
    json_real(j, "cpu_system_us_per_message", each(cpu.system_us, s->sum.received), 4);
    json_real(j, "cpu_share", cpu.share, 4);
    json_close(j);
}

static void json_messages(struct json_out *j, const struct summary *s)
{
    json_open(j, "messages");
    json_number(j, "sent", s->sum.sent);
    json_number(j, "received", s->sum.received);
    json_number(j, "received_bytes", s->sum.received_bytes);
    json_real(j, "sent_per_second", s->seconds > 0 ? (double)s->sum.sent / s->seconds : 0, 1);
    json_real(j, "received_per_second", s->seconds > 0 ? (double)s->sum.received / s->seconds : 0,
              1);
    json_number(j, "total_sent", s->total.sent);
    json_number(j, "total_received", s->total.received);
    json_close(j);
}

static void json_verify(struct json_out *j, const struct verify_counts *v)
{
    json_open(j, "verify");
    json_number(j, "checked", v->checked);
    json_number(j, "lost", v->lost);
    json_number(j, "duplicated", v->duplicated);
    json_number(j, "reordered", v->reordered);
    json_number(j, "corrupted", v->corrupted);
    json_number(j, "misrouted", v->misrouted);
    json_close(j);
}

static void json_generator(struct json_out *j, const struct run *r, const struct summary *s)
{
    json_open(j, "generator");
    json_text(j, "io", r->backend);
    json_number(j, "threads", r->threads);
    json_real(j, "cpu_us_per_message", each(US(s->sum.cpu_ns), s->sum.received), 4);
    json_real(j, "busiest_cpu_share", s->busiest_cpu, 4);
    json_real(j, "busiest_wait_share", s->busiest_wait, 4);
    json_bool(j, "bottleneck", s->is_bottleneck);
    json_close(j);
}

static void json_tls(struct json_out *j, const struct run *r, const struct summary *s)
{
    if (r->tls == NULL) {
        json_null(j, "tls");
        return;
    }
    json_open(j, "tls");
    json_text(j, "suite", s->tls_full + s->tls_resumed > 0 ? tls_client_text(s->tls) : NULL);
    json_number(j, "full_handshakes", s->tls_full);
    json_number(j, "resumed_handshakes", s->tls_resumed);
    json_close(j);
}

static void print_json(const struct run *r, const struct summary *s, bool ok)
{
    struct json_out j = {.out = stdout};
    struct option rows[LOAD_OPTIONS_MAX];
    uint32_t row_count = load_options_of(r->scenario->bit, rows);

    json_open(&j, NULL);
    json_number(&j, "schema", SCHEMA);
    json_text(&j, "program", "tidewire-load");
    json_text(&j, "version", TW_VERSION);
    json_text(&j, "scenario", r->scenario->name);
    json_bool(&j, "ok", ok);
    json_text(&j, "failure", s->failure);
    json_bool(&j, "interrupted", r->interrupted);
    json_real(&j, "seconds", s->seconds, 6);
    json_open(&j, "connections");
    json_number(&j, "wanted", r->client_count);
    json_number(&j, "open", r->opened);
    json_number(&j, "lost", s->lost);
    json_real(&j, "connect_seconds", (double)r->connect_ns / NS_PER_SEC, 6);
    json_close(&j);
    json_tls(&j, r, s);
    json_messages(&j, s);
    json_verify(&j, &s->verify);
    json_text(&j, "latency_from", is_open_loop(r) ? "due" : "sent");
    json_histogram(&j, "latency_us", &s->sum.latency);
    if (is_open_loop(r))
        json_histogram(&j, "lag_us", &s->sum.lag);
    else
        json_null(&j, "lag_us");
    json_server(&j, r, s);
    json_generator(&j, r, s);
    if (r->scenario->json != NULL)
        r->scenario->json(r, &j);
    json_options(&j, r, rows, row_count);
    json_close(&j);
}

/* The table -------------------------------------------------------------------------------------
 */

void report_row(const char *name, const char *format, ...)
{
    va_list args;

    printf("%-18s ", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void row_histogram(const char *name, const struct histogram *h)
{
    report_row(name, "p50 %.1f us, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f",
               US(histogram_quantile(h, 500000)), US(histogram_quantile(h, 900000)),
               US(histogram_quantile(h, 990000)), US(histogram_quantile(h, 999000)), US(h->max));
}

static void print_rates(const struct run *r, const struct summary *s)
{
    double seconds = s->seconds > 0 ? s->seconds : 1;

    report_row(r->scenario->sent, "%llu in %.2f s, %.0f a second", (unsigned long long)s->sum.sent,
               s->seconds, (double)s->sum.sent / seconds);
    report_row(r->scenario->received, "%llu, %.0f a second, %.1f MB/s",
               (unsigned long long)s->sum.received, (double)s->sum.received / seconds,
               (double)s->sum.received_bytes / seconds / 1e6);
    row_histogram(is_open_loop(r) ? "latency (from due)" : "latency", &s->sum.latency);
    if (is_open_loop(r))
        row_histogram("sent behind due", &s->sum.lag);
}

static void print_server(const struct run *r, const struct summary *s)
{
    struct server_cpu cpu;

    server_cpu(r, &cpu);
    if (s->sum.received > 0)
        report_row("server",
                   "%.3f us of processor a message (user %.3f, system %.3f), %.1f %% of "
                   "a core",
                   each(cpu.total_us, s->sum.received), each(cpu.user_us, s->sum.received),
                   each(cpu.system_us, s->sum.received), 100 * cpu.share);
    else
        report_row("server", "%.1f %% of a core", 100 * cpu.share);
}

static void print_generator(const struct run *r, const struct summary *s)
{
    report_row("generator", "%s, %u thread%s, %.3f us a message, busiest thread %.0f %% of a core",
               r->backend, r->threads, r->threads == 1 ? "" : "s",
               each(US(s->sum.cpu_ns), s->sum.received), 100 * s->busiest_cpu);
    if (s->is_bottleneck)
        report_row("NOTE",
                   "the generator was itself the bottleneck: its busiest thread ran %.0f %% and "
                   "waited %.0f %% of the time for a core",
                   100 * s->busiest_cpu, 100 * s->busiest_wait);
}

static void print_verdict(const struct summary *s)
{
    const struct verify_counts *v = &s->verify;

    report_row("judged",
               "%llu messages: %llu lost, %llu twice, %llu out of order, %llu corrupted, %llu "
               "to the wrong receiver",
               (unsigned long long)v->checked, (unsigned long long)v->lost,
               (unsigned long long)v->duplicated, (unsigned long long)v->reordered,
               (unsigned long long)v->corrupted, (unsigned long long)v->misrouted);
}

static void print_table(const struct run *r, const struct summary *s, bool ok)
{
    report_row("scenario", "%s, %s://%s%s%s", r->scenario->name, r->tls != NULL ? "wss" : "ws",
               r->target.host, r->path, r->interrupted ? " (interrupted)" : "");
    report_row("connections", "%u of %u, opened in %.2f s", r->opened, r->client_count,
               (double)r->connect_ns / NS_PER_SEC);
    if (s->tls_full + s->tls_resumed > 0)
        report_row("TLS", "%s; handshakes: %llu full, %llu resumed", tls_client_text(s->tls),
                   (unsigned long long)s->tls_full, (unsigned long long)s->tls_resumed);
    if (s->total.sent > 0)
        print_rates(r, s);
    if (r->scenario->rows != NULL)
        r->scenario->rows(r);
    if (r->has_server)
        print_server(r, s);
    print_generator(r, s);
    if (s->verify.checked > 0 || verify_has_failed(&s->verify))
        print_verdict(s);
    report_row("result", "%s", ok ? "good" : "FAILED");
}

/* The verdict -----------------------------------------------------------------------------------
 */

static int verdict(const struct run *r, const struct summary *s)
{
    uint32_t refused = s->ends[CLIENT_WHY_CONNECT] + s->ends[CLIENT_WHY_TLS] +
                       s->ends[CLIENT_WHY_TIMEOUT] + s->ends[CLIENT_WHY_STATUS] +
                       s->ends[CLIENT_WHY_UPGRADE];

    if (refused > 0)
        return LOAD_EXIT_CONNECT;
    if (r->opened_first == 0 && s->total.received == 0)
        return LOAD_EXIT_CONNECT;
    if (s->lost > 0 || s->failure != NULL || verify_has_failed(&s->verify))
        return LOAD_EXIT_FAILED;
    if (r->interrupted || r->scenario->is_silent || s->total.received > 0)
        return LOAD_EXIT_OK;
    return LOAD_EXIT_FAILED;
}

int report(struct run *r)
{
    struct summary *s = malloc(sizeof(*s));
    int code;

    if (s == NULL)
        return LOAD_EXIT_FAILED;
    summary_make(r, s);
    code = verdict(r, s);
    if (code != 0 && s->failure == NULL)
        s->failure = "no message came back";
    if (r->config.json)
        print_json(r, s, code == 0);
    else
        print_table(r, s, code == 0);
    if (code != 0) {
        fflush(stdout);
        fprintf(stderr, "tidewire-load: %s\n", s->failure);
    }
    free(s);
    return code;
}
