/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The one place where a broken invariant ends the process. Any thread. */

#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *expr, const char *file, int line)
{
    fprintf(stderr, "tidewire: check failed: %s at %s:%d\n", expr, file, line);
    abort();
}
