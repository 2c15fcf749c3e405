/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Kinds of error replies. Any thread. */

#include "pubsub/redis_error.h"

#include <stdbool.h>
#include <string.h>

static const struct {
    const char *word;
    const char *label;
    const char *remedy;
} errors[] = {
#define X(id, word, label, remedy) {word, label, remedy},
    REDIS_ERRORS(X)
#undef X
};

/* Whether text begins with word and the word ends there. */
static bool begins_with(const char *text, size_t len, const char *word, size_t word_len)
{
    if (len < word_len || memcmp(text, word, word_len) != 0)
        return false;
    return word_len == 0 || len == word_len || text[word_len] == ' ';
}

enum redis_error redis_error_of(const char *text, size_t len)
{
    enum redis_error best = REDIS_ERROR_OTHER;
    size_t best_len = 0;

    for (uint32_t i = 0; i < REDIS_ERROR_COUNT; i++) {
        size_t word_len = strlen(errors[i].word);
        if (word_len >= best_len && begins_with(text, len, errors[i].word, word_len)) {
            best = (enum redis_error)i;
            best_len = word_len;
        }
    }
    return best;
}

const char *redis_error_label(enum redis_error e)
{
    return errors[e].label;
}

const char *redis_error_remedy(enum redis_error e)
{
    return errors[e].remedy;
}
