/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef NET_TLS_FILE_H
#define NET_TLS_FILE_H

/* Files with certificates, keys and what belongs to them, for the time of a load, and what is said
 * of those that are not right. Main. */

#include "core/base.h"

/* The longest complaint, one line that names the file, what is wrong, and the remedy. */
#define TLS_COMPLAINT_MAX 512

struct tls_file {
    uint8_t *bytes;
    size_t len;
};

/* Writes a complaint and returns -EINVAL. */
__attribute__((format(printf, 2, 3))) int tls_complain(char complaint[TLS_COMPLAINT_MAX],
                                                       const char *format, ...);

/* Reads all of a file that is not empty, up to 1 MiB. 0, or -EINVAL with a complaint; then nothing
 * is held. */
MUST_USE int tls_file_read(const char *name, struct tls_file *out,
                           char complaint[TLS_COMPLAINT_MAX]);

/* Wipes what was read: it may be a key. */
void tls_file_free(struct tls_file *f);

#endif
