/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The first byte says where the rest is read from: the config file, the command line or the
 * environment (one argument or variable a line), or that it is the name of a file that can't be
 * read. Property: what is accepted prints as a config file
 * that is accepted and gives the same values; what is refused gives one clean line. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/options.h"
#include "tools/tidewire/config.h"

#define WORDS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    struct config c;
    struct options *o;
    int code;
};

static void check_message(const char *text, size_t len)
{
    CHECK(len > 11);
    CHECK(memcmp(text, "tidewire: ", 10) == 0);
    CHECK(text[len - 1] == '\n');
    for (size_t i = 0; i + 1 < len; i++)
        CHECK((unsigned char)text[i] >= 0x20);
}

static void read_with(struct reading *r, char **args, char **env)
{
    int argc = 0;
    while (args[argc] != NULL)
        argc++;
    char *message = NULL;
    size_t len = 0;
    FILE *err = open_memstream(&message, &len);
    CHECK(err != NULL);
    r->code =
        options_read(config_table, config_table_len, &r->c, argc, args, env, NULL, err, &r->o);
    fclose(err);
    if (r->code == 0)
        CHECK(len == 0);
    else
        check_message(message, len);
    free(message);
}

static void read_file(struct reading *r, const void *text, size_t len)
{
    char flag[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(write(fd, text, len) == (ssize_t)len);
    snprintf(flag, sizeof(flag), "--config=/proc/self/fd/%d", fd);
    read_with(r, (char *[]){"serve", flag, NULL}, (char *[]){NULL});
    close(fd);
}

/* A file that is not there; without a name the directory itself, which opens but does not read. */
static void read_missing_file(struct reading *r, const char *name)
{
    static const char missing[] = "--config=/proc/missing/";
    char flag[sizeof(missing) + 256];
    snprintf(flag, sizeof(flag), "%s%.256s", name[0] != 0 ? missing : "--config=/", name);
    read_with(r, (char *[]){"serve", flag, NULL}, (char *[]){NULL});
    CHECK(r->code == OPTIONS_EXIT_FILE);
}

/* Wherever a value came from, what is said about it is one clean line. */
static void check_places(const struct options *o)
{
    for (uint32_t i = 0; i < config_table_len; i++) {
        const char *where = NULL;
        char *message = NULL;
        size_t len = 0;
        FILE *err = open_memstream(&message, &len);
        CHECK(err != NULL);
        CHECK(options_source(o, config_table[i].name, &where) <= OPTION_COMMAND);
        CHECK(where[0] != 0);
        options_complain(o, config_table[i].name, err, "came from %s", where);
        fclose(err);
        check_message(message, len);
        free(message);
    }
}

/* Whether nothing of the values is masked. */
static bool is_all_shown(const struct reading *r)
{
    for (uint32_t i = 0; i < config_table_len; i++) {
        const struct option *row = &config_table[i];
        const void *at = (const char *)&r->c + row->offset;
        const struct option_list *list = row->type == OPTION_LIST ? at : NULL;
        for (uint32_t k = 0; row->mask != NULL && list != NULL && k < list->count; k++) {
            char shown[2 * OPTIONS_TEXT_MAX];
            row->mask(list->items[k], shown, sizeof(shown));
            if (strcmp(shown, list->items[k]) != 0)
                return false;
        }
    }
    return true;
}

static void check_round_trip(const struct reading *r)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    options_print_config(r->o, out);
    fclose(out);
    struct reading again;
    read_file(&again, text, len);
    CHECK(again.code == 0);
    for (uint32_t i = 0; i < config_table_len; i++) {
        static char a[1 << 20], b[1 << 20];
        const char *name = config_table[i].name;
        options_value_text(r->o, name, a, sizeof(a));
        options_value_text(again.o, name, b, sizeof(b));
        CHECK(strcmp(a, b) == 0);
    }
    free(text);
    options_free(again.o);
}

/* The lines of a text as words behind `first`; `config` ones could name any file of the host. */
static void split(char *text, char *first, char **words)
{
    size_t count = 0;
    if (first != NULL)
        words[count++] = first;
    for (char *line = strtok(text, "\n"); line != NULL && count < WORDS_MAX - 1;
         line = strtok(NULL, "\n")) {
        if (strstr(line, "config") == NULL && strstr(line, "CONFIG") == NULL)
            words[count++] = line;
    }
    words[count] = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct reading r = {0};
    char *text = strndup((const char *)data + 1, size - 1);
    char *words[WORDS_MAX], *none[] = {NULL}, *program[] = {"serve", NULL};
    CHECK(text != NULL);
    if (data[0] == 'n') {
        read_missing_file(&r, text);
    } else if (data[0] % 3 == 0) {
        read_file(&r, data + 1, size - 1);
    } else if (data[0] % 3 == 1) {
        split(text, "serve", words);
        read_with(&r, words, none);
    } else {
        split(text, NULL, words);
        read_with(&r, program, words);
    }
    if (r.code == 0) {
        if (is_all_shown(&r))
            check_round_trip(&r);
        check_places(r.o);
        options_free(r.o);
    }
    free(text);
    return 0;
}
