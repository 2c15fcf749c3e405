/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Warnings of what expires. Main thread. */

#include "tools/tidewire/expiry.h"

#include <time.h>

#include "core/log.h"

#define DAY_S 86400

int64_t expiry_now_s(void)
{
    return (int64_t)time(NULL);
}

const char *expiry_day(int64_t when_s, char text[EXPIRY_TEXT_MAX])
{
    time_t when = (time_t)when_s;
    struct tm tm;

    strftime(text, EXPIRY_TEXT_MAX, "%Y-%m-%d", gmtime_r(&when, &tm));
    return text;
}

void expiry_watch(const char *file, int64_t when_s, int64_t ahead_s, int64_t *warned_s,
                  const char *soon, const char *past)
{
    int64_t now_s = expiry_now_s();
    char day[EXPIRY_TEXT_MAX];

    if (when_s - now_s > ahead_s || now_s - *warned_s < DAY_S)
        return;
    *warned_s = now_s;
    log_warn(now_s >= when_s ? past : soon, "file", file, "expires", expiry_day(when_s, day), NULL);
}
