/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef CORE_PLANT_H
#define CORE_PLANT_H

/* Known bugs that a test build (TW_PLANT) can plant one at a time, to prove that the simulation
 * finds them. In every other build PLANTED() is the constant 0 and its code is gone. */

enum plant {
    PLANT_NONE,
    PLANT_SKIP_FRAME_AT_SPLIT, /* ws_decoder: a frame whose header is cut is dropped */
    PLANT_LOSE_BACKLOG_ITEM,   /* mesh: the first item moved out of a backlog is lost */
    PLANT_EARLY_UNREF,         /* conn: a reference is dropped before its bytes are sent */
    PLANT_REORDER_RING,        /* ring: two staged items swap places */
    PLANT_DOUBLE_DELIVERY,     /* hub: the last member of a list with room left is served twice */
    PLANT_FORGET_REARM,        /* conn: receiving is not switched on again after a pause */
    PLANT_LEAK_ON_CLOSE,       /* sendq: references of a closed connection are kept */
    PLANT_FORGET_WAKE,         /* mesh: a sleeping consumer is not woken */
    PLANT_WRONG_MASK_PHASE,    /* ws_decoder: the mask starts anew after a split in a payload */
    PLANT_STALE_INTEREST,      /* home: a LEAVE is ignored when it is not the last */
    PLANT_LOSE_CREDIT,         /* home: credit that is a multiple of 64 bytes is not returned */
    PLANT_SHORT_SEND_AS_WHOLE, /* sendq: the rest of a queue behind IO_IOV_MAX spans is dropped */
    PLANT_TLS_SKIP_HEAD,       /* conn_tls: a record whose head is cut is dropped */
    PLANT_TLS_CUT_AS_WHOLE,    /* conn_tls: the rest of a reference that left in part is dropped */
    PLANT_TLS_NO_GOODBYE,      /* conn: who ends their side is not told by close_notify */
    PLANT_TLS_KEEP_KEYS,       /* tls_record: a KeyUpdate that asks for ours is not answered */
    PLANT_REDIS_FORGET_ROOM,   /* redis_subs: the first room is not subscribed again */
    PLANT_REDIS_UNKNOWN_ALONE, /* redis_publish: what Redis may have is delivered here at once */
    PLANT_REDIS_SMALL_GAP,     /* redis_publish: a gap of one message is not counted */
    PLANT_REDIS_REPEAT,        /* redis_publish: what was seen before is delivered again */
    PLANT_REDIS_LOSE_CREDIT,   /* redis_publish: what ends unanswered gives no credit back */
    PLANT_REDIS_MISS_END,      /* redis_subs: a room stays where a master has ended it */
    PLANT_MAX,
    PLANT_REDIS_FIRST = PLANT_REDIS_FORGET_ROOM, /* from here on several nodes find them */
};

#ifdef TW_PLANT
extern enum plant plant_now; /* set by the simulation before it starts */
#define PLANTED(bug) (plant_now == (bug))
#else
#define PLANTED(bug) 0
#endif

#endif
