/* Runs kernels of CUDA text on a CPU: see host_run.h.
 *
 * Fibers. A block's threads are fibers on stacks of their own; one runs until it exits or waits. A barrier is passed when all
 * threads of the block wait at the same line of the text; a warp operation when all lanes of the warp do. When none can run
 * and that is not so, the block diverged: an error, and the block ends.
 *
 * Memory. The compiler calls __tsan_read4(p) and the like before every access. Device memory lies in one reserved range with
 * gaps between allocations; shared memory is an array of which a launch may touch as many bytes as it asked for. Each granule
 * remembers its last write and read: by which thread, and when (a counter that every barrier and every block moves on). Two
 * accesses, one of them a write, must have a barrier between them, and must not come from two blocks of a launch. */
#include "tests/gpu/host_run.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST_THREADS = 1024, WARP = 32, STACK = 64 << 10, SHARED_MOST = 227 << 10, GAP = 4096, MOST_SITES = 64, GRANULE = 2 };   /* GRANULE: bytes of the smallest element that neighbours may write */
#define DEVICE_BYTES ((size_t)8 << 30)

typedef struct { int x, y, z; } HostIndex;
HostIndex threadIdx, blockIdx, blockDim, gridDim;
float shared[SHARED_MOST / sizeof(float)] __attribute__((aligned(1024)));

typedef enum { READY, AT_BARRIER, IN_WARP, EXITED } State;
typedef struct { void *to; const void *from; size_t bytes; bool inside; int group; const void *code; } Copy;
enum { MOST_COPIES = 128 };
typedef struct { void *stack_pointer; State state; int line; Copy copy[MOST_COPIES]; int n_copies, group; } Fiber;   /* copies not waited for */
typedef struct { uint32_t written, read; uint16_t writer, reader; } Granule;    /* threads count from 1; MANY: several */
enum { MANY = 0xffff };
typedef struct Warp { int arrived; const void *argument[WARP]; } Warp;

static struct {
    Fiber fiber[MOST_THREADS];
    Warp warp[MOST_THREADS / WARP];
    int order[MOST_THREADS], rank[MOST_THREADS];   /* in which the threads get their turns; where each comes in it */
    int n, current;                  /* threads; the running one, -1: none */
    int waiting, exited;
    bool stopped;
    void *caller;                    /* stack pointer of host_launch */
    char *stacks;
    HostKernel kernel;
    const uint64_t *words;
    int n_words;
    uint32_t now, block_began, launch_began;
    char *device;                    /* the reserved range */
    size_t used;
    uint8_t *valid;                  /* a byte for 2 bytes of the range: 1 inside an allocation */
    Granule *device_granules, *shared_granules;
    size_t shared_bytes;
    const void *site[MOST_SITES];    /* code that was reported */
    int n_sites, errors;
    char text[4096];
    uint32_t random;
} h = {.current = -1, .now = 1};

/* ---- reports ---- */
static void report(const char *fmt, ...)
{
    size_t len = strlen(h.text);
    va_list ap;
    h.errors++;
    if (len + 300 > sizeof h.text)
        return;
    len += (size_t)snprintf(h.text + len, sizeof h.text - len, "block %d,%d,%d thread %d: ", blockIdx.x, blockIdx.y, blockIdx.z, h.current);
    va_start(ap, fmt);
    len += (size_t)vsnprintf(h.text + len, sizeof h.text - len, fmt, ap);
    va_end(ap);
    snprintf(h.text + len, sizeof h.text - len, "\n");
}

/* A line of text for an access, once for each place in the code. */
static void report_access(const char *what, const void *code, const void *at, size_t size)
{
    for (int i = 0; i < h.n_sites; i++)
        if (h.site[i] == code)
            return;
    if (h.n_sites < MOST_SITES)
        h.site[h.n_sites++] = code;
    Dl_info where;
    char line[200] = "?", command[600];
    if (dladdr(code, &where)) {
        snprintf(command, sizeof command, "addr2line -s -e %s 0x%zx 2>/dev/null", where.dli_fname,
                 (size_t)((const char *)code - (const char *)where.dli_fbase) - 1);
        FILE *p = popen(command, "r");
        if (p && !fgets(line, sizeof line, p))
            strcpy(line, "?");
        if (p)
            pclose(p);
        line[strcspn(line, "\n")] = 0;
    }
    bool in_shared = (const char *)at >= (char *)shared && (const char *)at < (char *)shared + SHARED_MOST;
    report("%s: %zu bytes of %s memory at offset %zd, %s", what, size, in_shared ? "shared" : "device",
           (const char *)at - (in_shared ? (char *)shared : h.device), line);
}

int host_errors(void) { return h.errors; }
const char *host_error_text(void) { return h.text; }
void host_clear_errors(void)
{
    h.errors = h.n_sites = 0;
    h.text[0] = 0;
}

/* ---- device memory ---- */
static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        abort();
    }
    return p;
}

static void reserve_all(void)
{
    if (h.device)
        return;
    h.device = reserve(DEVICE_BYTES);
    h.valid = reserve(DEVICE_BYTES / GRANULE);
    h.device_granules = reserve(DEVICE_BYTES / GRANULE * sizeof(Granule));
    h.shared_granules = reserve(SHARED_MOST / GRANULE * sizeof(Granule));
    h.stacks = reserve((size_t)STACK * MOST_THREADS);
}

void *host_alloc(size_t bytes)
{
    reserve_all();
    size_t at = h.used + GAP;
    h.used = (at + bytes + 255) / 256 * 256;
    if (h.used + GAP > DEVICE_BYTES)
        abort();
    memset(h.device + at, 0xff, bytes);
    memset(h.valid + at / GRANULE, 1, (bytes + GRANULE - 1) / GRANULE);
    return h.device + at;
}

void host_free_all(void)
{
    if (!h.device)
        return;
    madvise(h.device, DEVICE_BYTES, MADV_DONTNEED);
    madvise(h.valid, DEVICE_BYTES / GRANULE, MADV_DONTNEED);
    madvise(h.device_granules, DEVICE_BYTES / GRANULE * sizeof(Granule), MADV_DONTNEED);
    h.used = 0;
}

/* ---- checks of accesses ---- */

/* Shared memory is a block's own, device memory the launch's: accesses before `since` do not count. */
static bool clashes(uint32_t when, uint16_t who, uint32_t since)
{
    if (who == 0 || when < since)
        return false;
    return when < h.block_began || (when == h.now && who != (uint16_t)(h.current + 1));
}

static bool touch(Granule *g, uint32_t since, bool write, const void *code, const void *at, size_t size)
{
    uint16_t me = (uint16_t)(h.current + 1);
    bool bad = clashes(g->written, g->writer, since) || (write && clashes(g->read, g->reader, since));
    if (bad)
        report_access(write ? "RACE: a write" : "RACE: a read", code, at, size);
    if (write) {
        g->written = h.now;
        g->writer = me;
    } else {
        g->reader = g->read == h.now && g->reader && g->reader != me ? MANY : me;
        g->read = h.now;
    }
    return bad;
}

static void check_device(const char *p, size_t size, bool write, const void *code)
{
    size_t first = (size_t)(p - h.device) / GRANULE, last = (size_t)(p + size - 1 - h.device) / GRANULE;
    for (size_t i = first; i <= last; i++) {
        if (!h.valid[i]) {
            report_access(write ? "OUT OF BOUNDS: a write" : "OUT OF BOUNDS: a read", code, p, size);
            return;
        }
        if (touch(&h.device_granules[i], h.launch_began, write, code, p, size))
            return;
    }
}

static void check_shared(const char *p, size_t size, bool write, const void *code)
{
    size_t offset = (size_t)(p - (char *)shared);
    if (offset + size > h.shared_bytes) {
        report_access(write ? "OUT OF BOUNDS: a write" : "OUT OF BOUNDS: a read", code, p, size);
        return;
    }
    for (size_t i = offset / GRANULE; i <= (offset + size - 1) / GRANULE; i++)
        if (touch(&h.shared_granules[i], h.block_began, write, code, p, size))
            return;
}

static void check(const void *at, size_t size, bool write, const void *code)
{
    const char *p = at;
    if (h.current < 0)
        return;
    if ((size_t)(p - h.device) < DEVICE_BYTES)
        check_device(p, size, write, code);
    else if ((size_t)(p - (char *)shared) < SHARED_MOST)
        check_shared(p, size, write, code);
}

static void stop(void);

/* The processor may refuse the access: the block ends. */
static void check_aligned(const void *at, size_t size, bool write, const void *code)
{
    if (h.current >= 0 && (uintptr_t)at % size) {
        report_access("MISALIGNED", code, at, size);
        stop();
    }
    check(at, size, write, code);
}

/* The compiler's calls (-fsanitize=thread). */
#define HERE __builtin_return_address(0)
#define HOOKS(n)                                                                                        \
    void __tsan_read##n(void *p) { check_aligned(p, n, false, HERE); }                                  \
    void __tsan_write##n(void *p) { check_aligned(p, n, true, HERE); }                                  \
    void __tsan_unaligned_read##n(void *p) { check_aligned(p, n, false, HERE); }                        \
    void __tsan_unaligned_write##n(void *p) { check_aligned(p, n, true, HERE); }
#define DECLARE(n)                                                                                      \
    void __tsan_read##n(void *), __tsan_write##n(void *), __tsan_unaligned_read##n(void *), __tsan_unaligned_write##n(void *);
DECLARE(1) DECLARE(2) DECLARE(4) DECLARE(8) DECLARE(16)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void *p, size_t n), __tsan_write_range(void *p, size_t n), __tsan_func_entry(void *), __tsan_func_exit(void), __tsan_init(void);
void __tsan_read_range(void *p, size_t n) { check(p, n, false, HERE); }
void __tsan_write_range(void *p, size_t n) { check(p, n, true, HERE); }
void __tsan_func_entry(void *p) { (void)p; }
void __tsan_func_exit(void) {}
void __tsan_init(void) {}

/* ---- fibers (x86-64, System V) ---- */
void host_switch(void **save, void *to);
__asm__(".text\n.globl host_switch\n.type host_switch, @function\nhost_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size host_switch, .-host_switch\n");

static void go_to(int next)
{
    void **save = h.current < 0 ? &h.caller : &h.fiber[h.current].stack_pointer;
    h.current = next;
    if (next >= 0)
        threadIdx.x = next;
    host_switch(save, next < 0 ? h.caller : h.fiber[next].stack_pointer);
}

static void stop(void)
{
    h.stopped = true;
    go_to(-1);
}

static int next_ready(void)
{
    int from = h.rank[h.current] + 1;
    for (int i = from; i < from + h.n; i++) {
        int t = h.order[i < h.n ? i : i - h.n];
        if (h.fiber[t].state == READY)
            return t;
    }
    return -1;
}

static void explain_waiting(void)
{
    for (int i = 0, j; i < h.n; i = j) {
        const Fiber *f = &h.fiber[i];
        for (j = i + 1; j < h.n && h.fiber[j].state == f->state && h.fiber[j].line == f->line; j++) {}
        static const char *const text[] = {"could run", "wait at a barrier", "wait for their warp", "have exited"};
        report("DIVERGENT: threads %d..%d %s (line %d of the text)", i, j - 1, text[f->state], f->line);
    }
}

/* Gives the processor to a thread that can run; opens the barrier when all wait at it. */
static void pass_on(void)
{
    int next = next_ready();
    if (next < 0 && h.waiting == h.n) {
        bool same = true;
        for (int i = 1; i < h.n; i++)
            same = same && h.fiber[i].line == h.fiber[0].line;
        if (same) {
            for (int i = 0; i < h.n; i++)
                h.fiber[i].state = READY;
            h.waiting = 0;
            h.now++;
            next = h.order[0];
        }
    }
    if (next < 0 && h.exited == h.n)
        go_to(-1);
    if (next < 0) {
        explain_waiting();
        stop();
    }
    if (next != h.current)
        go_to(next);
}

void host_barrier(int line);
void host_barrier(int line)
{
    Fiber *f = &h.fiber[h.current];
    f->state = AT_BARRIER;
    f->line = line;
    h.waiting++;
    pass_on();
}

/* All lanes of the warp meet; the last one runs `all` over their arguments. */
static void meet(const void *argument, void (*all)(Warp *), int line)
{
    Warp *w = &h.warp[h.current / WARP];
    int first = h.current / WARP * WARP, lanes = h.n - first < WARP ? h.n - first : WARP;
    Fiber *f = &h.fiber[h.current];
    w->argument[h.current - first] = argument;
    f->line = line;
    if (++w->arrived < lanes) {
        f->state = IN_WARP;
        pass_on();
        return;
    }
    for (int i = 0; i < lanes; i++)
        if (h.fiber[first + i].line != line) {
            explain_waiting();
            stop();
        }
    all(w);
    w->arrived = 0;
    for (int i = 0; i < lanes; i++)
        h.fiber[first + i].state = READY;
}

typedef struct { float value, result; int lane_mask; } Shuffle;
static void shuffle_all(Warp *w)
{
    for (int i = 0; i < WARP; i++) {
        Shuffle *s = (Shuffle *)w->argument[i];
        s->result = ((const Shuffle *)w->argument[i ^ s->lane_mask])->value;
    }
}

float host_shuffle_xor(float value, int lane_mask, int line);
float host_shuffle_xor(float value, int lane_mask, int line)
{
    Shuffle s = {value, 0, lane_mask};
    meet(&s, shuffle_all, line);
    return s.result;
}

/* ---- tensor cores ---- */
typedef struct { unsigned *to; const uint16_t *line; int turned; } Matrices;

/* Of matrix m lane i gets elements 2 * (i % 4) and the next of line i / 4; turned: element i / 4 of lines 2 * (i % 4) and the next. */
static void deal_all(Warp *w)
{
    for (int i = 0; i < WARP; i++)
        for (int m = 0; m < 4; m++) {
            const Matrices *me = w->argument[i];
            uint16_t pair[2];
            for (int e = 0; e < 2; e++) {
                int line = me->turned ? 2 * (i % 4) + e : i / 4, element = me->turned ? i / 4 : 2 * (i % 4) + e;
                pair[e] = ((const Matrices *)w->argument[8 * m + line])->line[element];
            }
            me->to[m] = pair[0] | (unsigned)pair[1] << 16;
        }
}

void host_ldmatrix(unsigned *to, const uint16_t *line, int turned, int line_of_text);
void host_ldmatrix(unsigned *to, const uint16_t *line, int turned, int line_of_text)
{
    Matrices m = {to, line, turned};
    check_aligned(line, 16, false, HERE);
    if ((size_t)((const char *)line - (char *)shared) >= SHARED_MOST) {
        report("LDMATRIX: not from shared memory");
        stop();
    }
    meet(&m, deal_all, line_of_text);
}

typedef struct { float *sums; const unsigned *a, *b; int bf16; } Fragments;

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Element `i` of two bf16 a register, or of one tf32. */
static float part(const unsigned *registers, int i, int bf16)
{
    return bf16 ? float_of(registers[i / 2] >> i % 2 * 16 << 16) : float_of(registers[i] & ~0x1fffu);
}

/* sums[16][8] += a[16][depth] * b[depth][8]: PTX's layouts of fragments. A lane's a has depths (lane % 4) * per and on of two rows, then
 * those 4 * per later; of both its b has the same of one column. */
static void multiply_all(Warp *w)
{
    int bf16 = ((const Fragments *)w->argument[0])->bf16, per = bf16 ? 2 : 1;
    for (int i = 0; i < WARP; i++)
        for (int s = 0; s < 4; s++) {
            int row = i / 4 + s / 2 * 8, col = i % 4 * 2 + s % 2;
            float *sum = &((const Fragments *)w->argument[i])->sums[s];
            for (int depth = 0; depth < 8 * per; depth++) {
                int lane = depth % (4 * per) / per, half = depth / (4 * per);
                const Fragments *a = w->argument[row % 8 * 4 + lane], *b = w->argument[col * 4 + lane];
                *sum += part(a->a, (half * 2 + row / 8) * per + depth % per, bf16) * part(b->b, half * per + depth % per, bf16);
            }
        }
}

void host_mma(float *sums, const unsigned *a, const unsigned *b, int bf16, int line_of_text);
void host_mma(float *sums, const unsigned *a, const unsigned *b, int bf16, int line_of_text)
{
    Fragments f = {sums, a, b, bf16};
    meet(&f, multiply_all, line_of_text);
}

/* ---- asynchronous copies ---- */
void host_copy(void *to, const void *from, int bytes, int inside), host_copy_commit(void), host_copy_wait(int groups);

void host_copy(void *to, const void *from, int bytes, int inside)
{
    Fiber *f = &h.fiber[h.current];
    size_t size = (size_t)bytes;
    check_aligned(to, size, true, HERE);
    if (inside)
        check_aligned(from, size, false, HERE);
    if ((size_t)((char *)to - (char *)shared) >= SHARED_MOST || f->n_copies == MOST_COPIES) {
        report("COPY: %s", f->n_copies == MOST_COPIES ? "too many are under way" : "not into shared memory");
        stop();
    }
    memset(to, 0xff, size);
    f->copy[f->n_copies++] = (Copy){to, from, size, inside != 0, f->group, HERE};
}

void host_copy_commit(void) { h.fiber[h.current].group++; }

/* All but the last `groups` groups arrive. */
void host_copy_wait(int groups)
{
    Fiber *f = &h.fiber[h.current];
    int kept = 0;
    for (int i = 0; i < f->n_copies; i++) {
        Copy *c = &f->copy[i];
        if (c->group >= f->group - groups) {
            f->copy[kept++] = *c;
            continue;
        }
        check(c->to, c->bytes, true, c->code);
        if (c->inside)
            memcpy(c->to, c->from, c->bytes);
        else
            memset(c->to, 0, c->bytes);
    }
    f->n_copies = kept;
}

/* ---- launches ---- */

/* Arguments of a function on x86-64: six in registers, all others side by side on the stack, where a structure goes as well. What a
 * function does not ask for it does not see. */
typedef struct { uint64_t word[26]; } Few;
typedef struct { uint64_t word[HOST_WORDS - 6]; } All;
typedef void (*WithFew)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, Few);
typedef void (*WithAll)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, All);

void host_arguments(const CnncGpuLaunch *launch, const CnncArgs *args, uint64_t words[HOST_WORDS])
{
    memset(words, 0, HOST_WORDS * sizeof *words);
    for (int32_t i = 0; i < launch->n_places; i++)
        words[i] = ((const uint64_t *)args)[launch->places[i].at] + (uint64_t)launch->places[i].offset;
    words[launch->n_places] = (uint64_t)args->n;
}

static void call_kernel(void)
{
    const uint64_t *w = h.words;
    if (h.n_words <= 6 + (int)(sizeof(Few) / sizeof *w))
        ((WithFew)h.kernel)(w[0], w[1], w[2], w[3], w[4], w[5], *(const Few *)(w + 6));
    else
        ((WithAll)h.kernel)(w[0], w[1], w[2], w[3], w[4], w[5], *(const All *)(w + 6));
}

static void thread_main(void)
{
    call_kernel();
    if (h.fiber[h.current].n_copies)
        report("COPY: %d were never waited for", h.fiber[h.current].n_copies);
    h.fiber[h.current].state = EXITED;
    h.exited++;
    pass_on();
    abort();
}

static uint32_t next_random(void) { return h.random = h.random * 1664525u + 1013904223u; }

static void set_order(HostOrder order)
{
    for (int i = 0; i < h.n; i++)
        h.order[i] = order == HOST_DESCENDING ? h.n - 1 - i : i;
    for (int i = h.n - 1; i > 0 && order == HOST_RANDOM; i--) {
        int j = (int)(next_random() >> 8) % (i + 1), t = h.order[i];
        h.order[i] = h.order[j];
        h.order[j] = t;
    }
    for (int i = 0; i < h.n; i++)
        h.rank[h.order[i]] = i;
}

static void run_block(HostOrder order)
{
    memset(shared, 0xff, h.shared_bytes);
    h.waiting = h.exited = 0;
    h.stopped = false;
    h.block_began = ++h.now;
    memset(h.warp, 0, sizeof h.warp);
    set_order(order);
    for (int i = 0; i < h.n; i++) {
        void **top = (void **)(h.stacks + (size_t)STACK * (size_t)(i + 1)) - 2;   /* as after a call: 8 bytes off 16 */
        *top = (void *)thread_main;
        h.fiber[i].stack_pointer = top - 6;
        h.fiber[i].state = READY;
        h.fiber[i].line = h.fiber[i].n_copies = h.fiber[i].group = 0;
    }
    go_to(h.order[0]);
    h.now++;
}

int host_launch(HostKernel kernel, const uint64_t *words, const CnncGpuLaunch *launch, const HostRun *run)
{
    reserve_all();
    int before = h.errors, number = 0;
    h.kernel = kernel;
    h.words = words;
    for (h.n_words = HOST_WORDS; h.n_words > 0 && !words[h.n_words - 1];)
        h.n_words--;
    h.n = launch->block;
    h.shared_bytes = (size_t)launch->shared_bytes;
    h.random = 1;
    blockDim = (HostIndex){launch->block, 1, 1};
    gridDim = (HostIndex){launch->grid[0], launch->grid[1], launch->grid[2]};
    threadIdx = (HostIndex){0, 0, 0};
    if (h.n > MOST_THREADS || h.n % WARP || launch->shared_bytes > SHARED_MOST) {
        report("a launch of %d threads and %d bytes of shared memory", h.n, launch->shared_bytes);
        return h.errors - before;
    }
    h.launch_began = ++h.now;
    for (int z = 0; z < gridDim.z; z++)
        for (int y = 0; y < gridDim.y; y++)
            for (int x = 0; x < gridDim.x; x++, number++) {
                if (run->every > 1 && number % run->every)
                    continue;
                blockIdx = (HostIndex){x, y, z};
                run_block(run->order);
            }
    h.now++;
    return h.errors - before;
}
