/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef PUBSUB_REDIS_ERROR_H
#define PUBSUB_REDIS_ERROR_H

/* Kinds of error replies, by their first word, for counters, logs and decisions. Any thread. */

#include "core/base.h"

/* X(id, word, label, remedy): the reply's first word (the longest that fits counts; "" fits all),
 * the label of metrics, and what an operator can do, for the log. */
#define REDIS_ERRORS(X)                                                                            \
    X(OTHER, "", "other", "see the server's own log")                                              \
    X(ERR, "ERR", "err", "see the text of the error")                                              \
    X(MAX_CLIENTS, "ERR max number of clients reached", "max_clients",                             \
      "raise the server's maxclients")                                                             \
    X(DENIED, "DENIED", "denied", "set a password, or turn the server's protected-mode off")       \
    X(LOADING, "LOADING", "loading", "wait until the server has loaded its data")                  \
    X(NOAUTH, "NOAUTH", "noauth", "give the password in the URL")                                  \
    X(WRONGPASS, "WRONGPASS", "wrongpass", "correct user and password in the URL")                 \
    X(NOPERM, "NOPERM", "noperm", "allow the command and the channels to the user (ACL SETUSER)")  \
    X(READONLY, "READONLY", "readonly", "give the address of the master, not of a replica")        \
    X(OOM, "OOM", "oom", "raise the server's maxmemory or let it evict")                           \
    X(MISCONF, "MISCONF", "misconf", "let the server save its data, or stop it trying to")         \
    X(MOVED, "MOVED", "moved", "give the servers of a cluster as redis+cluster://")                \
    X(ASK, "ASK", "ask", "give the servers of a cluster as redis+cluster://")                      \
    X(CROSSSLOT, "CROSSSLOT", "crossslot", "give the servers of a cluster as redis+cluster://")    \
    X(TRYAGAIN, "TRYAGAIN", "tryagain", "wait until the slot has moved")                           \
    X(CLUSTERDOWN, "CLUSTERDOWN", "clusterdown", "mend the cluster: slots have no master")         \
    X(MASTERDOWN, "MASTERDOWN", "masterdown", "wait for the failover, or restart the master")      \
    X(NOREPLICAS, "NOREPLICAS", "noreplicas", "restart the replicas, see min-replicas-to-write")   \
    X(BUSY, "BUSY", "busy", "end the script that keeps the server busy")                           \
    X(NOPROTO, "NOPROTO", "noproto", "use a server that speaks RESP2")

enum redis_error {
#define X(id, word, label, remedy) REDIS_ERROR_##id,
    REDIS_ERRORS(X)
#undef X
        REDIS_ERROR_COUNT
};

/* The kind of an error reply's text (without the leading '-'). */
enum redis_error redis_error_of(const char *text, size_t len);

/* Constant texts: the label of metrics; the remedy. */
const char *redis_error_label(enum redis_error e);
const char *redis_error_remedy(enum redis_error e);

#endif
