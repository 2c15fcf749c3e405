/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* When messages are to be sent at a fixed rate. Pure, any thread. */

#include "tools/load/schedule.h"

/* Event e of the whole is due when e * NS_PER_SEC / rate, rounded down, is no more than the time
 * since the start: that is when e * NS_PER_SEC < (time + 1) * rate. */
uint64_t schedule_due(const struct schedule *s, uint64_t now_ns)
{
    if (s->per_second == 0 || now_ns < s->start_ns)
        return 0;
    unsigned __int128 scaled = ((unsigned __int128)(now_ns - s->start_ns) + 1) * s->per_second;
    uint64_t events = (uint64_t)((scaled + NS_PER_SEC - 1) / NS_PER_SEC); /* 0 .. events - 1 */
    if (events <= s->first)
        return 0;
    return (events - s->first + s->step - 1) / s->step;
}
