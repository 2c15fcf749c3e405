/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_URING_COMPAT_H
#define CORE_URING_COMPAT_H

/* What kernels newer than liburing 2.3's headers understand: numbers of the kernel's interface and
 * the preparation of the requests that use them. Names differ from later headers' on purpose, so
 * that both can be included. Whether the running kernel knows them is found out in uring_setup.c.
 */

#include <liburing.h>

#include "core/io.h"

/* Since 6.15. Its presence also proves that completions of a multishot request come in the order
 * in which the kernel filled the buffers, which incremental buffers depend on: before, a request
 * that ended with data could be told after a later one that had been given the bytes behind it. */
#define URING_FEAT_NO_IOWAIT (1u << 17)

/* struct io_uring_buf_reg.pad, later `flags`: a buffer is consumed piece by piece (6.12). */
#define URING_PBUF_INCREMENTAL 2
/* CQE: the buffer it names will be given more. */
#define URING_CQE_F_BUF_MORE (1u << 4)

#define URING_OP_FIXED_FD_INSTALL 54 /* 6.8 */
#define URING_OP_BIND 56             /* 6.11 */

#define URING_SOCKET_OP_SETSOCKOPT 3 /* command of IORING_OP_URING_CMD on sockets (6.7) */

/* setsockopt() on a direct slot. *value must live until the request has completed. */
static inline void uring_prep_setsockopt(struct io_uring_sqe *sqe, int slot, uint32_t level,
                                         uint32_t name, const void *value, uint32_t len)
{
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, slot, NULL, 0, URING_SOCKET_OP_SETSOCKOPT);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->addr = (uint64_t)name << 32 | level;
    sqe->file_index = len;
    sqe->addr3 = (uint64_t)(uintptr_t)value;
}

/* bind() of a direct slot. The address is copied when the request is submitted. */
static inline void uring_prep_bind(struct io_uring_sqe *sqe, int slot, const struct sockaddr *sa,
                                   socklen_t len)
{
    io_uring_prep_rw(URING_OP_BIND, sqe, slot, sa, 0, len);
    sqe->flags = IOSQE_FIXED_FILE;
}

/* An ordinary descriptor (the result) for the socket in a direct slot. */
static inline void uring_prep_fd_install(struct io_uring_sqe *sqe, int slot)
{
    io_uring_prep_rw(URING_OP_FIXED_FD_INSTALL, sqe, slot, NULL, 0, 0);
    sqe->flags = IOSQE_FIXED_FILE;
}

#endif
