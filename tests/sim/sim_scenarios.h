/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_SCENARIOS_H
#define TESTS_SIM_SIM_SCENARIOS_H

/* Deterministic cases on the virtual clock. */

#include <stddef.h>

struct scenario {
    const char *name;                       /* NULL ends the table */
    void (*run)(char *failure, size_t cap); /* leaves failure empty when all is well */
};

extern const struct scenario scenarios[];
extern const struct scenario nodes_scenarios[]; /* of several nodes and their Redis */

#endif
