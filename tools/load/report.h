/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_REPORT_H
#define TOOLS_LOAD_REPORT_H

/* What a run has found, as a table for people or one JSON object. Main thread, after the join. */

#include "tools/load/run.h"

/* Prints the result to standard output and, if it is no good one, why to standard error. Returns
 * the exit code. */
int report(struct run *r);

/* A row of the table, for what a scenario tells besides. */
void report_row(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
