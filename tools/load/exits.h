/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_EXITS_H
#define TOOLS_LOAD_EXITS_H

/* Exit codes of tidewire-load; those of the same meaning are the server's, too. */
enum load_exit {
    LOAD_EXIT_OK = 0,
    LOAD_EXIT_FAILED = 1,  /* something was lost, doubled, reordered or wrong; memory ran out */
    LOAD_EXIT_USAGE = 2,   /* a flag or value is not right */
    LOAD_EXIT_FILE = 3,    /* a file can't be read */
    LOAD_EXIT_CONNECT = 4, /* the server can't be reached, or refuses the upgrade */
    LOAD_EXIT_LIMIT = 5,   /* a limit of the system is too low */
    LOAD_EXIT_BACKEND = 6, /* --io asks for what does not start on this host */
};

#endif
