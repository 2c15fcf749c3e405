/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */
#ifndef TOOLS_LOAD_JSON_OUT_H
#define TOOLS_LOAD_JSON_OUT_H

/* Writes one JSON object (RFC 8259), members in the order of the calls, a member of the outermost
 * object a line. One thread. */

#include <stdbool.h>
#include <stdio.h>

#include "core/base.h"

struct json_out {
    FILE *out;
    int depth;
    bool has_member; /* of the object that is open */
};

/* The outermost object; name is NULL for it. NULL as a value is null. */
void json_open(struct json_out *j, const char *name);
void json_close(struct json_out *j);
void json_text(struct json_out *j, const char *name, const char *value);
void json_number(struct json_out *j, const char *name, uint64_t value);
/* With `digits` behind the point. */
void json_real(struct json_out *j, const char *name, double value, int digits);
void json_bool(struct json_out *j, const char *name, bool value);
void json_null(struct json_out *j, const char *name);

#endif
