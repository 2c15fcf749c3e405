/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_NOTIFY_H
#define TOOLS_TIDEWIRE_NOTIFY_H

/* Tells the service manager where we stand (sd_notify(3), "READY=1"): one datagram to
 * $NOTIFY_SOCKET. Does nothing when there is none. Main thread. */
void notify(const char *state);

#endif
