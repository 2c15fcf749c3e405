/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Reading whole files, and complaints. Main. */

#include "net/tls_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)

int tls_complain(char complaint[TLS_COMPLAINT_MAX], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(complaint, TLS_COMPLAINT_MAX, format, args);
    va_end(args);
    return -EINVAL;
}

void tls_file_free(struct tls_file *f)
{
    if (f->bytes != NULL) {
        explicit_bzero(f->bytes, f->len);
        free(f->bytes);
    }
    *f = (struct tls_file){0};
}

static int read_all(int fd, struct tls_file *f)
{
    f->bytes = malloc(FILE_BYTES_MAX);
    if (f->bytes == NULL)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, f->bytes + f->len, FILE_BYTES_MAX - f->len);

        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        f->len += (size_t)n;
        if (f->len == FILE_BYTES_MAX)
            return -EFBIG;
    }
}

/* Moves it where it takes no more than it needs. */
static int fit(struct tls_file *f)
{
    struct tls_file exact = {malloc(f->len), f->len};

    if (exact.bytes == NULL)
        return -ENOMEM;
    memcpy(exact.bytes, f->bytes, f->len);
    tls_file_free(f);
    *f = exact;
    return 0;
}

int tls_file_read(const char *name, struct tls_file *out, char complaint[TLS_COMPLAINT_MAX])
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    int err;

    *out = (struct tls_file){0};
    err = fd < 0 ? -errno : read_all(fd, out);
    if (fd >= 0)
        close(fd);
    if (err == 0 && out->len > 0)
        err = fit(out);
    if (err == 0 && out->len > 0)
        return 0;
    tls_file_free(out);
    if (err == 0)
        return tls_complain(complaint, "%s: the file is empty; check the name", name);
    return tls_complain(complaint, "%s: %s; check the name and who may read it", name,
                        strerror(-err));
}
