/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_IO_TLS_H
#define CORE_IO_TLS_H

/* What the implementations of io hand to the kernel for its TLS, beside the keys
 * (Documentation/networking/tls.rst). Nobody else includes it: io_tls_key() and io_tls_send() of
 * io.h are the way in. */

#include <stddef.h>
#include <sys/socket.h>

#include <linux/tls.h>

#include "core/io.h"

#ifndef SOL_TLS
#define SOL_TLS 282 /* linux/socket.h; not in older C libraries */
#endif
#define IO_TLS_ULP "tls" /* value of TCP_ULP */

/* The control message of sendmsg() that makes a record of what is sent, and names its type: a
 * struct cmsghdr with its byte. */
struct io_tls_control {
    size_t len;
    int level;
    int type;
    uint8_t record;
    uint8_t padding[CMSG_SPACE(1) - sizeof(struct cmsghdr) - 1];
};

_Static_assert(sizeof(struct io_tls_control) == CMSG_SPACE(1) &&
                   offsetof(struct io_tls_control, record) == CMSG_LEN(0) &&
                   offsetof(struct io_tls_control, type) == offsetof(struct cmsghdr, cmsg_type),
               "a cmsghdr with one byte of data");

/* Constant, so that a request may point to it for as long as it is under way. */
static inline const struct io_tls_control *io_tls_control(enum io_tls_type type)
{
    static const struct io_tls_control alert = {
        .len = CMSG_LEN(1), .level = SOL_TLS, .type = TLS_SET_RECORD_TYPE, .record = IO_TLS_ALERT};
    static const struct io_tls_control handshake = {.len = CMSG_LEN(1),
                                                    .level = SOL_TLS,
                                                    .type = TLS_SET_RECORD_TYPE,
                                                    .record = IO_TLS_HANDSHAKE};

    return type == IO_TLS_ALERT ? &alert : &handshake;
}

#endif
