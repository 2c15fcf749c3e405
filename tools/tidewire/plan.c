/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Arithmetic of capacity. Products are made in 128 bits, since users times nanoseconds outgrow 64.
 */

#include "tools/tidewire/plan.h"

typedef unsigned __int128 wide;

/* Beyond its payload: frame header, TCP and IP headers and Ethernet framing of one segment. */
#define PACKET_BYTES (4 + 20 + 12 + 20 + 38)

#define GIB (1ULL << 30)
#define GB 1000000000ULL

static uint64_t narrow(wide n)
{
    return n > UINT64_MAX ? UINT64_MAX : (uint64_t)n;
}

static uint64_t round_up(wide n, wide by)
{
    return narrow((n + by - 1) / by);
}

const char *plan_check(const struct plan_input *in)
{
    if (in->reserve_bytes >= in->ram_bytes)
        return "--reserve takes all of --ram; give less";
    if (in->user_bytes + in->kernel_bytes > in->ram_bytes - in->reserve_bytes)
        return "--ram less --reserve does not hold one connection; give more";
    return NULL;
}

static uint64_t cpu_milli(const struct plan_input *in)
{
    wide ns = (wide)in->rate * in->delivery_ns + (wide)in->publish_rate * in->publish_ns;
    if (in->ping_interval_ns != 0)
        ns += (wide)in->users * in->heartbeat_ns * NS_PER_SEC / in->ping_interval_ns;
    return round_up(ns, NS_PER_SEC / 1000);
}

void plan_make(const struct plan_input *in, struct plan *out)
{
    uint64_t room = in->ram_bytes - in->reserve_bytes;
    *out = (struct plan){.conn_bytes = in->user_bytes + in->kernel_bytes};

    out->conns_per_node = room / out->conn_bytes;
    out->nodes_by_memory = round_up(in->users, out->conns_per_node);

    out->cpu_milli = cpu_milli(in);
    out->nodes_by_cpu =
        round_up((wide)out->cpu_milli * 100, (wide)in->cores * in->busy_percent * 1000);

    out->network_bits = narrow((wide)in->rate * (in->payload_bytes + PACKET_BYTES) * 8);
    if (in->network_bits != 0)
        out->nodes_by_network = round_up(out->network_bits, in->network_bits);

    uint64_t needed = max_u64(max_u64(out->nodes_by_memory, out->nodes_by_cpu),
                              max_u64(out->nodes_by_network, 1));
    out->nodes = needed + in->spare;
    out->users_per_node = round_up(in->users, needed);

    out->thumb_conns_per_node = narrow((wide)room * GB / GIB / PLAN_THUMB_BYTES);
    out->thumb_nodes = round_up(in->users, max_u64(out->thumb_conns_per_node, 1));
}
