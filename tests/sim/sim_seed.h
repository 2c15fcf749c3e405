/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_SEED_H
#define TESTS_SIM_SIM_SEED_H

/* One seed: a node, some waves of users, calm in between, the drain, the accounts. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seed_result {
    uint64_t hash; /* of everything that users saw and when */
    uint64_t steps;
    uint64_t virtual_ns;
    uint32_t users;
    uint32_t messages;
    bool ok;
    char failure[512];
};

void seed_run(uint64_t seed, bool verbose, struct seed_result *result);

#endif
