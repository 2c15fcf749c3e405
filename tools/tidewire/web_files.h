/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_WEB_FILES_H
#define TOOLS_TIDEWIRE_WEB_FILES_H

#include <stddef.h>

/* A file of tools/web, embedded at build time. */
struct web_file {
    const char *name; /* base name, "index.html"; NULL ends the table */
    const unsigned char *bytes;
    size_t len;
};

extern const struct web_file web_files[];

#endif
