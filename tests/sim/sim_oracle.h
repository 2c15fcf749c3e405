/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_ORACLE_H
#define TESTS_SIM_SIM_ORACLE_H

/* What must have come to whom, and whether it did: every message once, unchanged, in one order. */

#include "tests/sim/sim_user.h"

/* Sizes from here on say who sent them: two digits of the sender, four of the sequence number, two
 * of a checksum, then the filler. Shorter ones (echo only) are filler alone. */
#define ORACLE_HEAD_BYTES 8
#define ORACLE_MESSAGE_MAX (256u << 10)

/* The payload of a message: a function of the world's seed and these. */
void oracle_payload(const struct world *w, uint32_t uid, uint32_t seq, uint32_t len, bool text,
                    uint8_t *out);

/* A whole message has come to u. */
void oracle_received(struct user *u, const uint8_t *payload, size_t len, bool text);

/* Whether everyone has got what is due when all is calm, and who ends has ended. */
bool oracle_is_settled(struct world *w);
/* Says what is not. */
void oracle_explain(struct world *w, char *text, size_t cap);

/* At the end: compares what the members of each room got. */
void oracle_check_rooms(struct world *w);

/* u's connection has ended or been told to: code 0 for no close frame. Judges. */
void oracle_closed(struct user *u, uint16_t code);
void oracle_disconnected(struct user *u, bool reset);

#endif
