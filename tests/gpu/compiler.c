/* A stand-in for NVRTC: the text, compiled by the C compiler with tests/gpu/host.h in front, as a shared library that the stand-in
 * driver (driver.c) loads. It tells of each kernel what its arguments are, which the driver has to know. */
#include "tests/gpu/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Source { char *text, *log; size_t log_size; char *image; size_t image_size; } Source;

API int nvrtcVersion(int *major, int *minor) { return *major = 0, *minor = 1, 0; }
API int nvrtcGetNumSupportedArchs(int *n) { return *n = 3, 0; }
API int nvrtcGetSupportedArchs(int *sm) { return sm[0] = 80, sm[1] = 90, sm[2] = 100, 0; }

API int nvrtcCreateProgram(Source **p, const char *text, const char *name, int n, const char *const *headers, const char *const *names)
{
    (void)name, (void)headers, (void)names;
    *p = calloc(1, sizeof **p);
    if (*p)
        (*p)->text = strdup(text);
    return n != 0 || !*p || !(*p)->text;
}

API int nvrtcDestroyProgram(Source **p)
{
    free((*p)->text);
    free((*p)->log);
    free((*p)->image);
    free(*p);
    *p = NULL;
    return 0;
}

static char *read_all(const char *path, size_t *n, size_t before)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = calloc(before + *n + 1, 1);
    if (bytes && fread(bytes + before, 1, *n, f) != *n)
        *n = 0;
    fclose(f);
    return bytes;
}

/* The next kernel's name, from `at` on; *open: the parenthesis behind it. */
static const char *next_kernel(const char *at, const char **open)
{
    at = strstr(at, "__global__ void");
    if (!at)
        return NULL;
    *open = strchr(strstr(at, ")") + 1, '(');   /* behind __launch_bounds__(...) */
    const char *name = *open;
    while (name[-1] != ' ')
        name--;
    return name;
}

/* ptxas's words for each kernel, with numbers that are nobody's. */
static void write_uses(const char *text, FILE *to)
{
    for (const char *open = text, *name; (name = next_kernel(open, &open));)
        fprintf(to, "ptxas info    : Compiling entry function '%.*s' for 'sm_%d'\nptxas info    : Function properties for %.*s\n"
                    "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 32 registers, used 0 barriers\n",
                (int)(open - name), name, FAKE_SM, (int)(open - name), name);
}

/* How many bytes each argument of each kernel has: const char NAME_arguments[] = "8884". */
static void write_arguments(const char *text, FILE *to)
{
    for (const char *open = text, *name; (name = next_kernel(open, &open));) {
        fprintf(to, "\nconst char %.*s_arguments[] = \"", (int)(open - name), name);
        int size = 4;
        for (const char *p = open + 1; *p; p++) {
            if (*p == '/')
                p += strcspn(p, "\n");
            if (*p == '*' || !strncmp(p, "long long", 9))
                size = 8;
            if (*p == ',' || *p == ')') {
                fputc('0' + size, to);
                size = 4;
            }
            if (*p == ')')
                break;
        }
        fputs("\";\n", to);
    }
}

API int nvrtcCompileProgram(Source *p, int n, const char *const *options)
{
    (void)n, (void)options;
    char dir[] = "/tmp/cnnc-nvrtc.XXXXXX", command[1024], path[64];
    Dl_info self;   /* the kernels call back into this library */
    if (!mkdtemp(dir) || !dladdr((void *)(uintptr_t)nvrtcCompileProgram, &self))
        return 6;
    snprintf(path, sizeof path, "%s/cnnc.c", dir);
    FILE *f = fopen(path, "w");
    if (!f || fputs(p->text, f) < 0)
        return 6;
    write_arguments(p->text, f);
    if (fclose(f) != 0)
        return 6;
    snprintf(command, sizeof command, "cd %s && ${CC:-cc} -std=gnu11 -O1 -g0 -w -fPIC -shared -include %s cnnc.c %s -o cnnc.so -lm >log 2>&1",
             dir, HOST_HEADER, self.dli_fname);
    int status = system(command);
    snprintf(path, sizeof path, "%s/log", dir);
    if (status == 0 && (f = fopen(path, "a"))) {
        write_uses(p->text, f);
        fclose(f);
    }
    p->log = read_all(path, &p->log_size, 0);
    snprintf(path, sizeof path, "%s/cnnc.so", dir);
    ImageHead head = {.size = 0};
    memcpy(head.magic, IMAGE_MAGIC, sizeof head.magic);
    p->image = read_all(path, &p->image_size, sizeof head);
    if (p->image) {
        head.size = p->image_size;
        memcpy(p->image, &head, sizeof head);
        p->image_size += sizeof head;
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) != 0 || status != 0 || !p->image ? 6 : 0;
}

API int nvrtcGetProgramLogSize(const Source *p, size_t *n) { return *n = p->log_size + 1, 0; }

API int nvrtcGetProgramLog(const Source *p, char *log)
{
    memcpy(log, p->log ? p->log : "", p->log_size + 1);
    return 0;
}

API int nvrtcGetCUBINSize(const Source *p, size_t *n) { return *n = p->image_size, 0; }
API int nvrtcGetCUBIN(const Source *p, char *cubin) { return memcpy(cubin, p->image, p->image_size), 0; }
API int nvrtcGetPTXSize(const Source *p, size_t *n) { return *n = p->image_size, 0; }
API int nvrtcGetPTX(const Source *p, char *ptx) { return memcpy(ptx, p->image, p->image_size), 0; }
