/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_PLANTS_H
#define TESTS_SIM_SIM_PLANTS_H

/* The known bugs of core/plant.h: whether the simulation finds them. */

#include <stdint.h>

void plants_list(void);

/* Plants `name` ("all": each in turn), or `count` of them, others every day; runs up to `seeds`
 * seeds from `from` until one fails. Prints what was found and, last, the counts. Returns the exit
 * status. */
int plants_run(const char *name, uint64_t count, uint64_t from, uint64_t seeds);

#endif
