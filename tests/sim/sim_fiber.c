/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Shards as fibers (ucontext) of the simulation's one thread. */

#include "tests/sim/sim_fiber.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#endif
#ifdef SIM_ASAN
#include <sanitizer/common_interface_defs.h>
#define LEAVE_STACK(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define ENTER_STACK(saved, bottom, size) __sanitizer_finish_switch_fiber(saved, bottom, size)
#else
#define LEAVE_STACK(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define ENTER_STACK(saved, bottom, size) ((void)(saved), (void)(bottom), (void)(size))
#endif

#define FIBERS_MAX 256

struct fiber {
    struct sim_fibers *fibers;
    struct io *io;
    void (*fn)(void *arg);
    void *arg;
    ucontext_t context;
    void *stack;
    void *fake_stack;     /* the sanitizer's, while the fiber is suspended */
    uint64_t deadline_ns; /* of the io_poll() in which it is suspended; 0 before the first */
    bool is_done;
};

struct sim_fibers {
    struct sim_net *net;
    struct fiber *list[FIBERS_MAX];
    uint32_t count;
    struct fiber *current; /* NULL: the scheduler runs */
    ucontext_t scheduler;
    void *scheduler_fake_stack;
    const void *scheduler_bottom; /* its stack, learnt when the first fiber begins */
    size_t scheduler_bytes;
};

/* From a fiber back to the scheduler; returns when it is resumed, never if `is_last`. */
static void give_way(struct sim_fibers *f, bool is_last)
{
    struct fiber *own = f->current;

    LEAVE_STACK(is_last ? NULL : &own->fake_stack, f->scheduler_bottom, f->scheduler_bytes);
    swapcontext(&own->context, &f->scheduler);
    ENTER_STACK(own->fake_stack, &f->scheduler_bottom, &f->scheduler_bytes);
}

static void resume(struct sim_fibers *f, struct fiber *next)
{
    f->current = next;
    LEAVE_STACK(&f->scheduler_fake_stack, next->stack, SIM_FIBER_STACK_BYTES);
    swapcontext(&f->scheduler, &next->context);
    ENTER_STACK(f->scheduler_fake_stack, NULL, NULL);
    f->current = NULL;
}

static void on_wait(void *ctx, struct io *io, uint64_t deadline_ns)
{
    struct sim_fibers *f = ctx;

    if (f->current == NULL)
        return; /* polled from outside */
    CHECK(f->current->io == io);
    f->current->deadline_ns = deadline_ns;
    give_way(f, false);
}

/* makecontext() passes ints only. */
static void fiber_main(unsigned high, unsigned low)
{
    struct fiber *own = (struct fiber *)((uintptr_t)high << 32 | low);
    struct sim_fibers *f = own->fibers;

    ENTER_STACK(NULL, &f->scheduler_bottom, &f->scheduler_bytes);
    own->fn(own->arg);
    own->is_done = true;
    sim_net_retire(f->net, own->io);
    give_way(f, true);
}

struct sim_fibers *sim_fibers_new(struct sim_net *net)
{
    struct sim_fibers *f = calloc(1, sizeof(*f));

    if (f == NULL)
        return NULL;
    f->net = net;
    sim_net_on_wait(net, on_wait, f);
    return f;
}

static void *stack_new(void)
{
    void *stack = mmap(NULL, SIM_FIBER_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (stack == MAP_FAILED)
        return NULL;
    mprotect(stack, 4096, PROT_NONE); /* stacks grow down into this */
    return stack;
}

int sim_fibers_add(struct sim_fibers *f, struct io *io, void (*fn)(void *arg), void *arg)
{
    struct fiber *own;

    if (f->count == FIBERS_MAX)
        return -EMFILE;
    own = calloc(1, sizeof(*own));
    if (own == NULL)
        return -ENOMEM;
    *own = (struct fiber){.fibers = f, .io = io, .fn = fn, .arg = arg, .stack = stack_new()};
    if (own->stack == NULL || getcontext(&own->context) != 0) {
        if (own->stack != NULL)
            munmap(own->stack, SIM_FIBER_STACK_BYTES);
        free(own);
        return -ENOMEM;
    }
    own->context.uc_stack.ss_sp = own->stack;
    own->context.uc_stack.ss_size = SIM_FIBER_STACK_BYTES;
    own->context.uc_link = NULL;
    makecontext(&own->context, (void (*)(void))fiber_main, 2, (unsigned)((uintptr_t)own >> 32),
                (unsigned)(uintptr_t)own);
    f->list[f->count++] = own;
    return 0;
}

void sim_fibers_free(struct sim_fibers *f)
{
    CHECK(f->current == NULL);
    sim_net_on_wait(f->net, NULL, NULL);
    for (uint32_t i = 0; i < f->count; i++) {
        munmap(f->list[i]->stack, SIM_FIBER_STACK_BYTES);
        free(f->list[i]);
    }
    free(f);
}

bool sim_fibers_step(struct sim_fibers *f)
{
    struct fiber *chosen = NULL;
    uint32_t runnable = 0;

    for (uint32_t i = 0; i < f->count; i++) {
        struct fiber *x = f->list[i];
        if (x->is_done || sim_io_would_wait(x->io, x->deadline_ns))
            continue;
        if (sim_net_below(f->net, ++runnable) == 0)
            chosen = x;
    }
    if (chosen != NULL)
        resume(f, chosen);
    return chosen != NULL;
}

uint64_t sim_fibers_deadline_ns(const struct sim_fibers *f)
{
    uint64_t deadline_ns = IO_FOREVER;

    for (uint32_t i = 0; i < f->count; i++) {
        if (!f->list[i]->is_done)
            deadline_ns = min_u64(deadline_ns, f->list[i]->deadline_ns);
    }
    return deadline_ns;
}

uint32_t sim_fibers_running(const struct sim_fibers *f)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < f->count; i++)
        count += !f->list[i]->is_done;
    return count;
}
