/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What the program says about itself. What is said of flags comes from the table. Main thread. */

#include "tools/load/help.h"

const struct scenario *const load_scenarios[] = {&scenario_echo,  &scenario_fanout, &scenario_idle,
                                                 &scenario_storm, &scenario_soak,   NULL};

void load_help_overview(FILE *out)
{
    fputs("tidewire-load puts load on a WebSocket server and judges every message that comes\n"
          "back: what is lost, doubled, reordered or changed fails the run. It works against any\n"
          "server that echoes or broadcasts messages unchanged.\n"
          "\n"
          "Usage: tidewire-load SCENARIO [FLAGS]\n"
          "\n",
          out);
    for (uint32_t i = 0; load_scenarios[i] != NULL; i++)
        fprintf(out, "  %-10s %s\n", load_scenarios[i]->name, load_scenarios[i]->summary);
    fputs("\n"
          "  help SCENARIO, SCENARIO --help   its flags\n"
          "  help --man                       the man page, for man -l -\n"
          "  version                          the version\n"
          "\n"
          "Exit codes: 0 all went well, 1 the run failed, 2 a flag is not right, 3 a file can't\n"
          "be read, 4 the server can't be reached or refuses, 5 a limit of the system is too low,\n"
          "6 --io asks for what does not start here.\n",
          out);
}

void load_help_scenario(const struct scenario *s, FILE *out)
{
    struct option rows[LOAD_OPTIONS_MAX];
    uint32_t count = load_options_of(s->bit, rows);

    fprintf(out,
            "Usage: tidewire-load %s [FLAGS]\n"
            "\n"
            "%s: %s. Sizes take B, KiB, MiB, times us, ms, s, m or h. Flags may stand in a\n"
            "file (--config), not in the environment.\n",
            s->name, s->name, s->summary);
    options_print_help(rows, count, out);
}

static void print_man_json(FILE *out)
{
    fputs(".SH JSON\n"
          "With\n.B \\-\\-json\nstandard output is one object. Members are only added within a\n"
          ".IR schema .\n"
          "Times are microseconds unless the name says otherwise; counts are those of the "
          "measured\n"
          "part, but for\n.I verify\nand\n.IR total_* .\n"
          ".TP\n.IR scenario ,\\  ok ,\\  failure ,\\  interrupted ,\\  seconds\n"
          "What ran, whether it was good, the first thing that was not (or null), and the length "
          "of\n"
          "the measured part.\n"
          ".TP\n.I connections\n"
          "wanted, open, lost, connect_seconds.\n"
          ".TP\n.I tls\n"
          "With TLS: suite (of one connection), full_handshakes, resumed_handshakes; else null.\n"
          ".TP\n.I messages\n"
          "sent, received, received_bytes, sent_per_second, received_per_second, total_sent,\n"
          "total_received. For fanout received counts deliveries.\n"
          ".TP\n.I verify\n"
          "checked, lost, duplicated, reordered, corrupted, misrouted.\n"
          ".TP\n.IR latency_us ,\\  lag_us\n"
          "count, mean, p50, p90, p99, p99_9, max.\n.I latency_from\nis \"sent\" in closed and "
          "\"due\"\nin open loop; lag_us, in open loop only, is how much later than due messages "
          "left.\n"
          ".TP\n.I server\n"
          "With \\-\\-server\\-pid: cpu_us_per_message (received), its parts "
          "cpu_user_us_per_message and\ncpu_system_us_per_message, and cpu_share of one core; else "
          "null.\n"
          ".TP\n.I generator\n"
          "io, threads, cpu_us_per_message, busiest_cpu_share, busiest_wait_share, bottleneck.\n"
          ".TP\n.I memory\n"
          "Of idle: server_bytes_per_connection (null without \\-\\-server\\-pid),\n"
          "generator_bytes_per_connection (with what it needs at all), kernel_bytes_per_connection "
          "(all sockets of this host, so "
          "both\nsides on loopback), sockets_per_connection, and the kernel's caches that grew "
          "most.\n"
          ".TP\n.I storm\n"
          "attempts, opened, ended_by_server, and refused by cause: connect, tls, timeout, status, "
          "upgrade,\nprotocol, closed, lost; unfinished at the end. Messages and latency_us of a "
          "storm are of attempts\nand openings.\n"
          ".TP\n.I soak\n"
          "churned, slow_opened, slow_ended, bad, bad_ended, bad_tolerated.\n"
          ".TP\n.I options\n"
          "All flags with their effective values, as texts.\n",
          out);
}

/* All flags, those that not every scenario knows with the names of those that do. */
static void print_man_options(FILE *out)
{
    static char texts[LOAD_OPTIONS_MAX][1024];
    struct option rows[LOAD_OPTIONS_MAX];

    CHECK(load_table_len <= LOAD_OPTIONS_MAX);
    for (uint32_t i = 0; i < load_table_len; i++) {
        const char *comma = "";
        size_t len;
        rows[i] = load_table[i].option;
        if (load_table[i].scenarios == LOAD_ALL)
            continue;
        len = (size_t)snprintf(texts[i], sizeof(texts[i]), "Only of ");
        for (uint32_t k = 0; load_scenarios[k] != NULL; k++) {
            if ((load_table[i].scenarios & load_scenarios[k]->bit) == 0)
                continue;
            len += (size_t)snprintf(texts[i] + len, sizeof(texts[i]) - len, "%s%s", comma,
                                    load_scenarios[k]->name);
            comma = ", ";
        }
        snprintf(texts[i] + len, sizeof(texts[i]) - len, ". %s", rows[i].help);
        rows[i].help = texts[i];
    }
    options_print_man(rows, load_table_len, out);
}

void load_help_man(FILE *out)
{
    fputs(
        ".TH TIDEWIRE\\-LOAD 1 \"\" \"tidewire " TW_VERSION "\" \"User Commands\"\n"
        ".SH NAME\n"
        "tidewire\\-load \\- load generator for WebSocket servers\n"
        ".SH SYNOPSIS\n"
        ".B tidewire\\-load\n"
        ".I SCENARIO\n"
        ".RI [ FLAGS ]\n"
        ".SH DESCRIPTION\n"
        "Puts load on a WebSocket server and judges every message that comes back: what is lost,\n"
        "doubled, reordered or changed fails the run. The server may be any one that echoes or\n"
        "broadcasts messages unchanged.\n"
        ".SH SCENARIOS\n",
        out);
    for (uint32_t i = 0; load_scenarios[i] != NULL; i++)
        fprintf(out, ".TP\n.B %s\n%s.\n", load_scenarios[i]->name, load_scenarios[i]->summary);
    fputs(".SH OPTIONS\n"
          "Sizes take B, KiB, MiB, GiB or TiB, times us, ms, s, m or h.\n",
          out);
    print_man_options(out);
    print_man_json(out);
    fputs(".SH EXIT STATUS\n"
          ".TP\n0\nAll went well.\n"
          ".TP\n1\nMessages were lost, doubled, reordered, changed or misdirected, a connection "
          "was lost, or\nmemory ran out.\n"
          ".TP\n2\nA flag or value is not right.\n"
          ".TP\n3\nA file can not be read.\n"
          ".TP\n4\nThe server can not be reached, or refuses the upgrade.\n"
          ".TP\n5\nA limit of the system, such as that of open files, is too low.\n"
          ".TP\n6\nThe implementation that\n.B \\-\\-io\nasks for does not start on this host.\n",
          out);
}
