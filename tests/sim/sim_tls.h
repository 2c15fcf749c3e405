/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TESTS_SIM_SIM_TLS_H
#define TESTS_SIM_SIM_TLS_H

/* TLS in the simulation. Connections enter behind the handshake's arithmetic: sim_shake.c stands in
 * for wolfSSL below net/conn_shake.c, everything above is the node's own. The client's ClientHello
 * carries in its `random` what both sides make their record states from; flights are bytes of that
 * seed, of drawn lengths. From then on a client is the same record layer as the server, and beside
 * it something that seals wrong records. In the simulation's one thread. */

#include "net/tls_record.h"
#include "tests/sim/sim_user.h"

#define SIM_TLS_STATE_BYTES_MAX 256
#define SIM_TLS_FLIGHT_BYTES_MAX 6000
/* The client's second flight, a record. */
#define SIM_TLS_FINISHED_BYTES (5 + 36)
/* A whole ClientHello, joined. */
#define SIM_TLS_HELLO_BYTES_MAX 4096

/* What a ClientHello says: it fits into `random`. */
struct sim_tls_terms {
    uint64_t seed;
    uint8_t version;          /* enum tls_version */
    uint8_t aead;             /* enum tls_aead */
    uint8_t rekey_log2;       /* of the server's keys; 0: the default */
    uint8_t is_refused;       /* the server gives up, by an alert */
    uint16_t fragment_max;    /* of the server's records; 0: the default */
    uint16_t flight_bytes[2]; /* what answers the ClientHello, and Finished */
};

/* Makes the state of either side in SIM_TLS_STATE_BYTES_MAX. */
void sim_tls_state(const struct sim_tls_terms *terms, bool is_client, struct tls_record *r);

/* Flight 0 or 1 of the server; flight 2 is what the client's Finished holds. */
void sim_tls_flight(const struct sim_tls_terms *terms, uint32_t flight, uint8_t *out, size_t len);

/* The client's part of a connection. */
struct sim_tls {
    struct sim_tls_terms terms;
    struct user_buffer wire; /* to be sent, as it goes over the network */
    struct user_buffer in;   /* what came and is not opened yet */
    uint32_t plain;          /* of user.out: in the record on the wire, which is not sent yet */
    uint32_t flight_pos;     /* of the flight that is being read */
    uint8_t phase;           /* enum sim_tls_phase */
    uint8_t ending;          /* enum sim_tls_ending: behind what is on the wire */
    bool asked;              /* for the peer's KeyUpdate */
    uint32_t asked_pings;    /* user.pings_sent at that time */
    bool is_closed;          /* close_notify has come */
    bool is_told;            /* the alert that was expected has come */
    int16_t expected_alert;  /* enum sim_tls_expected, or the description */
    struct tls_work work;
    struct tls_record *record; /* from FINISHED on */
};

enum sim_tls_phase {
    SIM_TLS_NEW,      /* nothing is said */
    SIM_TLS_HELLO,    /* the ClientHello is on the wire */
    SIM_TLS_FINISHED, /* Finished as well: may write */
    SIM_TLS_OPEN,     /* may read */
};

enum sim_tls_ending {
    SIM_TLS_GOES_ON,
    SIM_TLS_THEN_FIN,
    SIM_TLS_THEN_NOTHING, /* close_notify alone */
    SIM_TLS_THEN_SILENCE, /* a wrong record: no more are sealed */
};

enum sim_tls_expected {
    SIM_TLS_NO_ALERT = -2, /* all is well */
    SIM_TLS_NO_ANSWER = -1,
};

/* Whether it has sent a record that is wrong. */
static inline bool sim_tls_violates(const struct user *u)
{
    return u->tls->expected_alert != SIM_TLS_NO_ALERT;
}

/* Draws the terms of u, who has just connected to a TLS address. */
void sim_tls_new(struct user *u);
void sim_tls_free(struct user *u);

/* Bytes that stand before everything else. */
void sim_tls_lead(struct user *u, const void *bytes, size_t len);

/* Bytes that came: plaintext goes to u->in. */
void sim_tls_input(struct user *u, const uint8_t *bytes, size_t len);

/* Seals more of u->out when the wire is empty; up to `most` bytes. */
void sim_tls_fill(struct user *u, size_t most);

/* Ends the sending side: with close_notify, FIN, or both. */
void sim_tls_end(struct user *u);

/* Sends a record that is wrong, or too many that say nothing. */
void sim_tls_violate(struct user *u);

/* Whether its end was announced, as RFC 8446 6.1 wants it. */
bool sim_tls_is_ended(const struct user *u);

/* Whether u itself has brought it about that the connection ends without a close frame. */
bool sim_tls_wants_end(const struct user *u);

/* The server's keys are used up some time: it closes with 1012. */
static inline bool sim_tls_wears(const struct user *u)
{
    return u->tls != NULL && u->tls->terms.version == TLS_VERSION_1_2 &&
           u->tls->terms.rekey_log2 != 0;
}

/* The pong of that number has come: an answer to the request for new keys came before. */
void sim_tls_on_pong(struct user *u, uint32_t number);

#endif
