/* Reads the cases that tests/torch/random_nets.py makes: arrays (.npy), weights (.safetensors) and facts (case.json), all as
 * doubles in an arena. Header-only. A file that is not as expected stops the test. */
#ifndef CNNC_TESTS_RANDOM_NETS_H
#define CNNC_TESTS_RANDOM_NETS_H
#include "ir/ref/ref.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *data;
    size_t size;
} NetFile;

static inline _Noreturn void net_file_die(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    abort();
}

static inline NetFile net_file_read(Arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        net_file_die(path, "cannot be opened");
    fseek(f, 0, SEEK_END);
    NetFile r = {NULL, (size_t)ftell(f)};
    rewind(f);
    r.data = NEWN(a, char, r.size + 1);
    if (fread(r.data, 1, r.size, f) != r.size)
        net_file_die(path, "cannot be read");
    fclose(f);
    return r;
}

/* n numbers of a little-endian type: "<f4", "F32" ... */
static inline double *net_numbers(Arena *a, const char *path, const char *type, const char *from, int64_t n)
{
    double *to = NEWN(a, double, n + 1);
    for (int64_t i = 0; i < n; i++) {
        float f4;
        double f8;
        int64_t i8;
        if (strstr(type, "f4") || strstr(type, "F32"))
            to[i] = (memcpy(&f4, from + i * 4, 4), (double)f4);
        else if (strstr(type, "f8") || strstr(type, "F64"))
            to[i] = (memcpy(&f8, from + i * 8, 8), f8);
        else if (strstr(type, "i8") || strstr(type, "I64"))
            to[i] = (memcpy(&i8, from + i * 8, 8), (double)i8);
        else
            net_file_die(path, "an element type this test does not read");
    }
    return to;
}

static inline RefTensor net_read_npy(Arena *a, const char *path)
{
    NetFile f = net_file_read(a, path);
    size_t header = 10 + (size_t)(unsigned char)f.data[8] + 256 * (size_t)(unsigned char)f.data[9];
    char *text = arena_strndup(a, f.data + 10, header - 10), *type = strstr(text, "'descr': '") + 10;
    RefTensor t = {.shape = {0}};
    for (char *s = strstr(text, "'shape': (") + 10; *s && *s != ')';) {
        char *end;
        long long v = strtoll(s, &end, 10);
        if (end != s)
            t.shape.dim[t.shape.rank++] = v;
        s = end == s ? s + 1 : end;
    }
    type[strcspn(type, "'")] = 0;
    t.data = net_numbers(a, path, type, f.data + header, shape_elements(&t.shape));
    return t;
}

static inline RefNamed *net_read_safetensors(Arena *a, const char *path, int32_t *n)
{
    NetFile f = net_file_read(a, path);
    uint64_t size;
    memcpy(&size, f.data, 8);
    cJSON *all = cJSON_ParseWithLength(f.data + 8, size), *item;
    RefNamed *list = NEWN(a, RefNamed, cJSON_GetArraySize(all) + 1);
    *n = 0;
    cJSON_ArrayForEach(item, all)
    {
        if (strcmp(item->string, "__metadata__") == 0)
            continue;
        int64_t count = 1;
        cJSON *dim;
        cJSON_ArrayForEach(dim, cJSON_GetObjectItem(item, "shape")) count *= (int64_t)dim->valuedouble;
        size_t begin = (size_t)cJSON_GetArrayItem(cJSON_GetObjectItem(item, "data_offsets"), 0)->valuedouble;
        const char *type = cJSON_GetObjectItem(item, "dtype")->valuestring;
        list[(*n)++] =
            (RefNamed){arena_strdup(a, item->string), net_numbers(a, path, type, f.data + 8 + size + begin, count), count, NULL};
    }
    cJSON_Delete(all);
    return list;
}
#endif
