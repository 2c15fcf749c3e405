/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* tidewire-load: finds the scenario, reads its flags, runs it. Main thread. */

#include <stdio.h>
#include <string.h>

#include "tools/load/exits.h"
#include "tools/load/help.h"
#include "tools/load/run.h"

static int usage(const char *name)
{
    const char *names[LOAD_SCENARIOS_MAX];
    uint32_t count = 0;

    for (; load_scenarios[count] != NULL; count++)
        names[count] = load_scenarios[count]->name;
    const char *near = options_nearest(name, names, count);
    if (near != NULL)
        fprintf(stderr, "tidewire-load: unknown scenario \"%.60s\"; did you mean %s?\n", name,
                near);
    else
        fprintf(stderr, "tidewire-load: unknown scenario \"%.60s\"; see tidewire-load help\n",
                name);
    return LOAD_EXIT_USAGE;
}

static const struct scenario *find_scenario(const char *name)
{
    for (uint32_t i = 0; load_scenarios[i] != NULL; i++) {
        if (strcmp(load_scenarios[i]->name, name) == 0)
            return load_scenarios[i];
    }
    return NULL;
}

static void print_help(void *arg)
{
    load_help_scenario(arg, stdout);
}

static int run_scenario(const struct scenario *s, int argc, char **argv)
{
    static struct run r;
    struct option rows[LOAD_OPTIONS_MAX];
    uint32_t row_count = load_options_of(s->bit, rows);
    int code =
        load_config_read(&r.config, rows, row_count, argc, argv, print_help, (void *)s, &r.options);

    if (code != 0)
        return code == LOAD_DONE ? LOAD_EXIT_OK : code;
    r.scenario = s;
    code = run_main(&r);
    options_free(r.options);
    return code;
}

static int print_about(int argc, char **argv)
{
    const char *topic = argc > 2 ? argv[2] : "";

    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)
        puts("tidewire-load " TW_VERSION);
    else if (strcmp(topic, "--man") == 0)
        load_help_man(stdout);
    else if (topic[0] == '\0')
        load_help_overview(stdout);
    else if (find_scenario(topic) != NULL)
        load_help_scenario(find_scenario(topic), stdout);
    else
        return usage(topic);
    return LOAD_EXIT_OK;
}

int main(int argc, char **argv)
{
    static const char *const about[] = {"help", "--help", "-h", "version", "--version"};

    if (argc < 2) {
        load_help_overview(stderr);
        return LOAD_EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(about); i++) {
        if (strcmp(argv[1], about[i]) == 0)
            return print_about(argc, argv);
    }
    const struct scenario *s = find_scenario(argv[1]);
    return s != NULL ? run_scenario(s, argc - 1, argv + 1) : usage(argv[1]);
}
