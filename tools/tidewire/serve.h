/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_TIDEWIRE_SERVE_H
#define TOOLS_TIDEWIRE_SERVE_H

/* `tidewire serve`: reads the configuration (argv[0] is the subcommand's name), runs the server
 * until a signal ends it, and returns the process's exit code (see commands.h). Main thread. */
int serve_main(int argc, char **argv, char **envp);

#endif
