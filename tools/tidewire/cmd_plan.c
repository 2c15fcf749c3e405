/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* `tidewire plan`: reads what is to be served and what a node has, and prints how many nodes that
 * takes, beside the usual rule of thumb. */

#include <inttypes.h>
#include <stddef.h>

#include "core/options.h"
#include "tools/tidewire/commands.h"
#include "tools/tidewire/plan.h"

#define AT(member) offsetof(struct plan_input, member)

#define GIB (1ULL << 30)

/* What Linux lets a process open at most unless fs.nr_open is raised. */
#define NR_OPEN_DEFAULT (1u << 20)

#define WHAT "What is to be served"
#define NODE "A node"
#define COSTS "Measured costs"

static const struct option plan_table[] = {
    {.name = "users",
     .group = WHAT,
     .help = "Users connected at once, all nodes together.",
     .def = "1M",
     .min = 1,
     .offset = AT(users),
     .type = OPTION_COUNT},
    {.name = "rate",
     .group = WHAT,
     .help = "Messages per second that arrive at users, added up over all of them: a message to a "
             "room of 1000 is 1000.",
     .def = "100k",
     .offset = AT(rate),
     .type = OPTION_COUNT},
    {.name = "publish-rate",
     .group = WHAT,
     .help = "Messages per second that users send, added up over all of them.",
     .def = "1k",
     .offset = AT(publish_rate),
     .type = OPTION_COUNT},
    {.name = "payload",
     .group = WHAT,
     .help = "Mean payload of a message.",
     .def = "128B",
     .max = 64ULL << 20,
     .offset = AT(payload_bytes),
     .type = OPTION_SIZE},
    {.name = "ping-interval",
     .group = WHAT,
     .help = "As the servers have it; clients that send within it are not pinged, which is not "
             "counted on.",
     .def = "25s",
     .min = NS_PER_SEC,
     .zero_off = true,
     .offset = AT(ping_interval_ns),
     .type = OPTION_DURATION},
    {.name = "spare",
     .group = WHAT,
     .help = "Nodes that may be down at once while the others carry everybody.",
     .def = "1",
     .max = 1000,
     .offset = AT(spare),
     .type = OPTION_U32},
    {.name = "ram",
     .group = NODE,
     .help = "Memory.",
     .def = "16GiB",
     .min = 64ULL << 20,
     .offset = AT(ram_bytes),
     .type = OPTION_SIZE},
    {.name = "reserve",
     .group = NODE,
     .help = "Memory that is not for idle connections: the system, and what the server's "
             "--queue-memory and --assembly-memory allow.",
     .def = "4GiB",
     .offset = AT(reserve_bytes),
     .type = OPTION_SIZE},
    {.name = "cores",
     .group = NODE,
     .help = "Processor cores, a shard on each.",
     .def = "8",
     .min = 1,
     .max = 4096,
     .offset = AT(cores),
     .type = OPTION_U32},
    {.name = "busy",
     .group = NODE,
     .help = "How busy the cores may be, in percent; the rest is for bursts and reconnecting.",
     .def = "60",
     .min = 1,
     .max = 100,
     .offset = AT(busy_percent),
     .type = OPTION_U32},
    {.name = "network",
     .group = NODE,
     .help = "Bits per second that it can send, such as 10G. 0: not looked at.",
     .def = "10G",
     .zero_off = true,
     .offset = AT(network_bits),
     .type = OPTION_COUNT},
    {.name = "user-bytes",
     .group = COSTS,
     .help = "User-space memory of an idle connection in a room.",
     .def = "384B",
     .min = 1,
     .max = 1 << 20,
     .offset = AT(user_bytes),
     .type = OPTION_SIZE},
    {.name = "kernel-bytes",
     .group = COSTS,
     .help = "The kernel's memory for its socket.",
     .def = "4352B",
     .min = 1,
     .max = 1 << 20,
     .offset = AT(kernel_bytes),
     .type = OPTION_SIZE},
    {.name = "delivery-time",
     .group = COSTS,
     .help = "Processor time of one delivery, nearly all of it the kernel's for a send; messages "
             "that leave together share it.",
     .def = "6us",
     .min = NS_PER_US,
     .offset = AT(delivery_ns),
     .type = OPTION_DURATION},
    {.name = "publish-time",
     .group = COSTS,
     .help = "Processor time to receive and order a message.",
     .def = "6us",
     .min = NS_PER_US,
     .offset = AT(publish_ns),
     .type = OPTION_DURATION},
    {.name = "heartbeat-time",
     .group = COSTS,
     .help = "Processor time of a ping and its pong.",
     .def = "12us",
     .min = NS_PER_US,
     .offset = AT(heartbeat_ns),
     .type = OPTION_DURATION},
};

static void print_usage(FILE *out)
{
    fputs("Usage: tidewire plan [FLAGS]\n"
          "\n"
          "Prints how many nodes a number of users needs, by memory, processor time and\n"
          "network, beside the rule of thumb of 10 KB for a connection. Numbers take k, M\n"
          "and G, sizes B, KiB, MiB and GiB, times us, ms, s and m. The measured costs are\n"
          "those of a small virtual machine; measure your own with tools/figures.\n",
          out);
    options_print_help(plan_table, ARRAY_LEN(plan_table), out);
}

/* 1234567 as "1.23 M", into 32 bytes. */
static const char *count_text(uint64_t n, char *text)
{
    static const char units[] = {' ', 'k', 'M', 'G', 'T'};
    double value = (double)n;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1000;
        unit++;
    }
    if (unit == 0)
        snprintf(text, 32, "%" PRIu64, n);
    else
        snprintf(text, 32, "%.2f %c", value, units[unit]);
    return text;
}

static void print_row(const char *what, const char *ours, const char *thumb)
{
    printf("%-34s %14s  %s\n", what, ours, thumb);
}

static void print_count(const char *what, uint64_t ours, uint64_t thumb)
{
    char a[32], b[32];
    print_row(what, count_text(ours, a), thumb == 0 ? "" : count_text(thumb, b));
}

static void print_plan(const struct plan_input *in, const struct plan *p)
{
    char text[64], users[32];
    printf("%s users; nodes of %.4g GiB, %.4g of them kept back, and %" PRIu32 " cores\n\n",
           count_text(in->users, users), (double)in->ram_bytes / (double)GIB,
           (double)in->reserve_bytes / (double)GIB, in->cores);
    print_row("", "Tidewire", "rule of thumb");
    print_count("bytes per idle connection", p->conn_bytes, PLAN_THUMB_BYTES);
    snprintf(text, sizeof(text), "(%" PRIu64 " + %" PRIu64 ")", in->user_bytes, in->kernel_bytes);
    print_row("  (user space + kernel)", text, "");
    print_count("connections that a node holds", p->conns_per_node, p->thumb_conns_per_node);
    print_count("nodes for memory", p->nodes_by_memory, p->thumb_nodes);
    snprintf(text, sizeof(text), "%.1f", (double)p->cpu_milli / 1000);
    print_row("cores' worth of processor time", text, "");
    print_count("nodes for processor time", p->nodes_by_cpu, 0);
    print_count("bits per second to users", p->network_bits, 0);
    if (in->network_bits != 0)
        print_count("nodes for the network", p->nodes_by_network, 0);
    snprintf(text, sizeof(text), "nodes, %" PRIu32 " of them spare", in->spare);
    print_count(text, p->nodes, 0);
    print_count("users per node, spare ones down", p->users_per_node, 0);
}

static void print_advice(const struct plan *p)
{
    if (p->users_per_node <= NR_OPEN_DEFAULT)
        return;
    printf("\nMore than %u connections on a node: raise fs.nr_open and the server's\n"
           "LimitNOFILE above %" PRIu64 ", or run several processes on it.\n",
           NR_OPEN_DEFAULT, p->users_per_node);
}

int cmd_plan(int argc, char **argv, char **envp)
{
    (void)envp; /* TIDEWIRE_... are the server's */
    char *no_env[] = {NULL};
    struct plan_input in = {0};
    struct options *o = NULL;
    int code =
        options_read(plan_table, ARRAY_LEN(plan_table), &in, argc, argv, no_env, NULL, stderr, &o);
    if (code != 0)
        return code;
    const char *wrong = NULL;
    if (options_request(o) == OPTIONS_HELP) {
        print_usage(stdout);
    } else if (options_request(o) == OPTIONS_PRINT_CONFIG) {
        options_print_config(o, stdout);
    } else if ((wrong = plan_check(&in)) != NULL) {
        fprintf(stderr, "tidewire: plan: %s\n", wrong);
    } else {
        struct plan p;
        plan_make(&in, &p);
        print_plan(&in, &p);
        print_advice(&p);
    }
    options_free(o);
    return wrong != NULL ? EXIT_USAGE : EXIT_OK;
}
