/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_HELP_H
#define TOOLS_LOAD_HELP_H

/* What the program says about itself: overview, flags of a scenario, manual page. Main thread. */

#include <stdio.h>

#include "tools/load/run.h"

#define LOAD_SCENARIOS_MAX 8

/* All scenarios, ended by NULL. */
extern const struct scenario *const load_scenarios[];

void load_help_overview(FILE *out);
void load_help_scenario(const struct scenario *s, FILE *out);
void load_help_man(FILE *out);

#endif
