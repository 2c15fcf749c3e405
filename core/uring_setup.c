/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Makes and frees what an io_uring implementation's io consists of, and finds out what the kernel
 * can do. Any thread: the ring is made disabled and belongs to the thread that enables it. */

#include "core/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define SQ_ENTRIES 1024
#define CQ_ENTRIES (8 * SQ_ENTRIES)
/* Measured with echoes of 16 KiB; together IO_RECV_TURN_BYTES. */
#define RECV_BUFFERS 4
#define RECV_BUFFER_BYTES (64u << 10)
/* Without incremental buffers: one per receive, so rather many. */
#define RECV_BUFFERS_WHOLE 64
#define RECV_BUFFER_BYTES_WHOLE (4u << 10)
#define RECV_BUFFER_BYTES_MIN 1024u
#define FIXED_FILES_MAX (1u << 20)
#define CANCEL_WAIT_NS (100 * NS_PER_MS)

/* The cause of a refused ring, in the words of an operator. */
static const char *setup_failure(int err)
{
    switch (err) {
    case -ENOSYS:
        return "io_uring: not in this kernel";
    case -EPERM:
    case -EACCES:
        return "io_uring: forbidden here (kernel.io_uring_disabled or a seccomp filter)";
    case -EINVAL:
        return "io_uring: the kernel lacks DEFER_TASKRUN (6.1)";
    case -ENOMEM:
        return "io_uring: no memory for the ring (RLIMIT_MEMLOCK?)";
    case -EMFILE:
    case -ENFILE:
        return "io_uring: no descriptor left for the ring";
    default:
        return "io_uring: the ring cannot be created";
    }
}

static int make_ring(struct uring *u, const struct uring_quirks *q, const char **why)
{
    struct io_uring_params p = {0};
    p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
              IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_TASKRUN_FLAG;
    p.cq_entries = q->cq_entries != 0 ? q->cq_entries : CQ_ENTRIES;
    int err =
        io_uring_queue_init_params(q->sq_entries != 0 ? q->sq_entries : SQ_ENTRIES, &u->ring, &p);
    if (err < 0) {
        u->ring.ring_fd = -1;
        *why = setup_failure(err);
        return err;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    if (probe != NULL) {
        u->has_bind = !q->no_bind && io_uring_opcode_supported(probe, URING_OP_BIND);
        u->has_install =
            !q->no_install && io_uring_opcode_supported(probe, URING_OP_FIXED_FD_INSTALL);
        /* By setsockopt() of slots: no probe knows of commands, but they are older (6.7) than this
         * request (6.8). */
        u->io.has_tls =
            !q->no_options && io_uring_opcode_supported(probe, URING_OP_FIXED_FD_INSTALL);
        /* Messages to rings with DEFER_TASKRUN work for sure on kernels that have this, too. */
        u->has_msg_ring =
            !q->no_msg_ring && io_uring_opcode_supported(probe, URING_OP_FIXED_FD_INSTALL);
        io_uring_free_probe(probe);
    }
    return 0;
}

/* A table for conns_max and the reserve, or as many as the descriptor limit allows. */
static int make_slots(struct uring *u, uint32_t conns_max, const char **why)
{
    struct rlimit limit;
    *why = "io_uring: no table of direct descriptors";
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    uint64_t most = min_u64(limit.rlim_cur, FIXED_FILES_MAX);
    if (most <= URING_SLOT_RESERVE) {
        *why = "io_uring: RLIMIT_NOFILE is too low";
        return -EMFILE;
    }
    uint32_t count = (uint32_t)min_u64((uint64_t)conns_max + URING_SLOT_RESERVE, most);
    u->io.conns_max = min_u32(conns_max, count - URING_SLOT_RESERVE);
    int err = uring_slots_init(&u->slots, count);
    return err < 0 ? err : io_uring_register_files_sparse(&u->ring, count);
}

static bool is_power_of_two(uint32_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

/* As configured, but at most IO_RECV_TURN_BYTES in all: the bound that io.h gives for a turn. */
static int make_buffers(struct uring *u, const struct io_config *cfg, bool incremental,
                        const char **why)
{
    uint32_t count = cfg->recv_buffers;
    uint32_t bytes = cfg->recv_buffer_bytes;
    if (count == 0)
        count = incremental ? RECV_BUFFERS : RECV_BUFFERS_WHOLE;
    if (bytes == 0)
        bytes = incremental ? RECV_BUFFER_BYTES : RECV_BUFFER_BYTES_WHOLE;
    if (!is_power_of_two(count) || count > IO_RECV_TURN_BYTES / RECV_BUFFER_BYTES_MIN ||
        bytes < RECV_BUFFER_BYTES_MIN) {
        *why = "io_uring: receive buffers: the number must be a power of two up to 256, of 1 KiB "
               "or more";
        return -EINVAL;
    }
    bytes = min_u32(bytes, IO_RECV_TURN_BYTES / count);
    *why = "io_uring: the kernel lacks rings of provided buffers (5.19)";
    return uring_buffers_init(&u->buffers, &u->ring, URING_RECV_GROUP, count, bytes, incremental);
}

static int make_parts(struct uring *u, const struct io_config *cfg, const struct uring_quirks *q,
                      const char **why)
{
    int err = make_ring(u, q, why);
    if (err < 0)
        return err;
    err = make_slots(u, cfg->conns_max, why);
    if (err < 0)
        return err;
    bool incremental = !q->no_incremental && u->ring.features & URING_FEAT_NO_IOWAIT;
    err = make_buffers(u, cfg, incremental, why);
    if (err < 0 && incremental)
        err = make_buffers(u, cfg, false, why);
    if (err < 0)
        return err;
    void *arena =
        mmap(NULL, URING_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *why = "io_uring: no memory";
    if (arena == MAP_FAILED)
        return -ENOMEM;
    u->arena = arena;
    *why = "io_uring: no descriptor left for wake-ups";
    u->event_fd = eventfd(0, EFD_CLOEXEC);
    return u->event_fd < 0 ? -errno : 0;
}

int uring_make(struct uring *u, const struct io_config *cfg, const struct uring_quirks *q,
               const char **why)
{
    u->ring.ring_fd = -1;
    u->event_fd = -1;
    int err = make_parts(u, cfg, q, why);
    if (err < 0)
        uring_unmake(u);
    return err;
}

void uring_trim(struct io *io)
{
    struct uring *u = container_of(io, struct uring, io);

    uring_slots_trim(&u->slots);
    if (io_uring_cq_ready(&u->ring) == 0) /* else some of them may speak of received bytes */
        uring_buffers_trim(&u->buffers);
    if (io_uring_sq_ready(&u->ring) == 0) /* else some of them may point into the arena */
        madvise(u->arena, URING_ARENA_BYTES, MADV_DONTNEED);
}

/* What is still waiting (the eventfd, a listener that was never unlistened) is cancelled, so that
 * ports are free at once and not when the kernel gets round to it. Only the shard's own thread is
 * allowed to; for others the kernel does it later. */
void uring_unmake(struct uring *u)
{
    if (u->ring.ring_fd >= 0) {
        struct io_uring_sync_cancel_reg all = {.fd = -1,
                                               .flags = IORING_ASYNC_CANCEL_ANY |
                                                        IORING_ASYNC_CANCEL_ALL,
                                               .timeout = {.tv_nsec = CANCEL_WAIT_NS}};
        if (atomic_load_explicit(&u->started, memory_order_acquire))
            io_uring_register_sync_cancel(&u->ring, &all);
        io_uring_queue_exit(&u->ring);
    }
    if (u->event_fd >= 0)
        close(u->event_fd);
    if (u->arena != NULL)
        munmap(u->arena, URING_ARENA_BYTES);
    uring_slots_deinit(&u->slots);
    uring_buffers_deinit(&u->buffers);
}
