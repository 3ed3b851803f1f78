/* The stand-in driver's memory, and work that waits in streams until something waits for it (driver.h, driver.c).
 * Memory lies between guards and is NaN where nothing was written. Streams are queues; an event has a number for each time it was
 * recorded, and a stream that waits for a number waits until it is reached. In a graph, what was recorded from each stream is a lane;
 * its events are marks. */
#include "tests/gpu/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GUARD = 4096 };

void die(const char *what, const char *detail)
{
    fprintf(stderr, "test driver: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    abort();
}

bool fails(void)
{
    static long calls;
    const char *which = getenv("CNNC_GPU_FAIL");
    return which && ++calls == atol(which);
}

/* ---- memory ---- */

Block *blocks;

Block *block_of(const void *p, size_t n, bool pinned)
{
    for (Block *b = blocks; b; b = b->next)
        if (b->pinned == pinned && (const char *)p >= b->at && (const char *)p + n <= b->at + b->size)
            return b;
    return NULL;
}

void *take(size_t n, bool pinned)
{
    Block *b = calloc(1, sizeof *b);
    char *memory = aligned_alloc(256, (n + 2 * GUARD + 255) / 256 * 256);
    if (!b || !memory)
        die("out of memory", NULL);
    memset(memory, 0xff, n + 2 * GUARD);   /* as floats: NaN */
    *b = (Block){blocks, memory + GUARD, n, pinned};
    blocks = b;
    return b->at;
}

int give(void *p, bool pinned)
{
    for (Block **at = &blocks; *at; at = &(*at)->next) {
        Block *b = *at;
        if (b->at != p || b->pinned != pinned)
            continue;
        for (size_t i = 0; i < GUARD; i++)
            if (b->at[-1 - (int)i] != -1 || b->at[b->size + i] != -1)
                die("something was written beside a buffer", NULL);
        memset(b->at, 0xff, b->size);
        *at = b->next;
        free(b->at - GUARD);
        free(b);
        return 0;
    }
    die("memory is freed that is not taken", NULL);
    return INVALID;
}

/* ---- work in streams ---- */
struct CudaStream *streams;
struct CudaStream legacy;
int objects;

void *new_object(size_t n)
{
    void *p = calloc(1, n);
    if (!p)
        die("out of memory", NULL);
    objects++;
    return p;
}

void drop_object(void *p)
{
    objects--;
    free(p);
}

static void push(Queue *q, const Op *op)
{
    Op *copy = malloc(sizeof *copy);
    if (!copy)
        die("out of memory", NULL);
    *copy = *op;
    copy->next = NULL;
    if (!q->first)
        q->last = &q->first;
    *q->last = copy;
    q->last = &copy->next;
}

static Op *pop(Queue *q)
{
    Op *op = q->first;
    q->first = op->next;
    return op;
}

static void free_op(Op *op)
{
    free(op->words);
    free(op->staged);
    free(op);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void run_kernel(const Op *op)
{
    const struct CudaKernel *k = op->kernel;
    if (host_launch(k->code, op->words, &op->launch, &(HostRun){HOST_ASCENDING, 1}) != 0)
        die(k->name, host_error_text());
}

static bool runs_ahead(void)
{
    const char *order = getenv("CNNC_GPU_ORDER");
    return !order || strcmp(order, "behind") != 0;
}

static const Op *next_in_lane(const Op *op, int lane)
{
    while (op && op->lane != lane)
        op = op->next;
    return op;
}

static void run_op(const Op *op);

/* Each lane as far as its marks let it, the last lane first, or (behind) the first one. */
static void run_graph(const struct CudaGraph *g)
{
    const Op *next[LANES];
    bool *done = calloc((size_t)g->marks + 1, sizeof *done), moved = true;
    if (!done)
        die("out of memory", NULL);
    for (int i = 0; i < g->lanes; i++)
        next[i] = next_in_lane(g->ops.first, i);
    while (moved) {
        moved = false;
        for (int i = 0; i < g->lanes; i++) {
            int lane = runs_ahead() ? g->lanes - 1 - i : i;
            for (const Op *op; (op = next[lane]) && (op->kind != OP_WAIT || done[op->mark]); moved = true) {
                if (op->kind == OP_RECORD)
                    done[op->mark] = true;
                else if (op->kind != OP_WAIT)
                    run_op(op);
                next[lane] = next_in_lane(op->next, lane);
            }
        }
    }
    free(done);
    for (int i = 0; i < g->lanes; i++)
        if (next[i])
            die("a graph waits for something that never comes", NULL);
}

static void run_op(const Op *op)
{
    switch (op->kind) {
    case OP_COPY:
        memcpy(op->to, op->from, op->n);
        break;
    case OP_KERNEL:
        run_kernel(op);
        break;
    case OP_GRAPH:
        run_graph(op->graph);
        break;
    case OP_RECORD:
        op->event->done = op->ticket;
        op->event->at = now();
        break;
    case OP_WAIT:
        break;
    }
}

static bool is_blocked(const Op *op) { return op->kind == OP_WAIT && op->event->done < op->ticket; }

void drop_graph(struct CudaGraph *g)
{
    if (--g->users > 0)
        return;
    while (g->ops.first)
        free_op(pop(&g->ops));
    drop_object(g);
}

/* False: the stream has nothing to do, or waits for another. */
static bool step(struct CudaStream *s)
{
    if (!s->todo.first || is_blocked(s->todo.first))
        return false;
    Op *op = pop(&s->todo);
    run_op(op);
    if (op->kind == OP_GRAPH)
        drop_graph(op->graph);
    free_op(op);
    return true;
}

void run_until(struct CudaStream *s, const struct CudaEvent *e, long ticket)
{
    bool moved = true;
    while (moved && (e ? e->done < ticket : s->todo.first != NULL)) {
        moved = false;
        for (struct CudaStream *o = streams; o; o = o->next)
            while (o != s && (runs_ahead() || (s && s->todo.first && is_blocked(s->todo.first)) || !s) && step(o)) {
                moved = true;
                if (!runs_ahead())
                    break;
            }
        moved |= s && step(s);
    }
    if (e ? e->done < ticket : s->todo.first != NULL)
        die("a stream waits for something that never comes", NULL);
}

int enqueue(struct CudaStream *s, const Op *op)
{
    if (!s)
        die("work for a stream that is none", NULL);
    Op copy = *op;
    copy.lane = s->lane;
    push(s->recording ? &s->recording->ops : &s->todo, &copy);
    return 0;
}

void must_not_record(const struct CudaStream *s)
{
    if (s->recording)
        die("a stream is waited for while it is recorded", NULL);
}
