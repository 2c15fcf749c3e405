/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* What the kernel tells about processes under /proc. Any thread. */

#include "tools/load/proc.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define CHILDREN_DEPTH 4

/* The beginning of a small file as text; false when it can't be read. */
static bool read_text(const char *path, char *text, size_t cap)
{
    FILE *f = fopen(path, "re");
    size_t n;

    if (f == NULL)
        return false;
    n = fread(text, 1, cap - 1, f);
    text[n] = '\0';
    fclose(f);
    return n > 0;
}

/* proc(5): utime and stime are the fields 14 and 15; the second, in brackets, may hold anything. */
static bool parse_stat(const char *text, struct proc_cpu *cpu)
{
    const char *p = strrchr(text, ')');
    uint64_t user, system;
    uint64_t tick_ns = NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);

    if (p == NULL ||
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user,
               &system) != 2)
        return false;
    cpu->user_ns += user * tick_ns;
    cpu->system_ns += system * tick_ns;
    return true;
}

/* A thread may end between the listing and here: it is left out. */
static void add_thread(const char *pid, const char *tid, struct proc_cpu *cpu)
{
    char path[128], text[LINE_MAX_BYTES];
    uint64_t run_ns;

    snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid, tid);
    if (read_text(path, text, sizeof(text)) && sscanf(text, "%" SCNu64, &run_ns) == 1)
        cpu->total_ns += run_ns;
    snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, tid);
    if (read_text(path, text, sizeof(text)))
        (void)parse_stat(text, cpu);
}

typedef void (*use_fn)(const char *pid, void *arg);

static bool visit(const char *pid, use_fn use, void *arg, int depth);

/* What a thread has forked: a launcher in front of the server, or a master's workers. */
static void visit_children(const char *pid, const char *tid, use_fn use, void *arg, int depth)
{
    char path[128], text[8 * LINE_MAX_BYTES];
    char *rest = NULL;

    snprintf(path, sizeof(path), "/proc/%s/task/%s/children", pid, tid);
    if (depth == 0 || !read_text(path, text, sizeof(text)))
        return;
    for (char *child = strtok_r(text, " ", &rest); child != NULL;
         child = strtok_r(NULL, " ", &rest))
        (void)visit(child, use, arg, depth - 1);
}

/* A process and its children; false: there is none of that number. */
static bool visit(const char *pid, use_fn use, void *arg, int depth)
{
    char path[64];
    struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%.20s/task", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    use(pid, arg);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            visit_children(pid, entry->d_name, use, arg, depth);
    }
    closedir(dir);
    return true;
}

bool proc_each(const struct option_list *pids, use_fn use, void *arg, const char **missing)
{
    for (uint32_t i = 0; i < pids->count; i++) {
        if (!visit(pids->items[i], use, arg, CHILDREN_DEPTH)) {
            *missing = pids->items[i];
            return false;
        }
    }
    return true;
}

static void add_process(const char *pid, void *arg)
{
    char path[64];
    struct dirent *entry;

    snprintf(path, sizeof(path), "/proc/%.20s/task", pid);
    DIR *dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            add_thread(pid, entry->d_name, arg);
    }
    if (dir != NULL)
        closedir(dir);
}

bool proc_cpu_read(const struct option_list *pids, struct proc_cpu *cpu, const char **missing)
{
    memset(cpu, 0, sizeof(*cpu));
    return proc_each(pids, add_process, cpu, missing);
}

void proc_thread(uint64_t *cpu_ns, uint64_t *wait_ns)
{
    char path[64], text[128];
    struct timespec t;

    *wait_ns = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    *cpu_ns = (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
    snprintf(path, sizeof(path), "/proc/self/task/%ld/schedstat", syscall(SYS_gettid));
    if (read_text(path, text, sizeof(text)))
        (void)sscanf(text, "%*u %" SCNu64, wait_ns);
}
