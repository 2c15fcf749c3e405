/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_EXPIRY_H
#define TOOLS_TIDEWIRE_EXPIRY_H

/* What the log tells of certificates, and what belongs to them, that expire. Times are in seconds
 * since 1970 by the system's clock. Main thread. */

#include <stdint.h>

#define EXPIRY_TEXT_MAX 32

/* How long ahead of a certificate's expiry the log begins to warn. */
#define EXPIRY_CERTIFICATE_AHEAD_S (21 * 86400)

int64_t expiry_now_s(void);

/* The day, as text. */
const char *expiry_day(int64_t when_s, char text[EXPIRY_TEXT_MAX]);

/* Warns if that file expires within ahead_s (`soon`) or has expired (`past`), at most once a day:
 * *warned_s is when it did so last, 0: not yet. */
void expiry_watch(const char *file, int64_t when_s, int64_t ahead_s, int64_t *warned_s,
                  const char *soon, const char *past);

#endif
