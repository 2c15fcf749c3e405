/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Writes one JSON object. One thread. */

#include "tools/load/json_out.h"

#include <inttypes.h>
#include <math.h>

static void put_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fputc('\\', out);
        if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void begin_member(struct json_out *j, const char *name)
{
    if (j->has_member)
        fputc(',', j->out);
    if (j->depth == 1)
        fputs("\n  ", j->out);
    else if (j->has_member)
        fputc(' ', j->out);
    if (name != NULL) {
        put_string(j->out, name);
        fputs(": ", j->out);
    }
    j->has_member = true;
}

void json_open(struct json_out *j, const char *name)
{
    if (j->depth > 0)
        begin_member(j, name);
    fputc('{', j->out);
    j->depth++;
    j->has_member = false;
}

void json_close(struct json_out *j)
{
    j->depth--;
    fputs(j->depth == 0 ? "\n}\n" : "}", j->out);
    j->has_member = true;
}

void json_text(struct json_out *j, const char *name, const char *value)
{
    if (value == NULL) {
        json_null(j, name);
        return;
    }
    begin_member(j, name);
    put_string(j->out, value);
}

void json_number(struct json_out *j, const char *name, uint64_t value)
{
    begin_member(j, name);
    fprintf(j->out, "%" PRIu64, value);
}

void json_real(struct json_out *j, const char *name, double value, int digits)
{
    begin_member(j, name);
    if (isfinite(value))
        fprintf(j->out, "%.*f", digits, value);
    else
        fputs("null", j->out);
}

void json_bool(struct json_out *j, const char *name, bool value)
{
    begin_member(j, name);
    fputs(value ? "true" : "false", j->out);
}

void json_null(struct json_out *j, const char *name)
{
    begin_member(j, name);
    fputs("null", j->out);
}
